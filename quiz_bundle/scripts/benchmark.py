"""The benchmark: the same cases for every method, a row a result in a CSV file, a summary in Markdown.

Rows that are there already are not computed again, so that an interrupted run goes on where it stopped and a method can
be added later.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from monai.data import MetaTensor
from tqdm import tqdm

from .benchmark_table import REAL, machine, markdown, summarise
from .errors import InputError
from .landmarks import read_datalist, read_landmarks
from .network import QuizNet
from .peers import PEERS, Peer, PeerResult, elastix_package
from .regimes import REGIMES, EvaluationCase, draw_case, real_case
from .register import Options, load_network, register
from .resume import weights_sha256
from .rigid import angle_deg
from .volumes import load_volume

LIMIT_MM = 10.0
COLUMNS = (
    "volume",
    "regime",
    "seed",
    "method",
    "tre_mean_mm",
    "best_rigid_mm",
    "ratio",
    "success10",
    "rotation_error_deg",
    "translation_error_mm",
    "seconds",
    "cpu_seconds",
    "accepted",
    "expected_tre_mm",
    "start_mm",
    "turn_deg",
    "overlap",
    "threads",
    "weights",
    "note",
)
KEY = ("volume", "regime", "seed", "method")
QUIZ: dict[str, dict] = {  # what the variants ask of register
    "quiz_matches": {"refine": False},
    "quiz_translation": {"refine": False, "transform": "translation"},
    "quiz": {"refine": True},
}


def run_benchmark(
    volume: str | Sequence[str] | None = None,
    regimes: str | Sequence[str] = ("R1",),
    cases: int = 40,
    output_dir: str = "eval/benchmark",
    methods: str | Sequence[str] = ("centres", "elastix", *QUIZ),
    datalist: str | None = None,
    seed: int = 0,
    threads: int = 2,
    device: str = "cpu",
    network: QuizNet | None = None,
) -> list[dict]:
    """Run every method on the same cases; writes ``cases.csv`` and ``summary.md`` into ``output_dir``.

    Args:
        volume: CT file, or files, from which pairs of known truth are drawn: ``cases`` from each in every regime.
        regimes: names in ``regimes.REGIMES``.
        cases: number of cases; their seeds are ``seed``, ``seed`` + 1, ...
        output_dir: made if it is not there.
        methods: names in ``peers.PEERS`` and ``QUIZ``.
        datalist: JSON of real pairs with landmarks; its "test" section.
        seed: of the first case.
        threads: CPU threads for each method.
        device: for QUIZ.
        network: for QUIZ, on its device; the shipped weights when left out.

    Returns:
        One dictionary per regime and method, see ``summarise``.

    Raises:
        InputError: nothing to run on, an unknown regime or method, a package not installed, a file that is no CT.
    """
    volumes = [volume] if isinstance(volume, str | Path) else list(volume or [])
    regimes, methods = _names("regimes", regimes, REGIMES), _names("methods", methods, {**PEERS, **QUIZ})
    if not volumes and not datalist:
        raise InputError("volume", "a CT file, or a datalist of real pairs", "neither", "give --volume or --datalist")
    if any(name.startswith("elastix") for name in methods):
        elastix_package()
    folder = Path(output_dir)
    table = folder / "cases.csv"
    rows = _read_rows(table)
    weights = ""
    if any(name in QUIZ for name in methods):
        network = network or load_network(device=device)
        weights = weights_sha256(network)[:12]
        rows = [row for row in rows if row["method"] not in QUIZ or row["weights"] == weights]
    done = {tuple(row[column] for column in KEY) for row in rows}
    real_pairs = read_datalist(datalist).get("test", []) if datalist else []
    plan = [(file, regime, seed + number) for file in volumes for regime in regimes for number in range(cases)]
    names = [(Path(file).name, regime, str(number)) for file, regime, number in plan]
    names += [(_pair_name(pair), REAL, "0") for pair in real_pairs]
    wanted = [[method for method in methods if (*name, method) not in done] for name in names]
    torch.set_num_threads(threads)
    _write_rows(table, rows)
    bar = tqdm(total=sum(map(len, wanted)), desc="benchmark", unit="run")
    with bar, table.open("a", newline="", encoding="utf-8") as stream:
        for name, todo, case in zip(names, wanted, _cases(plan, real_pairs, wanted), strict=True):
            if case is not None:
                _check_same(table, name, case, rows)
            for method in todo:
                bar.set_postfix_str(f"{name[1]} {name[2]} {method}")
                start = time.process_time()
                result = _run(method, case, threads, network)
                spent = {"cpu_seconds": _number(time.process_time() - start), "threads": str(threads)}
                spent["weights"] = weights if method in QUIZ else ""
                row = dict(zip(KEY, (*name, method), strict=True)) | _measure(case, result) | spent
                csv.DictWriter(stream, COLUMNS, lineterminator="\n").writerow(row)
                stream.flush()
                rows.append(row)
                bar.update()
    summary = summarise(rows)
    used = ", ".join(sorted({row["threads"] for row in rows}))
    _replace(folder / "summary.md", markdown(summary, f"{machine()}; threads: {used}"))
    return summary


def _check_same(table: Path, name: tuple[str, str, str], case: EvaluationCase, rows: Sequence[Mapping]) -> None:
    """Refuse to mix results of different cases under one name: another CT of that name, another version of the draws.

    Raises:
        InputError: an earlier row started from another place, or had another best rigid map.
    """
    for row in rows:
        start, best = float(row["start_mm"]), float(row["best_rigid_mm"])
        differs = abs(start - case.start_mm) > 0.5 or abs(best - case.best_rigid_mm) > 0.05 * best + 1e-6
        if tuple(row[column] for column in KEY[:3]) == name and differs:
            found = f"{' '.join(name)} starting at {start:.1f} mm, now {case.start_mm:.1f} mm (best {best:.2f} mm, "
            found += f"now {case.best_rigid_mm:.2f} mm)"
            raise InputError(table, "results on the same cases", found, "move it away or name another output_dir")


def _names(option: str, given: str | Sequence[str], known: Mapping[str, object]) -> list[str]:
    given = [given] if isinstance(given, str) else list(given)
    for name in given:
        if name not in known:
            raise InputError(option, f"names among {', '.join(known)}", repr(name), "choose from these")
    return given


def _pair_name(pair: Mapping) -> str:
    return str(pair.get("name") or Path(pair["fixed"]).parent.name)


def _cases(
    plan: Iterable[tuple[str, str, int]], real_pairs: Iterable[Mapping], wanted: Sequence[Sequence[str]]
) -> Iterator[EvaluationCase | None]:
    """The cases in order, each made when its turn comes; None where nothing is wanted of it."""
    todo = iter(wanted)
    loaded: tuple[str, MetaTensor] | None = None
    for file, regime, number in plan:
        if not next(todo):
            yield None
            continue
        if loaded is None or loaded[0] != file:
            loaded = file, load_volume(file)
        yield draw_case(loaded[1], regime, number)
    for pair in real_pairs:
        if not next(todo):
            yield None
            continue
        if "landmarks" not in pair:
            raise InputError("datalist", "landmarks with each pair", f"none with {_pair_name(pair)}", "add them")
        fixed, moving = load_volume(pair["fixed"]), load_volume(pair["moving"])
        landmarks = read_landmarks(pair["landmarks"], fixed.affine, moving.affine)
        yield real_case(_pair_name(pair), fixed, moving, landmarks)


def _run(method: str, case: EvaluationCase, threads: int, network: QuizNet | None) -> tuple[PeerResult, dict]:
    """A method's result, and what it says about itself."""
    if method in PEERS:
        peer: Peer = PEERS[method]
        return peer(case.fixed, case.moving, case.seed, threads), {}
    options = Options.of(seed=case.seed, **QUIZ[method])
    found = register(case.fixed, case.moving, network=network, options=options)
    says = {"accepted": int(found.verdict.accepted), "expected_tre_mm": _number(found.verdict.expected_tre_mm)}
    return PeerResult(found.fixed_to_moving, found.seconds["total"], "; ".join(found.verdict.reasons)), says


