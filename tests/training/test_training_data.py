"""Where items come from, and how they are shared out."""

import json

import pytest
import torch
from scripts.core.errors import InputError
from scripts.training.items import balanced_weights, evaluation_items, training_items
from tiny import datalist, hu, save, volumes


def test_each_group_counts_the_same():
    items = [{"group": name} for name in ("a", "a", "a", "b")]
    weights = balanced_weights(items)
    assert weights.tolist() == [1 / 3, 1 / 3, 1 / 3, 1.0]
    assert float(weights[:3].sum()) == pytest.approx(float(weights[3]))


def test_without_a_source_there_is_the_phantom():
    items = training_items()
    seeds = {item["phantom"] for item in items["training"]}
    assert len(seeds) == 36
    assert {item["phantom"] for item in items["validation"]} == {36, 37, 38, 39}
    assert sorted(item["draw"] for item in items["validation"]) == [0, 1, 1000, 1001, 2000, 2001, 3000, 3001]


def test_a_tenth_of_each_folder_is_kept_for_validation(tmp_path):
    volumes(tmp_path / "a", 6)
    volumes(tmp_path / "b", 2)
    items = training_items(volumes=str(tmp_path))
    assert [item["volume"].rsplit("/", 2)[1:] for item in items["validation"]] == [["a", "5.nii.gz"]] * 2
    assert len(items["training"]) == 5 + 2
    assert len({item["group"] for item in items["training"]}) == 2
    trained = {item["volume"] for item in items["training"]}
    assert trained.isdisjoint(item["volume"] for item in items["validation"])


def test_a_folder_a_patient_is_one_group(tmp_path):
    for patient in range(20):
        save(hu(0, (8, 8, 8)), tmp_path / f"p{patient:02d}" / "ct.nii.gz")
    items = training_items(volumes=str(tmp_path))
    assert {item["volume"].split("/")[-2] for item in items["validation"]} == {"p18", "p19"}
    assert len(items["training"]) == 18
    assert {item["group"] for item in items["training"]} == {str(tmp_path)}


def test_of_few_volumes_one_is_kept(tmp_path):
    items = training_items(volumes=volumes(tmp_path, 3))
    assert [item["volume"][-8:] for item in items["training"]] == ["0.nii.gz", "1.nii.gz"]
    assert {item["volume"][-8:] for item in items["validation"]} == {"2.nii.gz"}


def test_label_maps_are_painted_three_times_each(tmp_path):
    for patient in ("p1", "p2"):
        for kind in ("label", "mask"):
            save(hu(0, (8, 8, 8)), tmp_path / f"{patient}_{kind}.nii.gz")
    items = training_items(label_maps=str(tmp_path))
    everything = items["training"] + items["validation"]
    assert sorted({item["seed"] for item in everything}) == [0, 1, 2, 3, 4, 5]
    assert {item["mask"] for item in everything} == {str(tmp_path / f"{patient}_mask.nii.gz") for patient in ("p1", "p2")}


@pytest.mark.parametrize(("patients", "kept"), [(2, {"p1"}), (4, {"p3"}), (12, {"p8", "p9"})])
def test_paintings_of_one_patient_stay_together(tmp_path, patients, kept):
    """Of twelve 15 % are kept, which is two, the last by name; of few the last one."""
    for patient in range(patients):
        for kind in ("label", "mask"):
            save(hu(0, (8, 8, 8)), tmp_path / f"p{patient}_{kind}.nii.gz")
    items = training_items(label_maps=str(tmp_path), validation_fraction=0.15)
    sections = [{item["labels"].split("/")[-1].split("_")[0] for item in items[s]} for s in ("training", "validation")]
    assert sections[1] == kept
    assert len(sections[0]) == patients - len(kept)
    assert len(items["validation"]) == 3 * 2 * len(kept)


def test_a_datalist_gives_its_sections(tmp_path):
    items = training_items(datalist=datalist(tmp_path))
    assert [len(items[section]) for section in ("training", "validation", "test")] == [1, 1, 1]
    assert items["training"][0]["fixed"] == str(tmp_path / "fixed0.nii.gz")
    assert items["training"][0]["group"] == "pairs"


def test_evaluation_takes_the_test_section_then_validation_then_draws(tmp_path):
    file = datalist(tmp_path)
    assert [case["fixed"][-14:] for case in evaluation_items(file)] == ["/fixed2.nii.gz"]
    sections = json.loads((tmp_path / "pairs.json").read_text())
    (tmp_path / "bare.json").write_text(json.dumps(sections["test"]))
    assert evaluation_items(str(tmp_path / "bare.json")) == evaluation_items(file)
    del sections["test"]
    (tmp_path / "two.json").write_text(json.dumps(sections))
    assert [case["fixed"][-14:] for case in evaluation_items(str(tmp_path / "two.json"))] == ["/fixed1.nii.gz"]
    assert evaluation_items(phantoms=20) == training_items(phantoms=20)["validation"]


def test_pairs_without_landmarks_are_refused(tmp_path):
    file = datalist(tmp_path)
    sections = json.loads((tmp_path / "pairs.json").read_text())
    for section, read in (("validation", training_items), ("test", evaluation_items)):
        without = {name: [dict(case) for case in cases] for name, cases in sections.items()}
        del without[section][0]["landmarks"]
        (tmp_path / "pairs.json").write_text(json.dumps(without))
        with pytest.raises(InputError, match=rf"pairs.json: expected landmarks with {section}\[0\], found none"):
            read(datalist=file)


def test_empty_sources_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected a folder of CT volumes"):
        training_items(volumes=str(tmp_path))
    (tmp_path / "pairs.json").write_text(json.dumps({"training": [], "validation": []}))
    with pytest.raises(InputError, match="expected training items, found none"):
        training_items(datalist=str(tmp_path / "pairs.json"))
    with pytest.raises(InputError, match="expected pairs under 'test' or 'validation', found none"):
        evaluation_items(datalist=str(tmp_path / "pairs.json"))
    with pytest.raises(InputError, match="no such file"):
        training_items(datalist=str(tmp_path / "missing.json"))


def test_weights_draw_groups_evenly():
    items = [{"group": "many"}] * 30 + [{"group": "one"}]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(balanced_weights(items), 2000, replacement=True, generator=generator)
    assert float((drawn == 30).double().mean()) == pytest.approx(0.5, abs=0.04)


def test_a_group_counts_as_often_as_it_is_told():
    """Ten pairs and two folders of one and four CTs: four parts of six, one of six, one of six."""
    items = [{"group": "pairs"}] * 10 + [{"group": "one"}] + [{"group": "four"}] * 4
    weights = balanced_weights(items, {"pairs": 4})
    assert torch.allclose(weights[:10].sum() / weights.sum(), torch.tensor(4 / 6, dtype=torch.float64))
    assert float(weights[10]) == float(weights[11:].sum()) == 1.0
