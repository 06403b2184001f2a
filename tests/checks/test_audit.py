"""Verdicts on maps that somebody else made: right, a vertebra off, turned, inverted, in the wrong frame."""

import math
from dataclasses import replace

import pytest
import torch
from oracle import TRUTH, pair, quick, use_oracle
from scripts.checks.audit import audit
from scripts.checks.audit.judging import beside_own, mistaken_for
from scripts.checks.audit.writing import audit_record, write_audit
from scripts.core.geometry import centre_mm, matrix_ras_to_lps
from scripts.core.rigid import RigidTransform
from scripts.images.transform_files import DICOM, ITK, TEXT, GivenMap
from scripts.images.volumes import standardise
from scripts.registration.queries import ask
from scripts.registration.register import Stopwatch, conclude, load_case
from scripts.registration.result import Part, Verdict
from scripts.registration.search import search

OPTIONS = quick()


def prepared(monkeypatch, small="moving", truth=TRUTH):
    """All that an audit starts from, for a pair of which ``truth`` is told by an oracle."""
    fixed, moving = pair(small=small)
    network = use_oracle(monkeypatch, truth=truth)
    case = load_case({"fixed": fixed, "moving": moving})
    scans = [standardise(volume, OPTIONS.search.spacing, OPTIONS.window) for volume in (fixed, moving)]
    found = search(network, *scans, OPTIONS.search, torch.Generator().manual_seed(0))
    return case, scans, found, conclude(case, scans, found, network, OPTIONS, Stopwatch())


@pytest.fixture(scope="module")
def known():
    with pytest.MonkeyPatch.context() as patch:
        yield prepared(patch)


def judged(known, transform, kind=ITK):
    return audit(*known, GivenMap(transform, kind, "theirs", "f" * 64), OPTIONS)


def beside(turn_deg=(0, 0, 0), shift_mm=(0, 0, 0)):
    """The truth after a turn about the middle of the body, and a shift, in the fixed scan."""
    return TRUTH @ RigidTransform.about(turn_deg, shift_mm, [8.0, -6.0, 10.0])


def test_a_right_map_is_accepted(known):
    found = judged(known, TRUTH)
    assert found.own.verdict.accepted and found.given.verdict.accepted and found.given.verdict.reasons == []
    assert found.given.fixed_to_moving is TRUTH
    mean, largest = found.distance_mm
    assert mean <= largest < 3.0
    low, high = found.given.verdict.expected_tre_90_mm
    assert low <= found.given.verdict.expected_tre_mm <= high
    assert found.given.matches.inlier.sum() > 100


@pytest.mark.parametrize("shift", [-35.0, 35.0])
def test_a_map_that_is_a_vertebra_off_is_refused(known, shift):
    found = judged(known, beside(shift_mm=(0, 0, shift)))
    verdict = found.given.verdict
    assert not verdict.accepted and verdict.expected_tre_mm == pytest.approx(35, abs=4)
    assert found.distance_mm[0] == pytest.approx(35, abs=4)
    assert verdict.evidence["peak_ratio"] < 1  # ours explains more than theirs
    assert "lies 3" in verdict.reasons[-1] and "mm away on average" in verdict.reasons[-1]
    assert "inverted" not in verdict.reasons[0]


@pytest.mark.parametrize("axis", range(3))
def test_a_map_that_is_turned_is_refused_or_expected_to_be_worse(known, axis):
    right = judged(known, TRUTH).given.verdict
    turned = judged(known, beside(turn_deg=[5.0 * (axis == n) for n in range(3)])).given.verdict
    assert not turned.accepted or turned.expected_tre_mm > right.expected_tre_mm + 1.5


def test_an_inverted_map_is_named_as_such(known):
    verdict = judged(known, TRUTH.inverse()).given.verdict
    assert not verdict.accepted
    assert verdict.reasons[0].startswith("The map seems to be inverted, moving to fixed where fixed to moving is meant")
    assert "its inverse is accepted, with an expected error of" in verdict.reasons[0]


def test_a_matrix_in_the_wrong_frame_is_named_as_such(known):
    """As text only: the other files say which frame they are in."""
    other = RigidTransform(matrix_ras_to_lps(TRUTH.matrix))
    assert judged(known, other, TEXT).given.verdict.reasons[0].startswith("The matrix seems to be in LPS instead of RAS mm")
    assert "seems to be" not in judged(known, other, DICOM).given.verdict.reasons[0]


def test_with_the_scans_exchanged(monkeypatch):
    """The smaller scan is the fixed one: right, and a vertebra off."""
    swapped = prepared(monkeypatch, "fixed")
    assert judged(swapped, TRUTH).given.verdict.accepted
    off = judged(swapped, beside((0, 0, 0), (0, 0, 35.0)))
    assert not off.given.verdict.accepted and off.distance_mm[0] == pytest.approx(35, abs=4)


def test_a_map_that_leaves_the_scan_is_refused(known):
    verdict = judged(known, RigidTransform.about([0, 0, 0], [3000, 0, 0], [0, 0, 0])).given.verdict
    assert not verdict.accepted and verdict.overlap == 0


def test_a_right_map_is_accepted_where_our_own_is_wrong(monkeypatch):
    """Our matches are a vertebra and a half off, and so is our map; theirs has the intensities for it."""
    known = prepared(monkeypatch)
    away = beside(shift_mm=(0, 0, 55.0))
    case, scans, found, own = known
    own.fixed_to_moving, own.verdict.accepted = away, False
    result = audit(case, scans, found, own, GivenMap(TRUTH, ITK, "theirs", ""), OPTIONS)
    assert result.given.verdict.accepted and result.distance_mm[0] == pytest.approx(55, abs=1)


