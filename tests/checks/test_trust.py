"""Trust and reversibility from rows, with numbers one can count on one's fingers."""

import math

import pytest
import torch
from scripts.checks.trust import auroc, trust
from scripts.core.proportions import share
from scripts.core.rigid import RigidTransform
from scripts.study.benchmark.reversibility import reversibility
from scripts.study.benchmark.rows import COLUMNS
from scripts.study.benchmark.table import reversibility_table, trust_lines, trust_table


def row(tre, accepted, expected, low, high, **more):
    cells = dict.fromkeys(COLUMNS, "") | {"regime": "H2", "method": "quiz", "best_rigid_mm": "4", "tre_mean_mm": str(tre)}
    cells |= {"accepted": str(accepted), "expected_tre_mm": expected, "expected_low_mm": low, "expected_high_mm": high}
    return cells | more


ROWS = [
    row(3.0, 1, "4", "2", "6"),  # right, accepted, within its band
    row(4.0, 0, "12", "5", "20"),  # right, refused, below its band
    row(8.0, 1, "5", "3", "7"),  # in between, above its band
    row(30.0, 1, "6", "3", "9"),  # wrong and accepted
    row(60.0, 0, "40", "10", "300"),  # wrong and refused, within its band
    row(math.inf, 0, "", "", ""),  # no map at all
]


def test_shares_are_counted():
    found = trust(ROWS)
    assert found.failed == (3, 6)
    assert found.wrong_accepted == (1, 3)
    assert found.right_refused == (1, 2)
    assert found.covered == (2, 5)
    # wrong expect 6, 40, inf; the others 4, 12, 5: 6 beats two of three, the others all
    assert found.auroc == pytest.approx(8 / 9)


def test_rows_without_verdict_or_truth_are_left_out():
    assert trust([row(3.0, "", "", "", ""), row(math.inf, 1, "4", "2", "6", best_rigid_mm="")]) is None


def test_auroc():
    assert auroc([1, 2, 3, 4], [False, False, True, True]) == 1
    assert auroc([4, 3, 2, 1], [False, False, True, True]) == 0
    assert auroc([1, 1, 1, 1], [False, False, True, True]) == 0.5
    assert auroc([1, 2, 2, 3], [False, True, False, True]) == pytest.approx((1 + 0.5 + 2) / 4)
    assert math.isnan(auroc([1, 2], [True, True]))


def test_trust_table_joins_the_hard_regimes():
    others = [row(3.0, 1, "4", "2", "6", regime="H5"), row(3.0, 1, "4", "2", "6", regime="R1", method="quiz_unrefined")]
    others += [row(math.inf, 0, "60", "2", "300", regime="unrelated", best_rigid_mm="")]
    lines = trust_table(ROWS + others).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| H2", "| H5", "| unrelated", "| all H"]
    half = "0.500 (0.188-0.812; 3 of 6)"
    assert lines[2].startswith(f"| H2 | {half} | {half} | 0.889 | 0.333 (0.061-0.792; 1 of 3) |")
    assert lines[4] == "| unrelated | 0.000 (0.000-0.793; 0 of 1) |  |  |  |  |  |"
    assert "3 of 7" in lines[5]
    assert share(0, 0) == "" and trust_table([]) == ""


def answered(method, seed, transform, regime="R1"):
    numbers = "" if transform is None else " ".join(f"{x:.8g}" for x in transform.matrix[:3].flatten().tolist())
    cells = dict.fromkeys(COLUMNS, "") | {"volume": "ct", "regime": regime, "seed": str(seed), "method": method}
    return cells | {"fixed_to_moving": numbers, "body_centre_mm": "100 0 0"}


def test_both_directions_are_compared_at_the_body():
    """1 and 3 mm apart, and 2 degrees about the body's own middle; the fourth pair has no answer one way."""
    still, middle = RigidTransform.identity(), [100.0, 0.0, 0.0]
    others = [
        RigidTransform.about([0, 0, 0], [0.6, 0.8, 0], middle),
        RigidTransform.about([0, 0, 0], [0, 0, 3], middle),
        RigidTransform.about([0, 2, 0], [0, 0, 0], middle),
        None,
    ]
    rows = [answered("quiz", seed, still) for seed in range(4)]
    rows += [answered("quiz_reversed", seed, other) for seed, other in enumerate(others)]
    found = reversibility(rows)
    assert (found.n, found.within) == (3, 1)
    assert found.shift_mm[0] == pytest.approx(1, abs=1e-4) and found.turn_deg[0] == pytest.approx(0, abs=1e-3)
    assert found.shift_mm[1] == pytest.approx(2.8, abs=1e-3) and found.turn_deg[1] == pytest.approx(1.8, abs=1e-3)
    assert "| R1 | 3 | 1.00 | 2.80 | 0.00 | 1.80 | 0.333" in reversibility_table(rows)
    assert reversibility(rows[:4]) is None and reversibility_table(rows[:4]) == ""
    assert torch.equal(still.matrix, torch.eye(4, dtype=torch.float64))


def test_a_bare_verdict_is_judged_by_itself():
    """Two of three wrong results refused, one of two right ones: (2/3 + 1/2) / 2."""
    rows = [
        dict.fromkeys(COLUMNS, "")
        | {"regime": "H1", "method": "regix", "best_rigid_mm": "4", "tre_mean_mm": tre, "accepted": said}
        for tre, said in (("50", "0"), ("60", "0"), ("70", "1"), ("4.5", "1"), ("4.5", "0"))
    ]
    found = trust(rows)
    assert found.auroc == pytest.approx(7 / 12)
    assert (found.wrong_accepted, found.right_refused, found.covered) == ((1, 2), (1, 2), (0, 0))
    assert trust_lines(rows) == [] and trust_lines(rows, "regix")[0][0] == "H1"
