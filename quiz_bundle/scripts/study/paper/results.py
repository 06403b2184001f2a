"""``run results``: docs/results.md from the CSV files in docs/results."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...core.atomic import write_whole
from ...core.errors import InputError
from .collect import BENCHMARK, CASES, REVERSIBILITY, TRAINING, TRUST
from .markdown import LEGEND, grid, tables_of
from .names import ORDER, SETS, spoken
from .order import order_of
from .prose import COMMANDS, DATA, DIFFERENCES, HEAD, ORDER_SAID, STEPS_SAID
from .published import EXPLAINED, MISPRINTS
from .summary import summary

ABLATION, STEPS = "ablation.csv", "steps.csv"
REPORTS = ("calibration", "speed", "cost")  # as the runs of these names wrote them
FEWEST_SLOW = 10  # pairs a table that SyN should have run on
TITLES = {
    "phantom": "Tables 1 and 2: EBRT/BT pairs of the phantom cohort",
    "known_truth": "Tables 1 and 2: EBRT/BT-like pairs from real CTs",
    "cbct": "Table 3: CT/CBCT-like pairs from real CTs",
}


def write_results(results_dir: str, page: str) -> Path:
    """Write the page of results.

    Args:
        results_dir: folder of the CSV files.
        page: where to write; its folder is there.

    Raises:
        InputError: there are no results.
    """
    if not Path(results_dir).is_dir():
        raise InputError(results_dir, "a folder of results", "none", "do `run collect` first")
    write_whole(Path(page), document(Path(results_dir)))
    return Path(page)


def document(folder: Path) -> str:
    """The whole page from the CSV files in a folder; a section without its file says so."""
    cases = _read(folder / CASES)
    parts = ["# Results", HEAD.strip()]
    parts += summary(cases, *(_read(folder / name) for name in (BENCHMARK, TRUST, ABLATION)))
    parts += ["## The paper's tables", _block(COMMANDS["tables"]), LEGEND, EXPLAINED]
    parts.append("\n".join(f"- [{mark}] {words}" for mark, words in MISPRINTS.items()))
    for table in TITLES:
        mine = [row for row in cases if row["table"] == table]
        parts += [f"### {TITLES[table]}", DATA[table]]
        parts += [*tables_of(table, mine), _measured(mine)] if mine else ["Not measured yet."]
    if ahead := order_of(cases):
        parts += ["### The paper's order of methods", ORDER_SAID.strip(), ahead]
    parts += ["### What is missing", missing(cases)]
    parts += ["## Differences from the paper", DIFFERENCES.strip()]
    parts += _networks(_read(folder / TRAINING))
    parts += _ablation(_read(folder / ABLATION))
    parts += _steps(_read(folder / STEPS))
    parts += _benchmark(folder)
    for file in (folder / f"{name}.md" for name in REPORTS):
        if file.is_file():
            parts.append(re.sub(r"^#", "##", file.read_text(encoding="utf-8").strip(), flags=re.M))
    return "\n\n".join(parts) + "\n"


def _read(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _block(command: str) -> str:
    return f"```bash\n{command}\n```"


def _measured(rows: Sequence[Mapping[str, str]]) -> str:
    """How the rows were measured."""
    machines, threads = (", ".join(sorted({row[name] for row in rows if row[name]})) for name in ("machine", "threads"))
    return (
        f"Measured on: {machines}; threads of a method: {threads}; seed {', '.join(sorted({row['seed'] for row in rows}))}."
    )


def missing(rows: Sequence[Mapping[str, str]]) -> str:
    """Which methods lack in which table, and where SyN ran on too few pairs."""
    lines = []
    for table in TITLES:
        counts: dict[str, int] = {}
        for row in rows:
            if row["table"] == table:
                counts[row["method"]] = counts.get(row["method"], 0) + 1
        if absent := [spoken(method) for method in ORDER if method not in counts]:
            lines.append(f"- {SETS[table]}: no row of {'; '.join(absent)}.")
        for method, count in counts.items():
            if "ants_syn" in method and count < FEWEST_SLOW:
                lines.append(f"- {SETS[table]}: {spoken(method)} on {count} pairs only.")
    return "\n".join(lines) or "Nothing: every method ran in every table, those with SyN on ten pairs or more."


def _networks(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """How the deformable networks were trained."""
    parts = ["## Training of VoxelMorph and TransMorph", DATA["networks"], _block(COMMANDS["networks"])]
    if not rows:
        return [*parts, "Not measured yet."]
    head = (
        "network",
        "epochs",
        "iterations",
        "hours",
        "training loss at the end",
        "validation TRE, mm: best",
        "in epoch",
        "last",
        "other figures at the best",
    )
    names = ("epochs", "iterations", "hours", "train_loss", "best", "best_epoch", "last", "others_at_best")
    lines = [[spoken(row["network"]), *(_short(row[name]) for name in names)] for row in rows]
    return [*parts, grid(head, lines), f"Machine: {_machines(rows)}, shared with other work."]


def _ablation(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The ablation of the paper's training, as its CSV has it."""
    parts = ["## Training as in the paper, and its ablation", DATA["ablation"], _block(COMMANDS["ablation"])]
    if not rows:
        return [*parts, "Not measured yet."]
    return [*parts, grid(tuple(rows[0]), [[_short(value) for value in row.values()] for row in rows])]


