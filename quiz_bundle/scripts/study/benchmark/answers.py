"""How far off single answers of the network are, one look at 6 mm, before any fit: on each part of a body that bends.

The pairs are those of the benchmark. The moving scan is asked about at points of its tissue; answers lie in the fixed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ...core.atomic import write_whole
from ...core.options import as_integer
from ...core.records import append_row, number, open_table
from ...core.rigid import fit_robust
from ...images.volumes import standardise
from ...network.quiznet import QuizNet
from ...network.weights import weights_sha256
from ...registration.matcher import Matcher
from ...registration.metrics import map_points
from ...registration.register import load_network
from ...synthetic.plan import Maker, Planned, ct_files, phantom_sources, plan_pairs
from ...synthetic.regimes import EvaluationCase
from ...training.validation import AGREES_MM, FEW, MANY, UNANIMOUS, WRONG_MM

COARSE_MM = 6.0
COLUMNS = ("volume", "regime", "seed", "part", "points", "median_mm", "within_15mm", "agree", "unanimous", "weights")


def single_answers(
    volumes: str | Sequence[str] | None = None,
    phantoms: int = 0,
    regimes: str | Sequence[str] = ("R1",),
    cases: int = 10,
    weights: str | None = None,
    output_dir: str = "eval/answers",
    seed: int = 0,
    device: str = "cpu",
) -> list[dict]:
    """Ask the network about points of pairs of known truth; writes ``answers.csv`` and ``answers.md`` into ``output_dir``.

    Args:
        volumes: CT file, folder of CTs, or several of either.
        phantoms: number of built-in phantoms besides.
        regimes: names in ``regime_recipes.REGIMES``.
        cases: pairs of each regime, drawn from the volumes in turn.
        weights: file of weights; the shipped ones when left out.
        output_dir: made if it is not there; pairs that are there already with these weights are not asked again.
        seed: of the first pair.
        device: where the network runs.

    Returns:
        The rows of ``answers.csv``: one for each pair and part.

    Raises:
        InputError: an unknown regime, a file that is no CT, weights of another network.
    """
    network = load_network(device=device, weights=weights)
    name = weights_sha256(network)[:12]
    sources = ct_files([volumes] if isinstance(volumes, str) else list(volumes or []))
    sources += phantom_sources(as_integer("phantoms", phantoms))
    names = [regimes] if isinstance(regimes, str) else list(regimes)
    plan = plan_pairs(sources, names, as_integer("cases", cases), as_integer("seed", seed))
    table = Path(output_dir) / "answers.csv"
    rows = open_table(table, lambda row: True, COLUMNS)
    done = {(*(row[column] for column in COLUMNS[:3]), row["weights"]) for row in rows}
    maker = Maker()
    for pair in tqdm([one for one in plan if (*one.name, name) not in done], desc="answers", unit="pair"):
        for row in _measure(pair, maker.make(pair), network):
            append_row(table, {**row, "weights": name}, COLUMNS)
            rows.append({**row, "weights": name})
    write_whole(Path(output_dir) / "answers.md", summary(rows))
    return rows


def errors_mm(case: EvaluationCase, network: QuizNet) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where one look at 6 mm puts moving points, where they belong (N, 3), fixed RAS mm, and the part of each (N,)."""
    fixed, moving = (standardise(volume, COARSE_MM) for volume in (case.fixed, case.moving))
    bends = len(case.all_moving_mm) > 0
    asked, truth = (case.all_moving_mm, case.all_fixed_mm) if bends else (case.body_moving_mm, case.body_fixed_mm)
    found = Matcher(network, fixed, moving).look_up(asked, backward=True).points_mm
    return found, truth, case.motion.followed(asked)


def _measure(pair: Planned, case: EvaluationCase, network: QuizNet) -> list[dict[str, str]]:
    found, truth, part = errors_mm(case, network)
    error = (found - truth).norm(dim=-1)
    moving = case.all_moving_mm if len(case.all_moving_mm) else case.body_moving_mm
    one, _ = fit_robust(moving, found, threshold_mm=AGREES_MM, generator=torch.Generator().manual_seed(0))
    agree = float(((map_points(one, moving) - found).norm(dim=-1) <= AGREES_MM).double().mean())
    unanimous = agree >= UNANIMOUS and float((error > WRONG_MM).double().mean()) > MANY
    rows = []
    for index, name in enumerate(case.motion.part_maps()):
        own = error[part == index]
        if len(own) < FEW:
            continue
        row = dict(zip(COLUMNS[:3], pair.name, strict=True)) | {"part": name, "points": str(len(own))}
        row |= {"median_mm": number(float(own.median())), "within_15mm": number(float((own <= WRONG_MM).double().mean()))}
        rows.append(row | {"agree": number(agree), "unanimous": str(int(unanimous))})
    return rows


def summary(rows: Sequence[dict]) -> str:
    """A table of regime, part and weights: the median over pairs of the median error, and the share wrongly unanimous."""
    lines = ["| weights | regime | part | pairs | median answer, mm | within 15 mm | wrongly unanimous |", "|---" * 7 + "|"]
    for key in sorted({(row["weights"], row["regime"], row["part"]) for row in rows}):
        own = [row for row in rows if (row["weights"], row["regime"], row["part"]) == key]
        median, within, wrong = (np.array([float(row[c]) for row in own]) for c in ("median_mm", "within_15mm", "unanimous"))
        cells = f"{len(own)} | {np.median(median):.1f} | {within.mean():.2f} | {wrong.mean():.2f}"
        lines.append(f"| {' | '.join(key)} | {cells} |")
    return "\n".join(lines) + "\n"