def test_without_a_map_of_our_own(known):
    case, scans, found, own = known
    none = replace(own, fixed_to_moving=None, parts=[])
    result = audit(case, scans, found, none, GivenMap(TRUTH, ITK, "theirs", ""), OPTIONS)
    assert result.distance_mm is None and math.isfinite(result.given.verdict.expected_tre_mm)


def test_a_map_of_another_part_than_ours_is_judged_on_that_part(known):
    """The upper half went 30 mm its own way, as we have found, and theirs is right for the lower one."""
    case, scans, found, own = known
    places = TRUTH.inverse()(ask(scans[1], 2000, torch.Generator().manual_seed(1)))
    upper = places[:, 2] > places[:, 2].median()
    away = beside(shift_mm=(0, 30.0, 0))
    parts = [Part(away, places[upper], 0.5, 2.0), Part(TRUTH, places[~upper], 0.5, 2.5)]
    parted = replace(own, fixed_to_moving=away, parts=parts)
    result = audit(case, scans, found, parted, GivenMap(TRUTH, ITK, "theirs", ""), OPTIONS)
    assert result.given.verdict.accepted and result.distance_mm == pytest.approx((30, 30), abs=1e-6)
    assert result.given.parts == [] and len(audit_record(result)["own"]["parts"]) == 2
    off = audit(case, scans, found, parted, GivenMap(beside(shift_mm=(0, 0, 35.0)), ITK, "theirs", ""), OPTIONS)
    assert not off.given.verdict.accepted


# the two errors together


def verdict(expected, band, accepted=True):
    return Verdict(accepted, [] if accepted else ["No."], expected, band, 1.0)


def test_their_error_is_the_distance_and_our_error_together():
    """3 and 4 mm are 5; 4 mm from a map that is off by up to 6 it is 0 to 10."""
    found = beside_own(verdict(2.0, (1.0, 3.0)), verdict(3.0, (2.0, 6.0)), (4.0, 9.0))
    assert found.accepted and found.expected_tre_mm == 5.0 and found.expected_tre_90_mm == (1.0, 10.0)


def test_evidence_that_is_worse_than_that_counts():
    found = beside_own(verdict(8.0, (6.0, 12.0)), verdict(3.0, (2.0, 6.0)), (4.0, 9.0))
    assert found.accepted and found.expected_tre_mm == 8.0 and found.expected_tre_90_mm == (6.0, 12.0)


def test_far_from_an_accepted_map_is_refused():
    found = beside_own(verdict(2.0, (1.0, 3.0)), verdict(3.0, (2.0, 6.0)), (40.0, 44.0))
    assert not found.accepted and found.expected_tre_mm == pytest.approx(math.hypot(3, 40))
    assert found.expected_tre_90_mm == (34.0, 46.0)
    assert found.reasons == [
        "Our own map of this pair, which is accepted with an expected error of 3.0 mm, lies 40 mm away on average and 44 mm "
        "at most."
    ]


def test_a_refused_map_of_ours_says_nothing():
    theirs = verdict(2.0, (1.0, 3.0))
    assert beside_own(theirs, verdict(45.0, (12.0, 400.0), accepted=False), (40.0, 44.0)) is theirs
    assert beside_own(theirs, verdict(3.0, (2.0, 6.0)), None) is theirs


def test_what_a_map_may_be_mistaken_for():
    assert [len(mistaken_for(TRUTH, kind)) for kind in (ITK, DICOM, TEXT)] == [1, 1, 3]
    (_, back), (_, lps), (_, both) = mistaken_for(TRUTH, TEXT)
    point = torch.tensor([[10.0, 20.0, 30.0]], dtype=torch.float64)
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)
    assert (back(TRUTH(point)) - point).norm() < 1e-9
    assert (lps(point * flip) - TRUTH(point) * flip).norm() < 1e-9
    assert (both(lps(point)) - point).norm() < 1e-9


# the record


def test_the_record_has_ours_beside_theirs(known, tmp_path):
    found = judged(known, beside(shift_mm=(0, 0, 35.0)))
    record = audit_record(found)
    centre = centre_mm(found.given.fixed.affine, found.given.fixed.shape[1:])
    assert record["fixed_to_moving_ras"] == found.source.fixed_to_moving.matrix.tolist()
    assert record["translation_mm"] == found.source.fixed_to_moving.displacement_mm(centre).tolist()
    assert record["own"]["fixed_to_moving_ras"] == found.own.fixed_to_moving.matrix.tolist()
    assert (record["accepted"], record["own"]["accepted"]) == (False, True)
    assert record["distance_mm"] == {"mean": found.distance_mm[0], "max": found.distance_mm[1]}
    assert record["transform_file"] == {"name": "theirs", "sha256": "f" * 64, "kind": ITK}
    assert record["dicom"]["files"] == []
    assert audit_record(found, anonymous=True)["transform_file"]["name"] == "transform_file"
    written = write_audit(found, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(written) == {"report.html", "report.json"}
    page = (tmp_path / "report.html").read_text()
    assert "<title>QUIZ audit" in page and "✕ Not accepted: the map in theirs" in page and "<h2>Our own map</h2>" in page
    assert "✓ accepted" in page and "fixed_to_moving.tfm" not in page and "It is the map of theirs" in page
