"""The benchmark: the same pairs for every method, a row a result, then tables and plots.

Rows that are there already are not computed again, so that an interrupted run goes on where it stopped and a method can
be added later. Processes that are started one after the other may share a folder, if no two run the same regime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from ...core.atomic import write_whole
from ...core.errors import InputError
from ...core.options import as_integer
from ...core.records import append_row, number, open_table, read_rows
from ...images.landmarks import read_datalist
from ...network.quiznet import QuizNet
from ...synthetic.plan import Maker, ct_files, phantom_sources, plan_pairs
from ...synthetic.regime_recipes import REGIMES
from ..peers import PEERS, PeerResult
from .methods import THEN, Methods, check_methods
from .plots import draw_plots
from .quiz import OWN, QUIZ, REGION
from .rows import COLUMNS, KEY, VERDICT, check_same, measure
from .table import machine, report, summarise

PHANTOMS = 8  # where no volumes are named


def run_benchmark(
    volumes: str | Sequence[str] | None = None,
    phantoms: int = 0,
    regimes: str | Sequence[str] = ("R1",),
    cases: int = 200,
    peer_cases: int = 40,
    output_dir: str = "eval/benchmark",
    methods: str | Sequence[str] = (*PEERS, *QUIZ),
    datalist: str | None = None,
    dataset_dir: str | None = None,
    unrelated: str | Sequence[str] | None = None,
    seed: int = 0,
    threads: int = 2,
    time_limit: float = 300.0,
    device: str = "cpu",
    weights: Mapping[str, str] | None = None,
    network: QuizNet | None = None,
) -> list[dict]:
    """Run every method on the same pairs; writes ``cases.csv``, ``summary.md`` and plots into ``output_dir``.

    Args:
        volumes: CT file, folder of CTs, or several of either, from which pairs of known truth are drawn.
        phantoms: number of built-in phantoms to draw them from as well; eight when there is nothing else.
        regimes: names in ``regimes.REGIMES``.
        cases: pairs of each regime, drawn from the volumes in turn; their seeds are ``seed``, ``seed`` + 1, ...
        peer_cases: how many of them, the first ones, the peers run on.
        output_dir: made if it is not there.
        methods: names in ``methods.known_methods``, or two of them as in "quiz+ants_syn".
        datalist: JSON of real pairs with landmarks; its "test" section.
        dataset_dir: folder that its paths are relative to.
        unrelated: CT file, or files, from which the moving scans of unrelated pairs are drawn.
        seed: of the first pair.
        threads: CPU threads for each method.
        time_limit: seconds; an answer that comes later counts as none.
        device: for the networks.
        weights: files of the trained methods but QUIZ as shipped, by name.
        network: for QUIZ, on its device; the shipped weights when left out.

    Returns:
        One dictionary per regime and method, see ``summarise``.

    Raises:
        InputError: an unknown regime or method, a package not installed, a file that is no CT.
    """
    regimes, methods = _several(regimes), _several(methods)
    for name in regimes:
        if name not in REGIMES:
            raise InputError("regimes", f"names among {', '.join(REGIMES)}", repr(name), "choose from these")
    check_methods(methods)
    whole = [name for name in regimes if not REGIMES[name].part]
    if any(REGION in name.split(THEN) for name in methods) and whole:
        raise InputError("methods", f"{REGION} with regimes of parts (A1 to A4)", f"{', '.join(whole)}", "leave one out")
    files = ct_files(_several(volumes))
    sources = files + phantom_sources(as_integer("phantoms", phantoms))
    if not sources and not datalist:
        sources = phantom_sources(PHANTOMS)
    cases, peer_cases, threads = (
        as_integer(*option) for option in (("cases", cases), ("peer_cases", peer_cases), ("threads", threads))
    )
    real_pairs = read_datalist(datalist, dataset_dir).get("test", []) if datalist else []
    others = ct_files(_several(unrelated))
    plan = plan_pairs(sources, regimes, cases, as_integer("seed", seed), others, real_pairs)
    for file in files + others:
        if not Path(file).exists():
            raise InputError(file, "a CT file", "no such file", "check the path")
    runner = Methods(methods, threads, weights, device, network)
    folder = Path(output_dir)
    table = folder / "cases.csv"
    rows = open_table(table, runner.fresh, COLUMNS)
    done = {tuple(row[column] for column in KEY) for row in rows}
    wanted = [
        [m for m in methods if (m in OWN or pair.number < peer_cases) and (*pair.name, m) not in done] for pair in plan
    ]
    torch.set_num_threads(threads)
    maker = Maker()
    with tqdm(total=sum(map(len, wanted)), desc="benchmark", unit="run") as bar:
        for pair, todo in zip(plan, wanted, strict=True):
            if not todo:
                continue
            case = maker.make(pair)
            check_same(table, pair.name, case, rows)
            for method in todo:
                bar.set_postfix_str(f"{pair.regime} {pair.seed} {method}")
                answer = runner.run(case, method)
                row = dict(zip(KEY, (*pair.name, method), strict=True)) | dict.fromkeys(VERDICT, "")
                row |= measure(case, in_time(answer.result, float(time_limit))) | answer.says
                row |= {"cpu_seconds": number(answer.cpu_seconds), "threads": str(threads)}
                row["weights"] = runner.weights(method)
                append_row(table, row, COLUMNS)
                rows.append(row)
                bar.update()
    rows = read_rows(table, COLUMNS)  # with those that another process may have added meanwhile
    used = ", ".join(sorted({row["threads"] for row in rows}))
    write_whole(folder / "summary.md", report(rows, f"{machine()}; threads: {used}", float(time_limit)))
    draw_plots(rows, folder)
    return summarise(rows)


def _several(given: str | Path | Sequence[str] | None) -> list[str]:
    return [str(given)] if isinstance(given, str | Path) else list(given or [])


def in_time(result: PeerResult, limit: float) -> PeerResult:
    """A result, or none where it came later than the limit in seconds."""
    if result.seconds <= limit:
        return result
    return PeerResult(None, result.seconds, f"took longer than {limit:g} s")
