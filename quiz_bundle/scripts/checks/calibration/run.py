"""Hard pairs drawn, registered and written down one by one; at last the constants that fit them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import torch
from monai.data import MetaTensor
from tqdm import tqdm

from ...core.atomic import write_whole
from ...core.errors import InputError
from ...core.options import as_integer
from ...core.proportions import share
from ...core.records import append_row, number, open_table, read_rows
from ...images.landmarks import read_datalist
from ...images.volumes import standardise
from ...network.quiznet import QuizNet
from ...network.weights import weights_sha256
from ...registration.assess import SHIPPED, Constants, Evidence, field_size
from ...registration.bound import region_of
from ...registration.register import Options, load_network, register
from ...synthetic.plan import REAL, Maker, Planned, check_names, ct_files, phantom_sources, volume_name
from ...synthetic.regimes import EvaluationCase, draw_case
from .fit import Judged, cross_validated, figures, fit_constants, judge
from .patients import Outcome, patients_table

# In turn; the hard ones more often than those of the benchmark.
REGIMES = ("H2", "H1", "H5", "H4", "H3", "R2", "R5", "H1", "R1", "H3", "R4")
FIRST_PHANTOM = 101  # drawn neither by training nor by the benchmark
UNRELATED_EVERY = 7  # one pair of so many has another volume for its fixed scan
EVIDENCE = tuple(field.name for field in fields(Evidence))
PLANNED = ("number", "volume", "regime", "unrelated")
COLUMNS = (*PLANNED, "region", "tre_mm", "best_rigid_mm", *EVIDENCE, "plausible", "weights")


def run_calibration(
    volume: str | Sequence[str] | None = None,
    phantoms: int = 2,
    cases: int = 400,
    output_dir: str = "eval/calibration",
    datalist: str | None = None,
    dataset_dir: str | None = None,
    threads: int = 2,
    device: str = "cpu",
    network: QuizNet | None = None,
) -> Constants:
    """Register hard pairs and fit the verdict's constants; writes ``evidence.csv`` and ``calibration.md``.

    Pairs that are there already are not made again, unless they were registered with other weights.

    Args:
        volume: CT files that the pairs are drawn from, in turn; none of them may be one that results are reported on.
        phantoms: built-in phantoms to draw from besides, drawn by neither training nor benchmark.
        cases: number of pairs.
        output_dir: made if it is not there.
        datalist: JSON of real pairs with landmarks, its "test" section, each of another patient. With it and no ``volume``
            no pair is drawn.
        dataset_dir: folder that its paths are relative to.
        threads: CPU threads.
        device: for the network.
        network: on its device; the shipped weights when left out.

    Returns:
        The constants, to be put into ``assess.SHIPPED``.

    Raises:
        InputError: no such file, two of one name, fewer than three volumes in all, no pair to fit to, another table in
            the folder, or one of other volumes.
    """
    sources = ct_files([volume] if isinstance(volume, str) else list(volume or []))
    for file in sources:
        if not Path(file).exists():
            raise InputError(file, "a CT file", "no such file", "check the path")
    real = read_datalist(datalist, dataset_dir).get("test", []) if datalist else []
    drawn = as_integer("cases", cases) if sources or not real else 0
    if drawn:
        sources += phantom_sources(as_integer("phantoms", phantoms), FIRST_PHANTOM)
        check_names("volume", map(volume_name, sources))
        if len(sources) < 3:
            raise InputError("volume", "three volumes or more, phantoms counted", str(len(sources)), "name more")
    pairs = [_planned_real(pair, index) for index, pair in enumerate(real)]
    pairs += [_planned(sources, index) for index in range(drawn)]
    torch.set_num_threads(as_integer("threads", threads))
    network = network or load_network(device=device)
    table, weights = Path(output_dir) / "evidence.csv", weights_sha256(network)[:12]
    for row in read_rows(table, COLUMNS):
        _check_planned(table, row, sources, pairs)
    rows = open_table(table, lambda row: row["weights"] == weights, COLUMNS)
    done = {row["number"] for row in rows}
    maker = Maker(kept=max(len(sources), 1))
    for planned in tqdm([pair for pair in pairs if pair["number"] not in done], desc="calibration", unit="pair"):
        made = _real(planned, real) if planned["regime"] == REAL else _drawn(planned, sources, maker)
        row = None if made is None else _registered(planned, *made, network)
        if row is not None:
            row["weights"] = weights
            append_row(table, row, COLUMNS)
            rows.append(row)
    known = [_judged(row) for row in rows]
    constants = fit_constants(known)
    write_whole(table.with_name("calibration.md"), markdown(known, constants, [row["region"] for row in rows]))
    return constants


def _planned(sources: Sequence[str], index: int) -> dict[str, str]:
    """The first cells of a pair's row: what it is drawn from."""
    cells = (index, volume_name(sources[index % len(sources)]), REGIMES[index // len(sources) % len(REGIMES)])
    unrelated = index % UNRELATED_EVERY == 3
    return dict(zip(PLANNED, map(str, (*cells, int(unrelated))), strict=True))


def _planned_real(pair: Mapping, index: int) -> dict[str, str]:
    """The first cells of a real pair's row."""
    name = str(pair.get("name") or Path(pair["fixed"]).parent.name)
    return dict(zip(PLANNED, (f"{REAL}-{index}", name, REAL, "0"), strict=True))


def _check_planned(table: Path, row: dict[str, str], sources: Sequence[str], pairs: Sequence[dict[str, str]]) -> None:
    """Refuse to mix evidence of other volumes, or in another order, with that of these."""
    planned = next((pair for pair in pairs if pair["number"] == row["number"]), None)
    if planned is None:  # fewer pairs are asked for than there are
        planned = _planned(sources, int(row["number"])) if sources and row["regime"] != REAL else row
    known, wanted = (", ".join(cells[name] for name in PLANNED) for cells in (row, planned))
    if known != wanted:
        expected, found = "evidence of the same volumes in the same order", f"{known} where it is {wanted} now"
        raise InputError(table, expected, found, "move it away or name another output_dir")


def _drawn(planned: dict[str, str], sources: Sequence[str], maker: Maker) -> tuple[EvaluationCase, MetaTensor] | None:
    """A case and its fixed scan; None where the volume is too short for the regime."""
    index = int(planned["number"])
    volume = maker.volume(sources[index % len(sources)])
    try:
        case = draw_case(volume, planned["regime"], index)
    except InputError:
        return None
    return case, maker.volume(sources[(index + 1) % len(sources)]) if planned["unrelated"] == "1" else case.fixed


def _real(planned: dict[str, str], pairs: Sequence[Mapping]) -> tuple[EvaluationCase, MetaTensor]:
    """A clinic's own pair as a case, and its fixed scan.

    Raises:
        InputError: a file is bad, or there are no landmarks.
    """
    pair = pairs[int(planned["number"].removeprefix(f"{REAL}-"))]
    case = Maker().make(Planned(planned["volume"], REAL, 0, 0, pair=pair))
    return case, case.fixed


def _registered(planned: dict[str, str], case: EvaluationCase, fixed: MetaTensor, network: QuizNet) -> dict[str, str] | None:
    """The row of a pair; None where nothing could be fitted."""
    found = register(fixed, case.moving, network=network, options=Options())
    if found.fixed_to_moving is None:
        return None
    unrelated, verdict = planned["unrelated"] == "1", found.verdict
    larger = max((fixed, case.moving), key=field_size)
    cells = {
        "tre_mm": math.inf if unrelated else case.tre_mean_mm(found.fixed_to_moving),
        "best_rigid_mm": 0.0 if unrelated else case.best_rigid_mm,
        **verdict.evidence,
        "plausible": not verdict.scan_doubts and not (verdict.anatomy and verdict.anatomy.doubt),
    }
    named = planned | {"region": region_of(standardise(larger, Options().search.spacing)) or ""}
    return named | {key: number(float(value)) for key, value in cells.items()}


def _judged(row: dict[str, str]) -> Judged:
    evidence = Evidence(**{name: float(row[name]) for name in EVIDENCE})  # type: ignore[arg-type]
    return Judged(row["volume"], float(row["tre_mm"]), float(row["best_rigid_mm"]), evidence, row["plausible"] == "1")


def markdown(cases: Sequence[Judged], fitted: Constants, regions: Sequence[str]) -> str:
    """``calibration.md``: the constants, what they and the shipped ones are worth, and what the patients carry.

    Args:
        cases: registered pairs.
        fitted: the constants that fit them.
        regions: of the body, of each.
    """
    head = ("verdict by", "failed", "AUROC", "wrong of accepted", "refused of under 5 mm", "within the band", "unrelated")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, rows in (
        ("the shipped constants", judge(cases, SHIPPED)),
        ("constants fitted to these pairs", judge(cases, fitted)),
        ("constants fitted to the other volumes' pairs", cross_validated(cases)),
    ):
        trusted, unrelated = figures(rows, cases)
        cells = [share(*trusted.failed), f"{trusted.auroc:.3f}"]
        cells += [share(*part) for part in (trusted.wrong_accepted, trusted.right_refused, trusted.covered, unrelated)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    constants = "\n".join(f"    {name}: {_numbers(value)}" for name, value in asdict(fitted).items())
    words = (
        f"{len(cases)} pairs of {len({case.volume for case in cases})} volumes. Failed: TRE over 10 mm, unrelated scans "
        "included; shares with their Wilson intervals; unrelated: accepted, of all."
    )
    patients = ["## Patients, by the shipped constants", patients_table(_outcomes(cases, regions))]
    parts = ["# Calibration", words, "\n".join(lines), "Constants, for `assess.SHIPPED`:", constants, *patients]
    return "\n\n".join(parts) + "\n"


def _outcomes(cases: Sequence[Judged], regions: Sequence[str]) -> list[Outcome]:
    """The verdicts by the shipped constants on the pairs of one patient."""
    result = []
    for case, region, row in zip(cases, regions, judge(cases, SHIPPED), strict=True):
        if not case.unrelated:
            result.append(Outcome(region, case.volume, case.tre_mm, float(row["expected_tre_mm"]), row["accepted"] == "1"))
    return result


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
