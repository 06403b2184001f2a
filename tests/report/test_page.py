"""The report page against its promises: self-contained, everything described, TG-132's sections, advice on refusals."""

import io
import math
import re
from dataclasses import fields
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from conftest import AFFINES
from PIL import Image
from results import FIXED_SHAPE, MOVING_SHAPE, PATIENT, make_registration, refused
from scripts.core.geometry import as_affine, centre_mm
from scripts.core.rigid import RigidTransform
from scripts.images.landmarks import PairedLandmarks
from scripts.images.volumes import make_volume
from scripts.registration.assess import Evidence, assess, no_fit
from scripts.registration.plausibility import MISSPACED, SWAPPED, TWO_PATIENTS
from scripts.registration.queries import no_matches
from scripts.registration.settle import another_part
from scripts.report.identification import same_patient, series_record
from scripts.report.page import render_page
from scripts.report.page.advice import ADVICE, OTHERWISE, advice_on
from scripts.report.page.closeups import far_apart, places_of
from scripts.report.page.cuts import PLANES, cut_points, look, start_affine
from scripts.report.page.figures import Pictures, draw_pictures
from scripts.report.page.match_map import error_colours
from scripts.report.page.pictures import Picture
from scripts.report.quality import quality_record
from scripts.report.write import report_record

SECTIONS = (
    "Accepted", "Data sets", "Request", "Transform", "Numeric checks", "Before and after", "Checkerboard", "Close-ups",
    "Map of matches", "Points looked up", "Assessment", "How it was run",
)  # fmt: skip


@pytest.fixture
def registration():
    return make_registration()


@pytest.fixture(scope="module")
def page():
    """The page of the hand-made result, without a viewer."""
    made = make_registration()
    return render_page(report_record(made), draw_pictures(made), made.answers)


def plain_page(registration):
    return render_page(report_record(registration), Pictures([], False), registration.answers)


class Tags(HTMLParser):
    """Collects the tags of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_page_fetches_nothing_and_describes_every_image(page):
    tags = Tags(page).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "iframe", "object"}
    assert not re.search(r"https?:|url\(|@import|script-src", page)
    images = [attributes for tag, attributes in tags if tag == "img"]
    assert len(images) == 3 + 3 + 3 + 1 + 1  # before, after, checkerboard, close-ups, matches
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert all(len(image["alt"]) > 40 for image in images)
    assert ("html", {"lang": "en"}) in tags
    assert "Not a medical device" in page


def test_names_and_texts_from_outside_stay_text(registration):
    """Every place of the page that shows a file's, a header's or a user's words, with words that would be HTML."""
    record, bad = report_record(registration), "<img src=x onerror='a()'>\"&"
    record["inputs"]["fixed"] |= {"name": bad, "orientation": bad, "sha256": bad, "series": {"description": bad}}
    record |= {"reasons": [bad], "device": bad, "weights_sha256": bad, "same_patient": False, "accepted": False}
    record |= {"seconds": {bad: 1.0}, "versions": {bad: bad}, "options": {bad: bad}}
    record["dicom"] = {"files": [bad], "reason": bad}
    record["landmarks"] = {"errors": [{"label": bad, "tre_mm": 1.0}], "outside": [bad], "tre_mean_mm": 1.0}
    registration.answers.labels[0] = bad
    picture = Picture("before", bad, bad, b"", 1, 1)
    shown = render_page(record, Pictures([picture], False), registration.answers)
    tags = Tags(shown).tags
    images = [attributes for tag, attributes in tags if tag == "img"]
    assert len(images) == 1 and images[0]["alt"] == bad and not {"onerror"} & {key for _, found in tags for key in found}
    assert shown.count("&lt;img src=x onerror=&#39;a()&#39;&gt;&#34;&amp;") == 21  # 19 in words, and a caption and an alt


def test_sections_come_in_the_order_of_a_physicists_report(page):
    heads = re.findall(r"<h2>(?:. )?([^<]+)</h2>", page)
    assert heads == list(SECTIONS)


def test_levels_are_offered_and_none_is_ticked(page):
    tags = Tags(page).tags
    levels = [attributes for tag, attributes in tags if tag == "input" and attributes.get("name") == "level"]
    assert [level["value"] for level in levels] == ["0", "1", "2", "3", "4"]
    assert not any("checked" in attributes for _, attributes in tags)
    assert all(f"{words}<input" in page for words in ("Name", "Date", "Signature", "Region that matters"))


