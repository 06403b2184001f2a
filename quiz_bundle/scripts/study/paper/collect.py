"""``run collect``: the small tables behind docs/results.md, taken from the outputs of the runs that measured them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...core.atomic import write_whole
from ...core.records import number, read_rows, write_rows
from ..benchmark import rows as benchmark_rows
from ..benchmark.table import machine, regime_of, reversibility_lines, summarise, trust_lines
from .rows import COLUMNS, key_of, read_results

CASE_COLUMNS = tuple(column for column in COLUMNS if column != "fixed_to_moving")
BENCHMARK_COLUMNS = (
    "regime",
    "method",
    "n",
    "references",
    "success10",
    "low",
    "high",
    "median_tre_mm",
    "median_best_rigid_mm",
    "median_ratio",
    "median_rotation_error_deg",
    "median_translation_error_mm",
    "median_seconds",
    "median_cpu_seconds",
    "accepted",
    "threads",
    "machine",
)
TRUST_COLUMNS = ("regime", "accepted", "failed", "auroc", "wrong_accepted", "right_refused", "covered")
REVERSIBILITY_COLUMNS = ("regime", "pairs", "mm_median", "mm_95", "deg_median", "deg_95", "within")
TRAINING_COLUMNS = ("network", "epochs", "iterations", "hours", "train_loss", "measure", "best", "best_epoch", "last")
TRAINING_COLUMNS += ("others_at_best", "machine")
CASES, BENCHMARK, TRUST, REVERSIBILITY, TRAINING = (
    f"{name}.csv" for name in ("tables", "benchmark", "trust", "reversibility", "networks")
)


def collect(
    output_dir: str,
    tables_dir: str = "eval/tables",
    benchmark_dir: str = "eval/benchmark",
    networks: Mapping[str, str] | None = None,
    reports: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write the tables whose source is there; others stay as they are.

    So do rows of the paper's tables whose method the run has none of in that table, and in the benchmark's tables lines
    of regimes and methods that it has no row of: another run measured them.

    Args:
        output_dir: made if it is not there.
        tables_dir: of ``run tables``: its rows without the maps.
        benchmark_dir: of ``run benchmark``: its summary, trust and reversibility.
        networks: folder of each trained network, by name, with the ``curve.csv`` of its training.
        reports: Markdown files that other runs wrote, by the name they get.

    Returns:
        The files written.
    """
    folder, written = Path(output_dir), []
    sources: list[tuple[str, Path, Sequence[str], Callable[[], list[dict]]]] = [
        (CASES, Path(tables_dir) / "rows.csv", CASE_COLUMNS, lambda: _cases(tables_dir, folder / CASES)),
    ]
    table = Path(benchmark_dir) / "cases.csv"
    if table.is_file():
        rows = read_rows(table, benchmark_rows.COLUMNS)
        sources += [
            (BENCHMARK, table, BENCHMARK_COLUMNS, lambda: _benchmark(rows)),
            (TRUST, table, TRUST_COLUMNS, lambda: _named(trust_lines(rows), TRUST_COLUMNS)),
            (REVERSIBILITY, table, REVERSIBILITY_COLUMNS, lambda: _named(reversibility_lines(rows), REVERSIBILITY_COLUMNS)),
        ]
    curves = {name: Path(place) / "curve.csv" for name, place in (networks or {}).items()}
    trained = {name: curve for name, curve in curves.items() if curve.is_file()}
    if trained:
        sources.append((TRAINING, next(iter(trained.values())), TRAINING_COLUMNS, lambda: _trainings(trained)))
    for name, source, columns, make in sources:
        if source.is_file():
            lines = _among(read_rows(folder / name, columns), make()) if columns[0] == "regime" else make()
            write_rows(folder / name, lines, columns)
            written.append(folder / name)
    for name, place in (reports or {}).items():
        if Path(place).is_file():
            written.append(folder / f"{name}.md")
            write_whole(written[-1], Path(place).read_text(encoding="utf-8"))
    return written


def _named(lines: Sequence[Sequence[str]], columns: Sequence[str]) -> list[dict]:
    return [dict(zip(columns, line, strict=True)) for line in lines]


def _among(earlier: Sequence[dict], lines: Sequence[dict]) -> list[dict]:
    """Lines of a run, each in the place of an earlier one of its regime and method or after the last one of its regime."""

    def key(line: Mapping) -> tuple:
        return line["regime"], line.get("method")

    fresh = {key(line): line for line in lines}
    merged = [fresh.pop(key(line), line) for line in earlier] + list(fresh.values())
    order = list(dict.fromkeys(line["regime"] for line in merged))
    return sorted(merged, key=lambda line: order.index(line["regime"]))


def _cases(tables_dir: str, earlier: Path) -> list[dict]:
    """The rows of a run of the tables, among those of methods that it did not run; all of a method's are of one run."""
    rows = [{column: row[column] for column in CASE_COLUMNS} for row in read_results(tables_dir)]
    fresh, ran = {key_of(row): row for row in rows}, {(row["table"], row["method"]) for row in rows}
    merged = []
    for row in read_rows(earlier, CASE_COLUMNS):
        if (row["table"], row["method"]) not in ran:
            merged.append(row)
        elif key_of(row) in fresh:
            merged.append(fresh.pop(key_of(row)))
    return merged + list(fresh.values())


def _benchmark(rows: Sequence[Mapping[str, str]]) -> list[dict]:
    """A line a regime and method."""
    threads = ", ".join(sorted({row["threads"] for row in rows}))
    references: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        references.setdefault((regime_of(row), row["method"]), set()).add(row["volume"])
    lines = []
    for one in summarise(rows):
        low, high = one["success10_interval"]
        accepted = "" if one["accepted"] is None else number(one["accepted"])
        cells = {name: number(one[name]) for name in BENCHMARK_COLUMNS if name.startswith("median")}
        cells |= {"success10": number(one["success10"]), "low": number(low), "high": number(high), "accepted": accepted}
        known = {"regime": one["regime"], "method": one["method"], "n": one["n"]}
        known["references"] = len(references[one["regime"], one["method"]])
        lines.append(known | cells | {"threads": threads, "machine": machine()})
    return lines


def _trainings(curves: Mapping[str, Path]) -> list[dict]:
    """A line a network: how long its training took and what it came to, by its first validation metric."""
    usual, lines = ("epoch", "iterations", "seconds", "step_cpu_seconds", "train_loss"), []
    for name, curve in curves.items():
        with curve.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        measure, *others = (key for key in rows[0] if key not in usual)
        best = min(rows, key=lambda row: float(row[measure]))
        last = rows[-1]
        cells = {"network": name, "epochs": last["epoch"], "iterations": last["iterations"], "measure": measure}
        cells |= {"hours": number(float(last["seconds"]) / 3600), "train_loss": last["train_loss"]}
        cells |= {"best": best[measure], "best_epoch": best["epoch"], "last": last[measure], "machine": machine()}
        cells["others_at_best"] = "; ".join(f"{key} {number(float(best[key]))}" for key in others if best[key])
        lines.append(cells)
    return lines
