"""The paper's figures: drawn from a tiny run of the tables, and the numbers that they show."""

import csv

import numpy as np
import pytest
import tiny
import torch
from matplotlib.image import imread
from scripts.core.errors import InputError
from scripts.study.benchmark import methods
from scripts.study.paper import draw_figures, run_tables
from scripts.study.paper.figures.errors import errors_of, pairs_of, share_within
from scripts.study.paper.figures.looks import grey_and_red, load_example, warped
from scripts.study.paper.names import ORDER, SETS, colour, place, spoken
from scripts.study.paper.rows import POINT_COLUMNS, read_results

SHOWN = {f"figure_{number}": ["identity", "centres", "identity+ants_syn"] for number in range(2, 9)}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A run of the tables on one pair, the same in each set; SyN's place is taken by a shift of 2 mm to the head."""
    folder = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:

        def deform(fixed, moving, start, seed, threads):
            return lambda points: start(points) + torch.tensor([0.0, 0, 2], dtype=torch.float64)

        patch.setattr(methods, "deformable", lambda name, weights=None, device="cpu": deform)
        datalists = dict.fromkeys(SETS, tiny.datalist(folder))
        run_tables(datalists, SHOWN["figure_3"], output_dir=str(folder / "out"), threads=1)
    return folder / "out"


def test_each_figure_and_the_page(tables, tmp_path):
    files = draw_figures(range(2, 9), SHOWN, str(tables), str(tmp_path / "figures"))
    assert [file.name for file in files] == [f"figure_{number}.png" for number in range(2, 9)]
    for file in files:
        picture = imread(file)
        assert min(picture.shape[:2]) >= 300 and picture[..., :3].std() > 0.05
    page = (tmp_path / "figures" / "figures.html").read_text()
    assert page.count("data:image/png;base64,") == 7 and "http" not in page.replace("http-equiv", "")
    assert "n = 12 landmarks of 1 pairs" not in page  # that stands in the picture
    draw_figures("7", SHOWN, str(tables), str(tmp_path / "figures"))  # as the command line hands it over


def test_warped_pictures_follow_the_map(tables):
    """The true map is a shift: at the landmarks' own places the pictures of both scans are the same grey."""
    example = load_example(tables, read_results(tables), "phantom", "", ["best_rigid", "identity"])
    assert list(example.maps) == ["best_rigid", "identity"] and example.errors_mm["best_rigid"] < 1e-5
    points = example.landmarks.fixed_mm
    grey, inside = warped(example, "best_rigid", points)
    fixed = grey_and_red(example, None, points)[..., 0] / 0.6
    assert inside.all()
    np.testing.assert_allclose(grey.numpy(), fixed.numpy(), atol=1e-4)
    assert (warped(example, "identity", points)[0] - grey).abs().max() > 0.05
    both = grey_and_red(example, "best_rigid", points)
    assert (both[..., 0] >= both[..., 1]).all()  # the moving scan adds red


def test_errors_are_predicted_minus_true():
    def row(method, x, **more):
        cells = dict.fromkeys(POINT_COLUMNS, "0") | {"table": "cbct", "name": "a", "method": method, "predicted_x": x}
        return cells | more

    points = [row("quiz", "4"), row("quiz", "-7", name="b", true_x="1"), row("quiz", ""), row("centres", "1")]
    errors = errors_of(points, "cbct", "quiz")
    assert errors.tolist() == [[4, 0, 0], [-8, 0, 0]] and pairs_of(points, "cbct", "quiz") == 2
    assert errors_of(points, "phantom", "quiz").shape == (0, 3)
    assert share_within(errors[:, 0], 5) == 0.5 and share_within(errors[:, 0], 10) == 1.0
    assert share_within(np.array([[3.0, 4.0], [3.1, 4.0]]), 5) == 0.5  # a ring, not a square


@pytest.mark.parametrize(
    ("number", "shown", "message"),
    [(9, ["identity"], "2 to 8"), (3, ["quiz"], "maps of quiz"), (6, ["quiz"], "landmarks"), (2, ["quiz"], "pairs of")],
)
def test_nothing_to_draw_is_told(tables, tmp_path, number, shown, message):
    with pytest.raises(InputError, match=message):
        draw_figures(number, {f"figure_{number}": shown}, str(tables), str(tmp_path / "figures"))


def test_nothing_measured_is_told(tmp_path):
    with pytest.raises(InputError, match="run tables"):
        draw_figures(7, SHOWN, str(tmp_path), str(tmp_path / "figures"))


def test_names_in_words():
    assert spoken("ants_translation+voxelmorph") == "ANTs translation, then VoxelMorph"
    assert spoken("quiz+ants_syn") == "QUIZ, then ANTs SyN" and spoken("quiz") == "QUIZ as shipped"
    assert place("quiz") < place("quiz+ants_syn") < place("something else")
    assert len({colour(method) for method in ("ants_syn", "voxelmorph", "transmorph", "quiz", "quiz_paper")}) == 5
    assert len(set(ORDER)) == len(ORDER)


def test_points_are_written_in_ras(tables):
    with (tables / "points.csv").open(newline="") as stream:
        row = next(row for row in csv.DictReader(stream) if row["method"] == "identity")
    true = [float(row[f"true_{axis}"]) - float(row[f"asked_{axis}"]) for axis in "xyz"]
    assert true == pytest.approx([10, -5, 15], abs=1e-3)