def test_both_data_sets_are_identified(page):
    assert f"<td>name</td><td>{PATIENT}_plan</td><td>{PATIENT}_bt</td>" in page
    assert "<td>voxels</td><td>40 × 36 × 30</td><td>24 × 26 × 18</td>" in page
    assert "<td>field, mm</td><td>128 × 115 × 135</td>" in page  # voxels of 3.2, 3.2 and 4.5 mm
    assert "modality" not in page and "patient ID" not in page  # no DICOM, no header


class Header(dict):
    """What of a series identification looks at."""

    @property
    def header(self):
        return self


def test_headers_are_told_only_as_far_as_needed(registration):
    common = {"Modality": "CT", "PatientID": "4711", "PatientName": "Doe^Jane", "StudyDate": "20240229"}
    registration.fixed.meta["series"] = Header(common, SeriesDescription="Planning <5 mm>")
    registration.moving.meta["series"] = Header(common, PatientID=" 4711 ")
    assert series_record(registration.fixed) == {
        "modality": "CT", "description": "Planning <5 mm>", "study_date": "2024-02-29",
    }  # fmt: skip
    assert same_patient(registration.fixed, registration.moving) is True
    record = report_record(registration)
    assert "4711" not in str(record["same_patient"]) and record["inputs"]["fixed"]["series"]["modality"] == "CT"
    assert "series" not in report_record(registration, anonymous=True)["inputs"]["fixed"]
    shown = render_page(record, Pictures([], False))
    assert "Planning &lt;5 mm&gt;" in shown and "the same in both headers" in shown and "2024-02-29" in shown
    assert "Jane" not in shown.replace(PATIENT, "")
    hidden = render_page(report_record(registration, anonymous=True), Pictures([], False))
    assert not re.search(f"Planning|2024|4711|{PATIENT}", hidden)


def test_two_patients_are_warned_of(registration):
    registration.fixed.meta["series"], registration.moving.meta["series"] = Header(PatientID="1"), Header(PatientID="2")
    assert "different patient IDs" in plain_page(registration)
    registration.moving.meta["series"] = Header()
    assert same_patient(registration.fixed, registration.moving) is None
    assert "patient ID" not in plain_page(registration)


# numeric checks


def test_checks_of_matches_that_fit_exactly(registration):
    checks = quality_record(registration)
    assert checks["guide_mm"] == pytest.approx(4.5)  # the largest voxel dimension of the fixed scan
    assert checks["cycle_error_mm"] == 4.5  # the median of 1 to 8
    for name in ("halves_mm", "halves_deg", "matches_mm", "matches_deg"):
        assert checks[name] == pytest.approx(0, abs=1e-3)
    page = plain_page(registration)
    assert "<td>reversibility of the matches</td><td>4.5\u00a0mm</td><td>within</td>" in page


def test_checks_see_a_refinement_that_left_the_matches(registration):
    shift = RigidTransform.about([0.0, 0.0, 0.0], [3.0, 0.0, 4.0], [0.0, 0.0, 0.0])
    registration.fixed_to_moving = shift @ registration.fixed_to_moving
    checks = quality_record(registration)
    assert checks["matches_mm"] == pytest.approx(5.0, abs=1e-3) and checks["halves_mm"] == pytest.approx(0, abs=1e-3)
    assert "<td>5.0\u00a0mm, 0.0°</td><td>above</td>" in plain_page(registration)


@pytest.mark.parametrize(("bending", "shown"), [(3.26, "3.3\u00a0mm"), (math.inf, None)])
def test_bending_is_shown_where_it_is_known(registration, bending, shown):
    registration.verdict.evidence["bending_mm"] = bending
    record = report_record(registration)
    assert record["checks"]["bending_mm"] == (None if shown is None else bending)
    row = re.search("<td>bending of the body</td><td>([^<]*)</td><td>–</td>", plain_page(registration))
    assert (row.group(1) if row else None) == shown


def test_the_next_best_place_is_shown(registration):
    registration.verdict.evidence["peak_ratio"] = 2.345
    assert report_record(registration)["checks"]["peak_ratio"] == 2.345
    assert "<td>next best place</td><td>2.3 times</td><td>–</td>" in plain_page(registration)


def test_checks_without_a_fit_are_silent(registration):
    checks = quality_record(refused(registration, keep_fit=False))
    assert {name for name, value in checks.items() if value is not None} == {"guide_mm"}


# refusals


def test_each_reason_for_refusal_comes_first_and_with_advice(registration):
    registration = refused(registration, keep_fit=True)
    registration.verdict.reasons = ["Only 3 matches agree with the rigid map; 10 are needed.", "Something <new>."]
    page = plain_page(registration)
    for reason in ("Only 3 matches agree", "Something &lt;new&gt;."):
        assert page.index(reason) < page.index("cannot be trusted")
    assert page.count("What to do:") == 2 and OTHERWISE in page and "a registration by hand" in page


