"""Landmark files: every format to the same RAS points, written as 3D Slicer reads them, and clear refusals."""

import io
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from scripts.core.errors import InputError
from scripts.images.landmarks import PairedLandmarks, read_datalist, read_landmarks, read_points, write_markups
from scripts.images.volumes import load_volume, to_orientation_ras
from scripts.registration.register import load_case

LABELS = ["left ASIS", "promontory"]
RAS = [[-11.0, 22.0, 33.5], [4.0, -5.0, -600.25]]
LPS = [[11.0, -22.0, 33.5], [-4.0, 5.0, -600.25]]


def markups(points, system, **extra):
    control = [{"label": label, "position": p, **extra} for label, p in zip(LABELS, points, strict=True)]
    markup = {"type": "Fiducial", "coordinateSystem": system, "coordinateUnits": "mm", "controlPoints": control}
    return json.dumps({"@schema": "markups", "markups": [markup]})


def fcsv(points, system):
    rows = [
        f"vtkMRMLMarkupsFiducialNode_{i},{p[0]},{p[1]},{p[2]},0,0,0,1,1,1,0,{label},,"
        for i, (label, p) in enumerate(zip(LABELS, points, strict=True))
    ]
    head = [
        "# Markups fiducial file version = 4.11",
        f"# CoordinateSystem = {system}",
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID",
    ]
    return "\n".join(head + rows) + "\n"


def table(points, labels=LABELS):
    rows = [f'"{label}",{",".join(map(str, p))}' for label, p in zip(labels, points, strict=True)]
    return "label,x,y,z\n" + "\n".join(rows) + "\n"


POINT_FILES = {
    "markups LPS": ("a.mrk.json", markups(LPS, "LPS")),
    "markups RAS": ("a.mrk.json", markups(RAS, "RAS")),
    "fcsv LPS": ("a.fcsv", fcsv(LPS, "LPS")),
    "fcsv RAS": ("a.fcsv", fcsv(RAS, "RAS")),
    "fcsv 0 (RAS)": ("a.fcsv", fcsv(RAS, "0")),
    "fcsv 1 (LPS)": ("a.fcsv", fcsv(LPS, "1")),
    "csv": ("a.csv", table(RAS)),
    "csv from a spreadsheet": ("a.CSV", "\ufeffLabel, X ,Y,Z\r\n" + table(RAS).split("\n", 1)[1] + "\r\n\r\n"),
}


