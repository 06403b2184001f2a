"""What patients carry: counted by hand, each patient once."""

import pytest
from scripts.checks.calibration.patients import Outcome, carries, patients_table


def outcomes(patients, pairs=2, tre=4.0, expected=4.0):
    """Pairs of patients p0, p1 ... whose TRE grows by 0.01 times the expected one from patient to patient."""
    return [
        Outcome("head and neck", f"p{number}", tre * (1 + 0.01 * number * (pair + 1) / pairs), expected, True)
        for number in range(patients)
        for pair in range(pairs)
    ]


def test_a_patient_counts_once_by_the_worst_pair():
    found = carries(outcomes(39))
    assert (found.patients, found.pairs) == (39, 78)
    assert found.factor == pytest.approx(1.37)  # the 38th of 39 patients: 1 + 0.01 x 37
    assert found.wrong == 0
    assert carries(outcomes(18)).factor is None


def test_sixty_patients_without_a_wrong_pair_carry_five_percent():
    found = carries(outcomes(60))
    assert found.at_most == pytest.approx(1 - 0.05 ** (1 / 60), abs=1e-9)  # 0.0487
    assert found.limit_mm == 10.0
    assert carries(outcomes(58)).limit_mm is None  # 0.0503


def test_a_wrong_pair_lowers_the_limit_below_its_expected_error():
    wrong = [Outcome("head and neck", "q", 13.8, 6.2, True), Outcome("head and neck", "q", 13.8, 6.2, True)]
    found = carries(outcomes(60) + wrong)
    assert found.wrong == 1 and found.patients == 61
    assert found.limit_mm == 6.0
    refused = [Outcome("head and neck", "q", 13.8, 6.2, False)]
    assert carries(outcomes(60) + refused).wrong == 0


def test_the_table_has_a_line_a_region():
    lines = patients_table(outcomes(60) + [Outcome("", "r", 3.0, 3.0, True)]).splitlines()
    assert lines[2] == "| other | 1 | 1 | too few | 0 | 0.950 | none |"
    assert lines[3] == "| head and neck | 60 | 120 | 1.57 | 0 | 0.049 | 10.0 mm |"