def _steps(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The ladder from the paper's training to ours: a line a step, a column a data set."""
    parts = ["## From the paper to ours, one change at a time", DATA["steps"], _block(COMMANDS["steps"])]
    if not rows:
        return [*parts, "Not measured yet."]
    tables = [name for name in SETS if f"{name}_n" in rows[0]]
    head = ("step", "change", "iterations", "kept at", "CPU s an iteration")
    lines = []
    for row in rows:
        cells = [row["step"] and str(int(row["step"]) + 1), row["change"], row["iterations"], row["kept_at"]]
        cells.append(_short(row["cpu_seconds_an_iteration"]))
        for table in tables:
            mean, spread, median = (_tenths(row[f"{table}_{name}_mm"]) for name in ("mean", "sd", "median"))
            cells.append(f"{mean} ({spread}), {median}; {row[f'{table}_within_10_mm']} of {row[f'{table}_n']}")
        lines.append(cells)
    return [*parts, grid((*head, *(SETS[table] for table in tables)), lines), STEPS_SAID.strip()]


def _tenths(cell: str) -> str:
    return f"{float(cell):.1f}" if cell else ""


def _benchmark(folder: Path) -> list[str]:
    """The benchmark: successes, errors, trust, reversibility."""
    rows = _read(folder / BENCHMARK)
    parts = ["## Benchmark by regime", DATA["benchmark"], _block(COMMANDS["benchmark"])]
    if not rows:
        return [*parts, "Not measured yet."]
    head = (
        "regime",
        "method",
        "n",
        "references",
        "success@10mm (95 %)",
        "TRE, mm, median",
        "best rigid",
        "ratio",
        "turned by, deg",
        "off by, mm",
        "seconds",
        "CPU seconds",
        "accepted",
    )
    lines = []
    for row in rows:
        success = f"{float(row['success10']):.2f} ({float(row['low']):.2f}-{float(row['high']):.2f})"
        before, after = ("tre_mm", "best_rigid_mm"), ("rotation_error_deg", "translation_error_mm", "seconds", "cpu_seconds")
        cells = [_short(row[f"median_{name}"]) for name in before] + [_ratio(row["median_ratio"])]
        cells += [_short(row[f"median_{name}"]) for name in after]
        lines.append(
            [
                *(row[name] for name in ("regime", "method", "n", "references")),
                success,
                *cells,
                _short(row["accepted"]),
            ]
        )
    parts.append(grid(head, lines))
    if trusted := _read(folder / TRUST):
        words = (
            "regime",
            "accepted",
            "over 10 mm",
            "AUROC",
            "wrong of accepted",
            "refused of under 5 mm",
            "within the band",
        )
        parts += ["### Whom to trust", grid(words, [list(row.values()) for row in trusted])]
    if apart := _read(folder / REVERSIBILITY):
        words = ("regime", "pairs", "mm, median", "mm, 95 %", "deg, median", "deg, 95 %", "under 1.7 mm and 1 degree")
        parts += ["### Reversibility", grid(words, [list(row.values()) for row in apart])]
    threads = sorted({number for row in rows for number in row["threads"].split(", ")})
    return [*parts, f"Machine: {_machines(rows)}; threads: {', '.join(threads)}."]


def _machines(rows: Sequence[Mapping[str, str]]) -> str:
    return "; ".join(sorted({row["machine"] for row in rows}))


def _ratio(cell: str) -> str:
    """A ratio near one with three digits behind the point, so that 1.003 and 1.011 are two."""
    return f"{float(cell):.3f}" if cell and float(cell) < 10 else _short(cell)


def _short(cell: str) -> str:
    """A number with three digits or, from a hundred on, none behind the point; other words as they are."""
    try:
        value = float(cell)
    except ValueError:
        return cell
    return cell if cell.lstrip("-").isdigit() else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