def written(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name, text", POINT_FILES.values(), ids=POINT_FILES)
def test_every_format_gives_the_same_ras_points(tmp_path, name, text):
    labels, points_mm = read_points(written(tmp_path, name, text))
    assert labels == LABELS
    assert points_mm.dtype == torch.float64
    assert points_mm.tolist() == RAS


def test_points_that_are_not_placed_are_left_out(tmp_path):
    content = json.loads(markups(RAS, "RAS"))
    control = content["markups"][0]["controlPoints"]
    control += [{"label": s, "position": [1.0, 2, 3], "positionStatus": s} for s in ("undefined", "preview", "missing")]
    control.append({"label": "as Slicer writes it", "position": "", "positionStatus": "undefined"})
    labels, _ = read_points(written(tmp_path, "a.mrk.json", json.dumps(content)))
    assert labels == LABELS


def test_written_markups_come_back_and_say_what_is_missing(tmp_path):
    points = torch.tensor([*RAS, [torch.nan] * 3], dtype=torch.float64)
    write_markups(tmp_path / "a.mrk.json", [*LABELS, "no answer"], points)
    labels, back = read_points(tmp_path / "a.mrk.json")
    assert (labels, back.tolist()) == (LABELS, RAS)
    markup = json.loads((tmp_path / "a.mrk.json").read_text())["markups"][0]
    assert markup["coordinateSystem"] == "LPS"
    assert [p["positionStatus"] for p in markup["controlPoints"]] == ["defined", "defined", "missing"]
    assert [p.get("position") for p in markup["controlPoints"]] == [*LPS, None]
    stream = io.StringIO()
    write_markups(stream, LABELS, RAS)
    assert json.loads(stream.getvalue())["markups"][0]["controlPoints"][1]["position"] == LPS[1]


# --- pairs ---------------------------------------------------------------------------------------------------------

PAIRS = "label,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\na,1,2,3,4,5,6\nb,-1,-2,-3,-4,-5,-6.5\n"


def test_a_paired_csv(tmp_path):
    landmarks = read_landmarks(written(tmp_path, "p.csv", PAIRS))
    assert landmarks.labels == ["a", "b"]
    assert landmarks.fixed_mm.tolist() == [[1, 2, 3], [-1, -2, -3]]
    assert landmarks.moving_mm.tolist() == [[4, 5, 6], [-4, -5, -6.5]]
    assert read_landmarks(landmarks) is landmarks


def test_two_files_are_matched_by_label_in_the_order_of_the_fixed(tmp_path):
    fixed = written(tmp_path, "f.mrk.json", markups(LPS, "LPS"))
    moving = written(tmp_path, "m.csv", table([[7, 7, 7], [8, 8, 8], [9, 9, 9]], ["promontory", "extra", "left ASIS"]))
    landmarks = read_landmarks([fixed, str(moving)])
    assert landmarks.labels == LABELS
    assert landmarks.fixed_mm.tolist() == RAS
    assert landmarks.moving_mm.tolist() == [[9, 9, 9], [7, 7, 7]]


QUIZ = np.array([[3.0, 2.0, 1.0, 6.5, 5.0, 4.0], [0.0, 0.0, 2.0, 0.0, 3.0, 0.0]])  # z, y, x | z, y, x
FIXED = torch.diag(torch.tensor([-1.0, -1.0, 3.0, 1.0], dtype=torch.float64))
MOVING = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
MOVING[:3, 3] = torch.tensor([100.0, 0.0, -50.0])


def test_quiz_columns_are_z_y_x_voxels_of_each_image(tmp_path):
    np.save(tmp_path / "k.npy", QUIZ)
    landmarks = read_landmarks(tmp_path / "k.npy", FIXED, MOVING)
    assert landmarks.fixed_mm.tolist() == [[-1, -2, 9], [-2, 0, 0]]
    assert landmarks.moving_mm.tolist() == [[108, 10, -37], [100, 6, -50]]


def test_landmarks_of_a_case_mean_the_voxels_of_the_file(tmp_path):
    """Reordering the axes in memory must not move the points of a voxel-index file."""
    for name, affine in (("fixed", FIXED), ("moving", MOVING)):
        nib.Nifti1Image(np.random.default_rng(0).random((64, 64, 32), "float32"), affine.numpy()).to_filename(
            tmp_path / f"{name}.nii"
        )
    np.save(tmp_path / "k.npy", QUIZ)
    case = {name: to_orientation_ras(load_volume(tmp_path / f"{name}.nii")) for name in ("fixed", "moving")}
    landmarks = load_case({**case, "landmarks": str(tmp_path / "k.npy")})["landmarks"]
    assert landmarks.fixed_mm.tolist() == [[-1, -2, 9], [-2, 0, 0]]
    assert landmarks.moving_mm.tolist() == [[108, 10, -37], [100, 6, -50]]


# --- refusals ------------------------------------------------------------------------------------------------------

BAD_POINTS = {
    "missing": (None, None, "no such file"),
    "another format": ("a.txt", "1 2 3", "ending in '.txt'"),
    "wrong column count": ("a.csv", "label,x,y\na,1,2\n", "3 columns"),
    "no header": ("a.csv", "a,1,2,3\n", "a,1,2,3"),
    "short row": ("a.csv", "label,x,y,z\na,1,2\n", "row 2"),
    "a word for a number": ("a.csv", "label,x,y,z\na,1,2,three\n", "three"),
    "NaN": ("a.csv", "label,x,y,z\na,1,2,nan\n", "NaN"),
    "header only": ("a.csv", "label,x,y,z\n", "found none"),
    "empty file": ("a.csv", "", "an empty file"),
    "not JSON": ("a.mrk.json", "hello", "no valid JSON"),
    "other JSON": ("a.mrk.json", '{"points": []}', "without a list of markups"),
    "no control point": ("a.mrk.json", '{"markups": [{"controlPoints": []}]}', "found none"),
    "voxel coordinates": ("a.fcsv", fcsv(RAS, "IJK"), "IJK"),
    "micrometres": ("a.mrk.json", markups(RAS, "RAS").replace('"mm"', '"um"'), "um"),
    "cut fcsv": ("a.fcsv", fcsv(RAS, "RAS") + "id,4", "a row of 2"),
}


@pytest.mark.parametrize("name, text, found", BAD_POINTS.values(), ids=BAD_POINTS)
def test_bad_point_files_are_told_in_one_line(tmp_path, name, text, found):
    path = written(tmp_path, name, text) if name else tmp_path / "none.csv"
    with pytest.raises(InputError) as caught:
        read_points(path)
    message = str(caught.value)
    assert str(path) in message
    assert found in message
    assert "\n" not in message


def test_bad_pairs_are_refused(tmp_path):
    np.save(tmp_path / "five.npy", QUIZ[:, :5])
    np.save(tmp_path / "nan.npy", QUIZ * np.nan)
    np.save(tmp_path / "good.npy", QUIZ)
    (tmp_path / "junk.npy").write_bytes(b"junk")
    points = written(tmp_path, "a.csv", table(RAS))
    others = written(tmp_path, "b.csv", table(RAS, ["c", "d"]))
    twice = written(tmp_path, "c.csv", table(RAS, ["c", "c"]))
    for source, found in {
        tmp_path / "five.npy": r"shape \(2, 5\)",
        tmp_path / "nan.npy": "NaN",
        tmp_path / "junk.npy": "no readable array",
        tmp_path / "gone.npy": "no such file",
        points: "4 columns",
        written(tmp_path, "d.mrk.json", markups(LPS, "LPS")): "list of two point files",
        (points, others): "labels in common",
        (points, twice): "'c' more than once",
        (points,): "1 files",
    }.items():
        with pytest.raises(InputError, match=found):
            read_landmarks(source, FIXED, MOVING)
    with pytest.raises(InputError, match="load the images first"):
        read_landmarks(tmp_path / "good.npy")


# --- lists of cases ------------------------------------------------------------------------------------------------


def test_datalist_makes_paths_absolute(tmp_path):
    cases = [{"fixed": "a.nii", "moving": "/elsewhere/b.nii", "landmarks": ["f.csv", "m.csv"], "name": "a.nii"}]
    path = written(tmp_path, "list.json", json.dumps(cases))
    expected = {
        "fixed": str(tmp_path / "a.nii"),
        "moving": "/elsewhere/b.nii",
        "landmarks": [str(tmp_path / "f.csv"), str(tmp_path / "m.csv")],
        "name": "a.nii",
    }
    assert read_datalist(path) == {"test": [expected]}
    sections = written(tmp_path, "all.json", json.dumps({"training": cases, "validation": [], "about": "x"}))
    found = read_datalist(sections, tmp_path / "data")
    assert found["training"][0]["fixed"] == str(tmp_path / "data" / "a.nii")
    assert found["validation"] == []
    assert set(found) == {"training", "validation"}


@pytest.mark.parametrize(
    "content, found",
    [("[", "no valid JSON"), ('{"cases": []}', "cases"), ("3", "int"), ('{"test": 3}', "int"), ("[3]", "fixed"),
     ('[{"fixed": "a"}]', "moving")],
)  # fmt: skip
def test_bad_datalists_are_refused(tmp_path, content, found):
    with pytest.raises(InputError, match=found):
        read_datalist(written(tmp_path, "list.json", content))


def test_paired_landmarks_know_their_number():
    assert len(PairedLandmarks(LABELS, torch.tensor(RAS), torch.tensor(RAS))) == 2


@pytest.mark.parametrize(("key", "near"), [("landmark", "landmarks"), ("fixed_serie", "fixed_series"), ("Name", "name")])
@pytest.mark.parametrize("section", ["test", "training"])
def test_a_key_that_no_case_has(tmp_path, key, near, section):
    case = {"fixed": "a.nii", "moving": "b.nii"}
    (tmp_path / "list.json").write_text(json.dumps({section: [case, case | {key: "x"}]}))
    with pytest.raises(InputError) as caught:
        read_datalist(tmp_path / "list.json", keep_bad=True)
    told = f'{tmp_path}/list.json: expected keys of a case in {section}[1], found "{key}"; did you mean "{near}"? Known are'
    assert str(caught.value).startswith(told)