def test_reasons_of_the_verdict_have_advice_of_their_own():
    hopeless = Evidence(**{field.name: int(field.name == "peak_ratio") for field in fields(Evidence)})
    reasons = [*assess(hopeless).reasons, *no_fit(17).reasons, "The moving scan's values are no HU: all are positive."]
    reasons += ["The map seems to be inverted: its inverse is near ours.", "Our own map of this pair lies 35 mm away."]
    reasons += [TWO_PATIENTS, SWAPPED, MISSPACED, another_part(12.0)]
    given = [advice_on(reason) for reason in reasons]
    assert OTHERWISE not in given and len(set(given)) == len(reasons) == len(ADVICE)


# pictures


def test_before_says_when_the_frames_have_nothing_in_common(registration, page):
    fixed, moving = registration.fixed, registration.moving
    affine, centred = start_affine(fixed, moving)
    assert centred and "nothing in common" in page
    assert torch.allclose(centre_mm(affine, MOVING_SHAPE), centre_mm(fixed.affine, FIXED_SHAPE))
    affine, centred = start_affine(fixed, make_volume(moving.as_tensor(), fixed.affine))
    assert not centred and torch.equal(affine, as_affine(fixed.affine))


def test_a_fit_that_leads_astray_has_no_after_picture(registration):
    far = RigidTransform.about([0.0, 0.0, 0.0], [5000.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    registration.fixed_to_moving = far
    pictures = draw_pictures(registration)
    assert [len(pictures.of(section)) for section in ("before", "after", "checkerboard", "closeups")] == [3, 0, 0, 0]


def test_closeups_are_at_the_worst_landmarks_or_at_matches_far_apart(registration):
    places = places_of(registration)
    assert len(places) == 6 and all(torch.allclose(p.fixed_mm, p.mapped_mm) for p in places)
    fit, middle = registration.fixed_to_moving, centre_mm(registration.fixed.affine, FIXED_SHAPE)
    fixed = middle + torch.tensor([[0.0, 0, 0], [9, 0, 0], [0, 9, 0], [900, 0, 0]], dtype=torch.float64)
    moving = fit(fixed) + torch.tensor([[0.0, 0, 1], [0, 0, 5], [0, 0, 3], [0, 0, 90]], dtype=torch.float64)
    registration.landmark_points = PairedLandmarks(["a", "b", "c", "outside"], fixed, moving)
    assert [place.words for place in places_of(registration)] == ["b: 5.0 mm", "c: 3.0 mm", "a: 1.0 mm"]


def test_far_apart_starts_in_the_middle_and_takes_the_corners():
    points = torch.tensor([[0.1, 0, 0], [5, 0, 0], [-5, 0, 0], [4.5, 0, 0]], dtype=torch.float64)
    assert far_apart(points, 3).tolist() == [0, 2, 1]
    assert far_apart(points[:0], 3).tolist() == []


def test_colours_run_from_blue_to_orange_and_stop_there():
    low, high, beyond = error_colours(torch.tensor([0.0, 15.0, 99.0]))
    assert high == beyond != low and all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in (low, high))
    assert int(low[5:], 16) > int(low[1:3], 16) and int(high[1:3], 16) > int(high[5:], 16)


def test_overlay_is_grey_where_the_scans_agree_and_shows_patient_right_on_the_left(registration):
    # A bright block at the patient's right, front and head, the same in both scans.
    affine = AFFINES["shifted"].clone()
    values = torch.full((1, 40, 40, 40), -1000.0)
    values[:, 26:34, 26:34, 26:34] = 400.0
    registration.fixed = make_volume(values, affine, {"name": "a"})
    registration.moving = make_volume(values.clone(), affine, {"name": "b"})
    registration.fixed_to_moving = RigidTransform.identity()
    registration.matches = no_matches()
    for plane in PLANES:
        box = torch.stack([affine[:3, 3] - 1, affine[:3, 3] + 79])
        at = affine[:3, 3] + 60.0
        points, step = cut_points(plane, box, at, longest=80)
        grey, within = look(registration.fixed, affine, points)
        assert step == pytest.approx(1.0) and bool(within.all())
        bright = (grey > 0.5).nonzero().double().mean(0)
        assert (bright < 40).all()  # top left: right, or front, is on the left and head, or front, on top
    picture = draw_pictures(registration).of("after")[0]
    pixels = np.asarray(Image.open(io.BytesIO(picture.jpeg))).astype(int)
    assert (picture.height, picture.width) == pixels.shape[:2]
    assert (pixels.max(-1) - pixels.min(-1)).max() < 60
    assert pixels[-17, 30].min() > 200  # the scale is drawn on top of the scans
