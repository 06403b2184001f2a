"""The config's way through the stages gives what `register` gives, one case or several."""

import json

import pytest
import torch
from inference import ORACLE, workflow, write_scan
from oracle import pair, quick, use_oracle, worst_mm
from scripts.apps.cohort import Cohort
from scripts.apps.postprocess import CopyVolumed, LoadCased, WriteOutputs, collate_case
from scripts.core.errors import InputError, input_error
from scripts.registration.register import register
from scripts.report.files import on_fixed_grid
from scripts.report.page.figures import Pictures


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A pair on disk, and two of its points."""
    folder = tmp_path_factory.mktemp("pair")
    for name, volume in zip(("fixed", "moving"), pair("LPS", "oblique"), strict=True):
        write_scan(folder / f"{name}.nii.gz", volume)
    (folder / "points.csv").write_text("label,x,y,z\na,8,-6,10\nb,0,0,3000\n")
    return folder


@pytest.fixture
def network(monkeypatch):
    monkeypatch.setattr("scripts.report.write.draw_pictures", lambda _: Pictures([], False))
    return use_oracle(monkeypatch)


def test_a_case_is_loaded_once(files):
    loaded = LoadCased()({"fixed": str(files / "fixed.nii.gz"), "moving": str(files / "moving.nii.gz"), "queries": None})
    assert sorted(loaded) == ["fixed", "moving", "watch"]
    assert loaded["watch"].seconds.keys() == {"load"}
    kept = CopyVolumed(["fixed", "moving"])(loaded)
    assert kept["fixed_native"] is loaded["fixed"]
    queries = LoadCased()({**loaded, "queries": str(files / "points.csv")})["queries"]
    assert queries[0] == ["a", "b"]
    with pytest.raises(InputError, match="^queries_in: expected one of fixed, moving, found 'both'"):
        LoadCased()({**loaded, "queries_in": "both"})


def test_one_case_a_batch():
    item = {"image": torch.zeros(2, 3, 4, 5), "name": "a", "fixed": "anything"}
    batch = collate_case([item])
    assert batch["image"].shape == (1, 2, 3, 4, 5)
    assert batch["name"] == "a"
    with pytest.raises(ValueError, match="batch of one, found 2"):
        collate_case([item, item])


def test_programmatic_use(files, network, tmp_path):
    """create_workflow, dataset_data, initialize, evaluator.run(): the outputs, and the transform of `register`."""
    made = workflow(output_dir=tmp_path / "out", **ORACLE)
    made.dataset_data = [{"fixed": str(files / "fixed.nii.gz"), "moving": str(files / "moving.nii.gz")}]
    made.initialize()
    made.evaluator.run()
    output = made.evaluator.state.output
    result = output["registration"]
    assert worst_mm(result.fixed_to_moving) < 2.0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["fixed_to_moving_ras"] == result.fixed_to_moving.matrix.tolist()
    assert output["result"]["matches"] == report["matches"] == len(result.matches)
    # What MONAI Label shows: the moving scan on the fixed one's own grid.
    warped = on_fixed_grid(result.moving, result.fixed, result.fixed_to_moving)
    assert output["pred"].shape == result.fixed.shape
    assert torch.equal(output["pred"].as_tensor()[0], warped)
    torch.testing.assert_close(output["pred"].affine, result.fixed.affine)
    options = quick(compare_points=40_000)
    again = register(files / "fixed.nii.gz", files / "moving.nii.gz", network=network, options=options)
    torch.testing.assert_close(again.fixed_to_moving.matrix, result.fixed_to_moving.matrix, atol=1e-9, rtol=0)
    assert torch.equal(again.matches.fixed_mm, result.matches.fixed_mm)


def test_several_cases_do_not_overwrite_each_other(files, network, tmp_path):
    case = {"fixed": str(files / "fixed.nii.gz"), "moving": str(files / "moving.nii.gz")}
    made = workflow(output_dir=tmp_path, refine=False, **ORACLE)
    made.dataset_data = [{**case, "name": "first"}, case]
    made.initialize()
    made.evaluator.run()
    assert sorted(path.parent.name for path in tmp_path.rglob("report.json")) == ["case_0001", "first"]


def test_a_bad_case_travels_through_with_its_mistake(files, network, tmp_path):
    case = {"fixed": str(files / "fixed.nii.gz"), "moving": str(files / "moving.nii.gz")}
    made = workflow(output_dir=tmp_path, refine=False, **ORACLE)
    made.dataset_data = [{**case, "moving": "none.nii.gz"}, {**case, "landmarks": 5}, case]
    made.initialize()
    made.evaluator.run()
    assert [path.parent.name for path in tmp_path.rglob("report.json")] == ["case_0002"]
    records = made.parser.get_parsed_content("cohort").result()
    assert [record["status"] for record in records] == ["failed", "failed", "done"]
    assert records[0]["message"].startswith("none.nii.gz: expected an image file or a DICOM folder, found no such file")
    item = made.dataset[0]
    assert isinstance(input_error(item["mistake"]), InputError) and "image" not in item


def test_options_are_checked(tmp_path):
    with pytest.raises(InputError, match="^anonymous: expected true or false, found 'perhaps'"):
        Cohort([], tmp_path, {}, "perhaps")
    with pytest.raises(InputError, match="^output_dir: expected a path, found 2024"):
        Cohort([], 2024, {})
    with pytest.raises(InputError, match="^report_dicom: expected true or false, found 1"):
        WriteOutputs(None, 1)
