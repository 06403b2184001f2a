"""Hard pairs drawn, registered and written down one by one; at last the constants that fit them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
from ...network.quiznet import QuizNet
from ...network.weights import weights_sha256
from ...registration.assess import SHIPPED, Constants, Evidence
from ...registration.register import Options, load_network, register
from ...synthetic.plan import Maker, check_names, ct_files, phantom_sources, volume_name
from ...synthetic.regimes import draw_case
from .fit import Judged, cross_validated, figures, fit_constants, judge

# In turn; the hard ones more often than those of the benchmark.
REGIMES = ("H2", "H1", "H5", "H4", "H3", "R2", "R5", "H1", "R1", "H3", "R4")
FIRST_PHANTOM = 101  # drawn neither by training nor by the benchmark
UNRELATED_EVERY = 7  # one pair of so many has another volume for its fixed scan
EVIDENCE = tuple(field.name for field in fields(Evidence))
PLANNED = ("number", "volume", "regime", "unrelated")
COLUMNS = (*PLANNED, "tre_mm", "best_rigid_mm", *EVIDENCE, "weights")


def run_calibration(
    volume: str | Sequence[str] | None = None,
    phantoms: int = 2,
    cases: int = 400,
    output_dir: str = "eval/calibration",
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
    sources += phantom_sources(as_integer("phantoms", phantoms), FIRST_PHANTOM)
    check_names("volume", map(volume_name, sources))
    if len(sources) < 3:
        raise InputError("volume", "three volumes or more, phantoms counted", str(len(sources)), "name more")
    torch.set_num_threads(as_integer("threads", threads))
    network = network or load_network(device=device)
    table, weights = Path(output_dir) / "evidence.csv", weights_sha256(network)[:12]
    for row in read_rows(table, COLUMNS):
        _check_planned(table, row, sources)
    rows = open_table(table, lambda row: row["weights"] == weights, COLUMNS)
    done = {int(row["number"]) for row in rows}
    todo = [index for index in range(as_integer("cases", cases)) if index not in done]
    maker = Maker(kept=len(sources))
    for index in tqdm(todo, desc="calibration", unit="pair"):
        for row in _registered(sources, index, maker, network):
            row["weights"] = weights
            append_row(table, row, COLUMNS)
            rows.append(row)
    known = [_judged(row) for row in rows]
    constants = fit_constants(known)
    write_whole(table.with_name("calibration.md"), markdown(known, constants))
    return constants


def _planned(sources: Sequence[str], index: int) -> dict[str, str]:
    """The first cells of a pair's row: what it is drawn from."""
    cells = (index, volume_name(sources[index % len(sources)]), REGIMES[index // len(sources) % len(REGIMES)])
    unrelated = index % UNRELATED_EVERY == 3
    return dict(zip(PLANNED, map(str, (*cells, int(unrelated))), strict=True))


def _check_planned(table: Path, row: dict[str, str], sources: Sequence[str]) -> None:
    """Refuse to mix evidence of other volumes, or in another order, with that of these."""
    known, planned = (", ".join(cells[name] for name in PLANNED) for cells in (row, _planned(sources, int(row["number"]))))
    if known != planned:
        expected, found = "evidence of the same volumes in the same order", f"{known} where it is {planned} now"
        raise InputError(table, expected, found, "move it away or name another output_dir")


def _registered(sources: Sequence[str], index: int, maker: Maker, network: QuizNet) -> Iterator[dict[str, str]]:
    """The row of a pair; none where the volume is too short for the regime, or nothing could be fitted."""
    planned, volume = _planned(sources, index), maker.volume(sources[index % len(sources)])
    try:
        case = draw_case(volume, planned["regime"], index)
    except InputError:
        return
    unrelated = planned["unrelated"] == "1"
    fixed: MetaTensor = maker.volume(sources[(index + 1) % len(sources)]) if unrelated else case.fixed
    found = register(fixed, case.moving, network=network, options=Options())
    if found.fixed_to_moving is None:
        return
    error = math.inf if unrelated else case.tre_mean_mm(found.fixed_to_moving)
    best = 0.0 if unrelated else case.best_rigid_mm
    cells = {"tre_mm": error, "best_rigid_mm": best, **found.verdict.evidence}
    yield planned | {key: number(float(value)) for key, value in cells.items()}


def _judged(row: dict[str, str]) -> Judged:
    evidence = Evidence(**{name: float(row[name]) for name in EVIDENCE})  # type: ignore[arg-type]
    return Judged(row["volume"], float(row["tre_mm"]), float(row["best_rigid_mm"]), evidence)


def markdown(cases: Sequence[Judged], fitted: Constants) -> str:
    """``calibration.md``: the constants, and what they and the shipped ones are worth."""
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
    return "\n\n".join(["# Calibration", words, "\n".join(lines), "Constants, for `assess.SHIPPED`:", constants]) + "\n"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
