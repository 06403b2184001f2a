"""Cohorts: every case once, a bad one stops nobody, and nothing tells whose scans they were."""

import csv
import json
import logging

import pytest
from inference import ORACLE, contents, infer, write_scan
from oracle import pair, use_oracle
from scripts.apps.cases import case_name, list_cases
from scripts.core.errors import InputError, input_error
from scripts.report.page.figures import Pictures
from scripts.report.write import OUTPUT_NAMES

PATIENT = "doe_jane"
WRITTEN = {
    "fixed_to_moving.tfm",
    "moving_on_fixed.nii.gz",
    "moving_realigned.nii.gz",
    "matches.csv",
    "report.html",
    "report.json",
}


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """A folder with a patient's pair, a damaged file, and a list of three cases of which the first is bad."""
    folder = tmp_path_factory.mktemp("ward") / PATIENT
    folder.mkdir()
    for name, volume in zip(("plan", "bt"), pair(), strict=True):
        write_scan(folder / f"{PATIENT}_{name}.nii.gz", volume)
    good = {"fixed": f"{PATIENT}_plan.nii.gz", "moving": f"{PATIENT}_bt.nii.gz"}
    whole = (folder / good["moving"]).read_bytes()
    (folder / f"{PATIENT}_cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    bad = {**good, "name": f"{PATIENT}_cut", "moving": f"{PATIENT}_cut.nii.gz"}
    (folder / "cases.json").write_text(json.dumps([bad, {**good, "name": f"{PATIENT}_a"}, good]))
    return folder


@pytest.fixture(autouse=True)
def quick_run(monkeypatch):
    """An oracle in the place of the matcher, and no pictures."""
    monkeypatch.setattr("scripts.report.write.draw_pictures", lambda _: Pictures([], False))
    use_oracle(monkeypatch)


def summary(folder):
    with (folder / "summary.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def times(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}


def test_a_cohort(ward, tmp_path):
    out = tmp_path / "new" / "out"
    ended = infer(datalist=ward / "cases.json", output_dir=out, refine=False, **ORACLE)
    assert ended.status == 1
    assert ended.line.startswith(f"{PATIENT}_cut: {ward}/{PATIENT}_cut.nii.gz: expected a readable image, found a damaged")
    assert "Traceback" not in ended.stderr
    rows = summary(out)
    assert [row["name"] for row in rows] == [f"{PATIENT}_cut", f"{PATIENT}_a", "case_0002"]
    assert [row["status"] for row in rows] == ["failed", "done", "done"]
    assert "expected a readable image" in rows[0]["message"]
    assert all(float(row["seconds"]) > 0 and int(row["inliers"]) > 0 for row in rows[1:])
    assert sorted(path.name for path in out.iterdir()) == sorted(["index.html", "summary.csv", f"{PATIENT}_a", "case_0002"])
    assert {path.name for path in (out / "case_0002").iterdir()} == WRITTEN
    # Again: nothing is redone. The time of every file of a case stays.
    before = times(out)
    again = infer(datalist=ward / "cases.json", output_dir=out, refine="FALSE", **ORACLE)
    assert again.status == 1
    assert [row["status"] for row in summary(out)] == ["failed", "already done", "already done"]
    assert {k: v for k, v in times(out).items() if "/" in k} == {k: v for k, v in before.items() if "/" in k}
    # Another option: all is redone, and what a killed process has left behind is gone.
    (out / "case_0002" / ".unfinished-x").mkdir()
    (out / "case_0002" / ".unfinished-x" / "report.html").write_text("half a page")
    (out / ".records").mkdir()
    (out / ".records" / "x.json").write_text('{"run": ""}')
    other = infer(datalist=ward / "cases.json", output_dir=out, transform="translation", **ORACLE)
    assert other.status == 1
    assert [row["status"] for row in summary(out)] == ["failed", "done", "done"]
    assert json.loads((out / "case_0002" / "report.json").read_text())["rotation_deg"] == [0, 0, 0]
    assert [str(path) for path in out.rglob(".*")] == []
    later = times(out)
    assert all(later[name] > before[name] for name in before if name.endswith("report.json"))


@pytest.mark.parametrize("anonymous", [False, True])
def test_a_case_that_is_no_pair_stops_nobody(ward, tmp_path, anonymous):
    """One without a moving scan, one of nothing, one with a number for a file, and a good one; no name if none is wanted."""
    good = {"fixed": str(ward / f"{PATIENT}_plan.nii.gz"), "moving": str(ward / f"{PATIENT}_bt.nii.gz")}
    bad = {"name": PATIENT, "fixed": f"{PATIENT}_plan.nii.gz"}
    (tmp_path / "cases.json").write_text(json.dumps([bad, None, {**good, "landmarks": 5}, {**good, "name": "good"}]))
    run = {"datalist": tmp_path / "cases.json", "output_dir": tmp_path / "out", "refine": False, **ORACLE}
    ended = infer(**run, anonymous=anonymous)
    rows = summary(tmp_path / "out")
    assert (ended.status, "Traceback" in ended.stderr) == (1, False)
    assert [row["status"] for row in rows] == ["failed", "failed", "failed", "done"]
    assert 'expected a path under "moving" in test[0], found ' in rows[0]["message"]
    assert 'expected a path under "fixed" in test[1], found ' in rows[1]["message"]
    assert rows[2]["message"].startswith("landmarks: expected a path, found 5; ")
    assert rows[0]["name"] == ("case_0000" if anonymous else PATIENT)
    told = [ended.stderr, *(data.decode("latin-1") for data in contents(tmp_path / "out").values())]
    assert any(PATIENT in text for text in told) is not anonymous


def test_another_file_is_another_case(ward, tmp_path):
    """What counts is what is in the files, not what they are called."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("plan", "bt"):
        (folder / f"{name}.nii.gz").write_bytes((ward / f"{PATIENT}_{name}.nii.gz").read_bytes())
    (folder / "cases.json").write_text(json.dumps({"test": [{"fixed": "plan.nii.gz", "moving": "bt.nii.gz"}]}))
    run = {"datalist": folder / "cases.json", "output_dir": tmp_path / "out", "refine": False, **ORACLE}
    assert infer(**run).status == 0
    (folder / "bt.nii.gz").rename(folder / "same.nii.gz")
    (folder / "cases.json").write_text(json.dumps([{"fixed": "plan.nii.gz", "moving": "same.nii.gz"}]))
    assert infer(**run).status == 0
    assert summary(tmp_path / "out")[0]["status"] == "already done"
    write_scan(folder / "same.nii.gz", pair(small="fixed")[1])
    assert infer(**run).status == 0
    assert summary(tmp_path / "out")[0]["status"] == "done"
    assert infer(**run, strict=True).status in (0, 3)  # the verdict of a finished case counts too
    accepted = summary(tmp_path / "out")[0]["accepted"]
    assert infer(**run, strict="TRUE").status == (0 if accepted == "True" else 3)


def test_anonymous_cohort(ward, tmp_path, caplog):
    """No name of a patient, a file or a folder in any output, on the screen or in a log; a case is its number."""
    with caplog.at_level(logging.DEBUG):
        ended = infer(datalist=ward / "cases.json", output_dir=tmp_path / "o", anonymous="True", refine=False, **ORACLE)
    assert ended.status == 1
    out = contents(tmp_path / "o")
    assert {name for name in out if name.endswith("report.json")} == {"case_0001/report.json", "case_0002/report.json"}
    # MONAI's own summary of the options is silenced by the logging.conf of the command line.
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("monai.bundle")]
    texts = [ended.stderr, *ours, *out, *(data.decode("latin-1") for data in out.values())]
    for word in (PATIENT, "jane", str(ward), str(tmp_path), "plan.nii", "bt.nii", "cases.json"):
        assert not [text[:200] for text in texts if word in text], word
    assert ended.line.startswith("case_0000: moving: expected a readable image, found a damaged or truncated file")
    report = json.loads((tmp_path / "o" / "case_0001" / "report.json").read_text())
    assert [report["inputs"][role]["name"] for role in ("fixed", "moving")] == ["fixed", "moving"]


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_an_earlier_result_never_stands_for_this_one(ward, tmp_path):
    """It moves to ``previous`` before a case is computed, whatever becomes of that one; other files stay."""
    scans = {"fixed": ward / f"{PATIENT}_plan.nii.gz", "moving": ward / f"{PATIENT}_bt.nii.gz"}
    run = {"output_dir": tmp_path, "refine": False, **ORACLE}
    (tmp_path / "points.csv").write_text("label,x,y,z\na,8,-6,10\n")
    (tmp_path / "mine.txt").write_text("not an output")
    kept, asked = {"points.csv", "mine.txt"}, {"queries_answered.csv", "queries_answered.mrk.json"}
    assert infer(**scans, **run, queries=tmp_path / "points.csv").status == 0
    assert names(tmp_path) == WRITTEN | kept | asked
    (tmp_path / "registration.dcm").write_text("an object of the earlier run")
    first = (tmp_path / "report.json").read_bytes()
    assert infer(**{**scans, "moving": ward / f"{PATIENT}_cut.nii.gz"}, **run).status == 1
    assert names(tmp_path) == kept | {"previous"}
    assert names(tmp_path / "previous") == WRITTEN | asked | {"registration.dcm"}
    assert (tmp_path / "previous" / "report.json").read_bytes() == first
    assert infer(**scans, **run).status == 0
    assert names(tmp_path) == WRITTEN | kept | {"previous"}
    assert (tmp_path / "previous" / "report.json").read_bytes() == first
    assert infer(**scans, **run, transform="translation").status == 0
    assert names(tmp_path / "previous") == WRITTEN  # in the place of what it held
    assert infer(**scans, **run, anonymous=True).status == 0
    assert names(tmp_path) == WRITTEN | kept  # with anonymous, nothing of an earlier run stays
    assert set(OUTPUT_NAMES) >= WRITTEN | asked


def test_an_input_among_the_results_is_refused(ward, tmp_path):
    """Nothing is moved; a link or another case's folder does not help."""
    scans = {"fixed": ward / f"{PATIENT}_plan.nii.gz", "moving": ward / f"{PATIENT}_bt.nii.gz"}
    earlier = tmp_path / "a" / "moving_on_fixed.nii.gz"
    earlier.parent.mkdir()
    earlier.write_bytes(scans["moving"].read_bytes())
    (tmp_path / "link.nii.gz").symlink_to(earlier)
    for moving in (earlier, tmp_path / "a" / ".." / "a" / earlier.name, tmp_path / "link.nii.gz"):
        ended = infer(fixed=scans["fixed"], moving=moving, output_dir=tmp_path / "a", **ORACLE)
        assert ended.status == 1
        assert ended.line.startswith(f"{moving}: expected an input outside the folder of the results, found one that an")
        assert names(earlier.parent) == {earlier.name}
    cases = [{"name": "b", "fixed": str(scans["fixed"]), "moving": str(earlier)}]
    cases += [{"name": "a", **{role: str(file) for role, file in scans.items()}}]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    assert infer(datalist=tmp_path / "cases.json", output_dir=tmp_path, refine=False, **ORACLE).status == 1
    assert [row["status"] for row in summary(tmp_path)] == ["failed", "done"]


# the parts


def test_a_single_case_and_none():
    assert list_cases(fixed="a", moving="b", queries=None, queries_in="moving") == [
        {"fixed": "a", "moving": "b", "queries_in": "moving"}
    ]
    assert list_cases(queries_in="fixed") == []


def test_listed_cases(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"test": [{"fixed": "a.nii", "moving": "/b.nii", "name": 7}, {"fixed": "c", "moving": "d"}]}))
    first, second = list_cases(str(path), landmarks="l.csv")
    assert first == {
        "fixed": str(tmp_path / "a.nii"), "moving": "/b.nii", "name": "7", "folder": "7", "landmarks": "l.csv"
    }  # fmt: skip
    assert second["folder"] == second["name"] == "case_0001"
    assert [case["name"] for case in list_cases(str(path), anonymous=True)] == ["case_0000", "case_0001"]
    assert list_cases(str(path), str(tmp_path / "x"))[0]["fixed"] == str(tmp_path / "x" / "a.nii")