def _measure(case: EvaluationCase, answer: tuple[PeerResult, dict]) -> dict[str, str]:
    """One row's numbers: the errors of a result against the best rigid map of the case."""
    result, says = answer
    found = result.fixed_to_moving
    error = case.tre_mean_mm(found)
    rotation = shift = math.inf
    if found is not None:
        middle = case.body_fixed_mm.mean(0, keepdim=True)
        rotation = angle_deg(found, case.best_rigid)
        shift = float((found(middle) - case.best_rigid(middle)).norm())
    numbers = {
        "tre_mean_mm": error,
        "best_rigid_mm": case.best_rigid_mm,
        "ratio": error / case.best_rigid_mm if case.best_rigid_mm > 0 else math.nan,
        "success10": int(error <= LIMIT_MM),
        "rotation_error_deg": rotation,
        "translation_error_mm": shift,
        "seconds": result.seconds,
        "start_mm": case.start_mm,
        "turn_deg": case.turn_deg,
        "overlap": case.overlap,
    }
    empty = {"accepted": "", "expected_tre_mm": ""}
    return {name: _number(value) for name, value in numbers.items()} | empty | says | {"note": result.note}


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ("" if math.isnan(value) else "inf")


def _read_rows(table: Path) -> list[dict]:
    """The rows of an earlier run; a last line that was cut off is left out.

    Raises:
        InputError: the file is no table of this benchmark.
    """
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            found = f"the columns {','.join(reader.fieldnames or ())[:120]}"
            raise InputError(table, "a table of this benchmark", found, "move it away or name another output_dir")
        return [row for row in reader if row["note"] is not None and None not in row]


def _write_rows(table: Path, rows: Sequence[Mapping]) -> None:
    """Write the header and the rows afresh, whole or not at all."""
    try:
        table.parent.mkdir(parents=True, exist_ok=True)
        part = table.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(part, table)
    except OSError as error:
        raise InputError(table.parent, "a folder that can be written", str(error), "name another output_dir") from error


def _replace(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
