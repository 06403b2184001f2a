"""What the parts did, as numbers and in words."""

import re

import pytest
import torch
from results import make_registration
from scripts.core.geometry import centre_mm
from scripts.core.rigid import RigidTransform
from scripts.registration.result import Part
from scripts.report.page import render_page
from scripts.report.page.figures import draw_pictures
from scripts.report.parts import direction, parts_record, parts_sentences
from scripts.report.write import report_record


def in_parts():
    """A registration whose lower part, 60 mm below the middle, turned by 20 degrees about a hinge 45 mm above its own."""
    registration = make_registration()
    middle = centre_mm(registration.fixed.affine, registration.fixed.shape[1:])
    spread = torch.cartesian_prod(*[torch.tensor([-10.0, 0.0, 10.0], dtype=torch.float64)] * 3)
    below = middle + torch.tensor([0.0, 0.0, -60.0], dtype=torch.float64)
    hinge = below + torch.tensor([0.0, 0.0, 45.0], dtype=torch.float64)
    turned = registration.fixed_to_moving @ RigidTransform.about([20.0, 0, 0], [0.0, 0, 0], hinge)
    registration.parts = [
        Part(registration.fixed_to_moving, middle + spread, 0.75, 2.5),
        Part(turned, below + spread, 0.25, 4.0),
    ]
    return registration, middle


def test_turn_and_shift_are_against_the_first_part():
    """45 mm from the hinge, a turn of 20 degrees carries the middle 2 * 45 * sin 10 degrees = 15.6 mm."""
    registration, middle = in_parts()
    first, second = report_record(registration)["parts"]
    assert (first["turn_deg"], first["shift_mm"]) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-9))
    assert first["fixed_to_moving_ras"] == registration.fixed_to_moving.matrix.tolist()
    assert first["centre_mm"] == pytest.approx(middle.tolist())
    assert second["turn_deg"] == pytest.approx(20.0, abs=1e-6)
    assert second["shift_mm"] == pytest.approx(15.63, abs=0.01)
    assert (second["share"], second["expected_tre_mm"], second["chosen_by"]) == (0.25, 4.0, "default")


def test_sentences_say_whose_map_it_is_and_what_the_others_did():
    registration, _ = in_parts()
    first, second = parts_sentences(report_record(registration)["parts"])
    assert "2 parts" in first and "75 %" in first and "wrong for the others" in first
    assert second == "Part 2, towards the feet (25 %), turned by 20° and its middle lies 16 mm from where this map puts it."
    assert parts_sentences(parts_record(registration.parts[:1])) == parts_sentences([]) == []


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ((0, 0, -50), "towards the feet "),
        ((40, 0, -50), "towards the feet and the right "),
        ((-50, 40, 10), "towards the left and the front "),
        ((0, -3, 0.5), "towards the back "),
        ((0, 0.5, 0), ""),
    ],
)
def test_directions_are_the_patients(way, words):
    """RAS: x grows to the patient's right, y to the front, z to the head."""
    assert direction((10.0, 20.0, 30.0), tuple(a + b for a, b in zip((10.0, 20.0, 30.0), way, strict=True))) == words


def test_the_page_shows_parts_only_where_there_are_several():
    registration, _ = in_parts()
    pictures = draw_pictures(registration)
    assert [picture.section for picture in pictures.images].count("parts") == 3
    page = render_page(report_record(registration), pictures)
    assert page.count("towards the feet (25 %), turned by 20°") == 2  # in the verdict and in its section
    assert re.search(r"<td>part 2</td><td>25 %</td><td>20\.0°</td><td>15\.6\xa0mm</td><td>4\.0\xa0mm</td>", page)
    assert "Expected error on part 1: 2.5" in page
    registration.parts = registration.parts[:1]
    page = render_page(report_record(registration), draw_pictures(registration))
    assert "<h2>Parts</h2>" not in page and "Expected error in the common field" in page