@pytest.mark.parametrize(
    "names", [
        ["a", "a"], ["../a"], ["a/b"], [""], ["."], ["case_0001", None], ["summary.csv"], ["Index.html"], ["previous"],
        [".records"], ["a" * 256], ["a\0b"], ["\udce9"],
    ],
)  # fmt: skip
def test_names_must_be_folders_of_their_own(tmp_path, names):
    path = tmp_path / "list.json"
    path.write_text(json.dumps([{"fixed": "a", "moving": "b"} | ({} if n is None else {"name": n}) for n in names]))
    with pytest.raises(InputError, match="expected a different name for each case, usable as a folder"):
        list_cases(str(path))


@pytest.mark.parametrize(
    ("options", "subject"),
    [
        ({"fixed": 2024}, "fixed"),
        ({"landmarks": ["a.csv", 3]}, "landmarks"),
        ({"datalist": 5}, "datalist"),
        ({"queries_in": "both"}, "queries_in"),
        ({"anonymous": "perhaps"}, "anonymous"),
    ],
)
def test_values_are_checked_first(options, subject):
    with pytest.raises(InputError, match=f"^{subject}: expected "):
        list_cases(**options)


@pytest.mark.parametrize("key", ["fixed", "moving", "fixed_series", "moving_series"])
def test_one_pair_and_a_datalist_are_too_much(tmp_path, key):
    with pytest.raises(InputError, match=f"^{key}: expected one pair, found a datalist besides; give each case"):
        list_cases(str(tmp_path / "list.json"), **{key: "1.2.3"})


def test_an_empty_list(tmp_path):
    (tmp_path / "list.json").write_text('{"test": []}')
    with pytest.raises(InputError, match="expected at least one case under 'test', found none"):
        list_cases(str(tmp_path / "list.json"))


def test_names_of_cases():
    assert case_name({"name": "x"}, 3) == "x"
    assert case_name({}, 3) == case_name({"name": "x"}, 3, anonymous=True) == "case_0003"


def test_the_mistake_behind_an_error():
    mistake = InputError("a", "b", "c", "d")
    middle, outer = RuntimeError(), RuntimeError()
    middle.__cause__, outer.__cause__ = mistake, middle
    assert input_error(outer) is mistake
    assert input_error(RuntimeError()) is None
    assert input_error(None) is None
