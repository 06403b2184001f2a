"""``run tables``: the paper's Tables 1 to 3, every method on the same pairs, in steps that add up.

Rows that are there are not computed again, so methods may be run one after the other, and an interrupted run goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from ...core.atomic import write_whole
from ...core.errors import InputError
from ...core.options import as_integer
from ...core.records import number, write_rows
from ...core.rigid import RigidTransform
from ...images.landmarks import PairedLandmarks
from ...registration.metrics import landmark_report
from ...synthetic.regimes import EvaluationCase
from ..benchmark.methods import Methods, check_methods
from ..benchmark.quiz import Answer
from ..benchmark.quiz_paper import SHAPE
from ..benchmark.rows import VERDICT, map_of, matrix_cells
from ..benchmark.run import in_time
from ..benchmark.table import machine
from ..paper import statistics
from ..peers import PeerResult
from .maps import map_file, save_map
from .markdown import document
from .names import FLOORS, SETS
from .pairs import chosen, held_out_pairs, load_pair, name_of, patient_of
from .rows import append, error_cells, floors, key_of, mean_error_mm, open_tables, point_rows, read_results
from .sets import write_sets

SLOW = "ants_syn"


def run_tables(
    datalists: Mapping[str, str],
    methods: str | Sequence[str],
    sets: str | Sequence[str] = (),
    pairs: int = 0,
    slow_pairs: int = 10,
    kept_maps: int = 2,
    output_dir: str = "eval/tables",
    weights: Mapping[str, str] | None = None,
    seed: int = 0,
    threads: int = 2,
    time_limit: float = 7200.0,
    device: str = "cpu",
    paper_shape: Sequence[int] = SHAPE,
) -> list[dict]:
    """Run methods on the test pairs of each table; writes rows, points and tables into ``output_dir``.

    ``rows.csv`` has a row a pair and method, ``points.csv`` one a landmark, ``summary.csv`` the statistics, ``tables.md``
    the tables. The floors, the best translation and the best rigid map there are, stand in them like methods.

    Args:
        datalists: file of each data set, by its name in ``names.SETS``.
        methods: see ``benchmark.methods``.
        sets: which of them to run; all when left out.
        pairs: of each set, patients in turn; 0 for all.
        slow_pairs: the same for methods with SyN.
        kept_maps: pairs of each set, the first ones, of which maps that are not rigid are kept for the figures.
        output_dir: made if it is not there.
        weights: files of the trained methods but QUIZ as shipped, by name.
        seed: of all draws.
        threads: CPU threads for each method.
        time_limit: seconds; an answer that comes later counts as none.
        device: for the networks.
        paper_shape: (I, J, K) that the weights of QUIZ as in the paper were trained at.

    Returns:
        One dictionary a table and method, see ``statistics.summarise``.

    Raises:
        InputError: an unknown set or method, a list or a file that is not there, a package not installed.
    """
    methods, sets = ([one] if isinstance(one, str) else list(one) for one in (methods, sets or list(datalists)))
    for table in sets:
        if table not in SETS or table not in datalists:
            raise InputError(
                "sets", f"names among {', '.join(SETS)}, each with a datalist", repr(table), "choose from these"
            )
    numbers = {"pairs": pairs, "slow_pairs": slow_pairs, "kept_maps": kept_maps, "seed": seed, "threads": threads}
    pairs, slow_pairs, kept_maps, seed, threads = (as_integer(*option) for option in numbers.items())
    check_methods(methods)
    cases = {table: held_out_pairs(datalists[table]) for table in sets}
    runner, folder = Methods(methods, threads, weights, device, paper_shape=paper_shape), Path(output_dir)
    rows = open_tables(folder, runner.fresh)
    done = {key_of(row) for row in rows}
    plan = []
    for table in sets:
        few = {name_of(case) for case in chosen(cases[table], slow_pairs)}
        for order, case in enumerate(chosen(cases[table], pairs)):
            asked = [m for m in (*FLOORS, *methods) if SLOW not in m or name_of(case) in few]
            if todo := [m for m in asked if (table, name_of(case), m) not in done]:
                plan.append((table, case, todo, order < kept_maps))
    write_sets(folder, {table: datalists[table] for table in sets})
    torch.set_num_threads(threads)
    common = {"threads": str(threads), "seed": str(seed), "machine": machine()}
    with tqdm(total=sum(len(todo) for _, _, todo, _ in plan), desc="tables", unit="run") as bar:
        for table, case, todo, keep in plan:
            pair, landmarks = load_pair(case, seed)
            measured = _Pair(pair, landmarks, folder if keep else None)
            for row in rows:
                if (row["table"], row["name"]) == (table, name_of(case)) and row["fixed_to_moving"] and row["seconds"]:
                    earlier = PeerResult(map_of(row), float(row["seconds"]), row["note"])
                    runner.remember(pair, row["method"], Answer(earlier, float(row["cpu_seconds"])))
            for method in todo:
                bar.set_postfix_str(f"{table} {name_of(case)} {method}")
                key = (table, name_of(case), method)
                row = dict(zip(("table", "name", "method"), key, strict=True)) | {"patient": patient_of(case)} | common
                if method in FLOORS:
                    answer = measured.floor(method)
                else:
                    answer = runner.run(pair, method)
                    answer = replace(answer, result=in_time(answer.result, float(time_limit)))
                measured.add(folder, row | {"weights": runner.weights(method)}, answer)
                bar.update()
    return write_tables(folder)


def write_tables(folder: Path) -> list[dict]:
    """Write ``summary.csv`` and ``tables.md`` from the rows in a folder, and return the summary."""
    rows = read_results(folder)
    summary = statistics.summarise(rows)
    cells = [{k: number(v) if isinstance(v, float) else "" if v is None else v for k, v in s.items()} for s in summary]
    write_rows(folder / "summary.csv", cells, statistics.COLUMNS)
    write_whole(folder / "tables.md", document(rows))
    return summary


class _Pair:
    """A loaded pair: measures answers at its landmarks, against the floors there.

    Args:
        case: the pair.
        landmarks: its landmarks.
        keep_in: where maps that are not rigid are kept; None to keep none.
    """

    def __init__(self, case: EvaluationCase, landmarks: PairedLandmarks, keep_in: Path | None) -> None:
        self.case, self.landmarks, self.keep_in = case, landmarks, keep_in
        self.floors = floors(landmark_report(None, landmarks, case.fixed, case.moving))

    def floor(self, method: str) -> Answer:
        """A floor in the form of an answer; it takes no time."""
        found = self.floors[method]
        return Answer(PeerResult(found, float("nan"), "" if found else "the landmarks fix no map"), float("nan"))

    def add(self, folder: Path, row: dict[str, str], answer: Answer) -> None:
        """Complete a row by an answer's numbers and append it."""
        found = answer.result.fixed_to_moving
        report = landmark_report(found, self.landmarks, self.case.fixed, self.case.moving)
        best = {f"{name}_mm": number(mean_error_mm(floor, report)) for name, floor in self.floors.items()}
        row = row | error_cells(report) | best | {name: answer.says.get(name, "") for name in VERDICT[:2]}
        row |= {"seconds": number(answer.result.seconds), "cpu_seconds": number(answer.cpu_seconds)}
        row |= {"note": answer.result.note, "fixed_to_moving": ""}
        if isinstance(found, RigidTransform):
            row["fixed_to_moving"] = matrix_cells(found)
        elif found is not None and self.keep_in is not None:
            save_map(map_file(self.keep_in, row), found, self.case.fixed)
        append(folder, row, point_rows(key_of(row), report))
