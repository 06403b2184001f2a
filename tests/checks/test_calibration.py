"""The verdict's constants: found again where they are known, and judged on volumes that they were not fitted to."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from scripts.checks.calibration import run, run_calibration
from scripts.checks.calibration.fit import Judged, cross_validated, figures, fit_constants, judge
from scripts.checks.calibration.run import COLUMNS
from scripts.core.errors import InputError
from scripts.core.records import read_rows, write_rows
from scripts.images.volumes import make_volume
from scripts.network.weights import weights_sha256
from scripts.registration.assess import SHIPPED, Constants, Evidence, lost_signs
from scripts.registration.register import load_network
from scripts.synthetic.plan import Maker

TRUE = Constants((9.0, -8.0, -4.0, -3.0, -2.0), (1.0, 0.6, -0.3), (0.8, 1.25))
PHANTOMS = ["phantom-101", "phantom-102", "phantom-103"]
NO_NETWORK = {"network": torch.nn.Linear(2, 2), "threads": torch.get_num_threads()}
GOOD = Evidence(500, 0.9, 40.0, 0.9, 0.95, 2.5, 3.0, 1.0, 1.0)


def drawn(count, seed=0):
    """Cases whose chance to be lost and whose error follow ``TRUE``, from four volumes."""
    rng, cases = np.random.default_rng(seed), []
    for number in range(count):
        whole, ratio, local = rng.uniform(0.1, 0.95, 3)
        bending = rng.uniform(0.5, 12.0)
        shares = {"correlation": whole, "inlier_ratio": ratio, "local_correlation": local}
        evidence = replace(GOOD, bending_mm=bending, peak_ratio=rng.uniform(1.0, 3.0), **shares)
        odds = sum(w * s for w, s in zip(TRUE.lost_odds, lost_signs(evidence), strict=True))
        lost = rng.random() < 1 / (1 + math.exp(-odds))
        right = math.exp(1.0 + 0.6 * math.log(bending) - 0.3 * ratio + rng.normal() * 0.1)
        cases.append(Judged(f"ct{number % 4}", 80.0 if lost else right, 3.0, evidence))
    return cases


def test_constants_are_found_again():
    found = fit_constants(drawn(4000))
    assert found.lost_odds == pytest.approx(TRUE.lost_odds, rel=0.25)
    assert found.right_log_mm == pytest.approx(TRUE.right_log_mm, abs=0.03)
    assert found.right_band == pytest.approx((math.exp(-0.1645), math.exp(0.1645)), abs=0.02)  # 1.645 sigma


def test_lost_is_over_20_mm_and_over_one_and_a_half_times_the_best():
    lost = [Judged("ct", tre, best, GOOD).lost for tre, best in ((19.0, 3.0), (21.0, 3.0), (21.0, 15.0), (math.inf, 0.0))]
    assert lost == [False, True, False, True]


def test_verdicts_by_hand():
    """Two right ones, of which one looks lost; two lost ones, of which one looks right and shows another patient."""
    poor = replace(GOOD, peak_ratio=1.0, correlation=0.1, inlier_ratio=0.0, local_correlation=0.1)
    cases = [Judged("a", 4.0, 3.0, GOOD), Judged("a", 4.0, 3.0, poor)]
    cases += [Judged("b", 50.0, 3.0, poor), Judged("b", math.inf, 0.0, GOOD)]
    trusted, unrelated = figures(judge(cases, SHIPPED), cases)
    assert trusted.failed == (2, 4) and trusted.wrong_accepted == (1, 2) and trusted.right_refused == (1, 2)
    assert unrelated == (1, 1)


def test_each_volume_is_judged_by_the_others():
    cases = drawn(400)
    rows = cross_validated(cases)
    held = [number for number, case in enumerate(cases) if case.volume == "ct2"]
    others = fit_constants([case for case in cases if case.volume != "ct2"])
    for number, expected in zip(held, judge([cases[number] for number in held], others), strict=True):
        found = {name: float(value) for name, value in rows[number].items()}
        assert found == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-4)


def test_a_run_writes_its_pairs_and_goes_on(tmp_path):
    """59 made-up rows, so that there are both outcomes, and one pair that is really made."""
    options = {"phantoms": 3, "output_dir": str(tmp_path), "threads": torch.get_num_threads()}
    shipped = weights_sha256(load_network())[:12]
    made_up = [_row(number, case, shipped) for number, case in enumerate(drawn(60)) if number != 4]
    write_rows(tmp_path / "evidence.csv", made_up, COLUMNS)
    before = (tmp_path / "evidence.csv").read_text()
    run_calibration(cases=60, **options)
    after = (tmp_path / "evidence.csv").read_text()
    assert after.startswith(before) and len(after.splitlines()) == len(before.splitlines()) + 1
    cells = dict(zip(COLUMNS, after.splitlines()[-1].split(","), strict=True))
    assert (cells["number"], cells["volume"], cells["regime"], cells["unrelated"]) == ("4", "phantom-102", "H1", "0")
    assert float(cells["tre_mm"]) >= 0.9 * float(cells["best_rigid_mm"]) > 1
    assert "| the shipped constants |" in (tmp_path / "calibration.md").read_text()


def _row(number, case, weights):
    cells = {"tre_mm": case.tre_mm, "best_rigid_mm": case.best_rigid_mm, **asdict(case.evidence)}
    said = {"region": "", "plausible": "1", "weights": weights}
    return run._planned(PHANTOMS, number) | {key: str(value) for key, value in cells.items()} | said


def test_rows_of_other_weights_are_made_again_and_those_of_other_volumes_refused(tmp_path, monkeypatch):
    made = []

    def registered(planned, case, fixed, network):
        made.append(int(planned["number"]))
        return _row(made[-1], cases[made[-1]], "")

    monkeypatch.setattr(run, "_registered", registered)
    monkeypatch.setattr(run, "_drawn", lambda *_: (None, None))
    table, cases, own = tmp_path / "evidence.csv", drawn(60), weights_sha256(NO_NETWORK["network"])[:12]
    write_rows(table, [_row(number, case, own if number < 57 else "other") for number, case in enumerate(cases)], COLUMNS)
    options = {"cases": 60, "output_dir": str(tmp_path), **NO_NETWORK}
    with pytest.raises(InputError, match="found 3, phantom-101, H1, 1 where it is 3, phantom-104, H2, 1 now; move it away"):
        run_calibration(phantoms=4, **options)
    assert made == [] and len(read_rows(table, COLUMNS)) == 60  # refused before anything is thrown away
    run_calibration(phantoms=3, **options)
    assert made == [57, 58, 59] and {row["weights"] for row in read_rows(table, COLUMNS)} == {own}


def test_a_table_without_weights_is_refused(tmp_path):
    (tmp_path / "evidence.csv").write_text(",".join(COLUMNS[:-1]) + "\n")
    with pytest.raises(InputError, match=r"evidence\.csv: expected a table of this benchmark, found the columns number,"):
        run_calibration(phantoms=3, output_dir=str(tmp_path), **NO_NETWORK)


def test_a_damaged_ct_ends_the_run_and_a_short_one_is_passed_over(tmp_path, monkeypatch):
    file = tmp_path / "ct.nii.gz"
    file.write_bytes(b"no CT")
    with pytest.raises(InputError, match=r"ct\.nii\.gz"):
        run_calibration(str(file), output_dir=str(tmp_path / "out"), **NO_NETWORK)
    volume = make_volume(torch.full((1, 20, 20, 10), -1000.0), torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0])))
    monkeypatch.setattr(Maker, "volume", lambda self, source: volume)
    assert run._drawn(run._planned(PHANTOMS, 0), PHANTOMS, Maker()) is None


def test_a_volume_cannot_be_judged_by_itself():
    with pytest.raises(InputError, match="pairs to fit to, found no pair"):
        cross_validated([replace(case, volume="ct") for case in drawn(8)])
    with pytest.raises(InputError, match="found only lost ones"):
        fit_constants([Judged("ct", 50.0, 3.0, GOOD)])


def test_two_volumes_of_one_name(tmp_path):
    files = [tmp_path / patient / "ct.nii.gz" for patient in ("p01", "p02")]
    for file in files:
        file.parent.mkdir()
        file.touch()
    with pytest.raises(InputError, match=r"2 called 'ct\.nii\.gz'"):
        run_calibration(list(map(str, files)), output_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_too_few_volumes(tmp_path):
    with pytest.raises(InputError, match="three volumes or more"):
        run_calibration(phantoms=2, output_dir=str(tmp_path))


def test_a_clinics_own_pairs_are_patients_of_their_own(tmp_path, monkeypatch):
    """Three pairs of a datalist and no volume: nothing is drawn, each is one patient, and three carry no bound."""
    pairs = [{"name": f"p{number}", "fixed": "f.nii", "moving": "m.nii", "landmarks": "l.csv"} for number in range(3)]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    case, made = drawn(1)[0], []

    def registered(planned, case_of_pair, fixed, network):
        made.append(planned)
        return planned | {key: value for key, value in _row(0, replace(case, tre_mm=4.0), "").items() if key not in planned}

    monkeypatch.setattr(run, "_real", lambda planned, real: (real[int(planned["number"][-1])], None))
    monkeypatch.setattr(run, "_registered", registered)
    run_calibration(datalist=str(tmp_path / "pairs.json"), output_dir=str(tmp_path / "out"), **NO_NETWORK)
    assert [(row["number"], row["volume"]) for row in made] == [("real-0", "p0"), ("real-1", "p1"), ("real-2", "p2")]
    assert {row["regime"] for row in made} == {"real"}
    assert "| other | 3 | " in (tmp_path / "out" / "calibration.md").read_text()
