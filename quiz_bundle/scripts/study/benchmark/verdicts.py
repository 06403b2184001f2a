"""What the figures of registration tools are worth as a verdict: the same pairs, right, of two patients, mirrored, shifted.

Every tool registers every pair (``run_benchmark``); then each of their maps, and the best rigid map shifted by about a
vertebra, gets what anybody could say of it: correlation, mutual information, the tool's own gates, our audit. What a tool
found of one patient is audited turned by five degrees and inverted, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from monai.data import MetaTensor
from tqdm import tqdm

from ...checks.audit import audit
from ...checks.trust import LIMIT_MM
from ...core.atomic import write_whole
from ...core.errors import InputError
from ...core.options import as_integer
from ...core.records import append_row, number, open_table, read_rows
from ...core.rigid import RigidTransform
from ...images.transform_files import ITK, GivenMap
from ...images.volumes import coarser, standardise
from ...network.quiznet import QuizNet
from ...network.weights import weights_sha256
from ...registration.agreement import correlation
from ...registration.ordered import Ordered
from ...registration.queries import ask
from ...registration.register import Options, Stopwatch, conclude, load_network
from ...registration.search import search
from ...synthetic.plan import Maker, Planned, ct_files, plan_pairs
from ...synthetic.regimes import EvaluationCase
from ..peers.base import field_centre, from_air, mutual_information, shift
from .rows import COLUMNS, KEY, map_of
from .run import run_benchmark
from .table import machine
from .verdict_table import CHANGES, INVERTED, verdict_report

MIRRORED, TWO = "R1-mirrored", "unrelated"
SHIFTED = "shifted"  # in place of a method: the best rigid map, a vertebra off
SHIFTS_MM = (-25.0, 25.0)  # along the body: a thoracic vertebra and its disc
COMPARED = 20_000  # body points of the correlation
VOXEL_MM = 4.0  # of the mutual information
TURN_DEG = (5.0, 0.0, 0.0)  # about R through the middle of the moving field
JUDGED = (*KEY, "kind", "tre_mm", "correlation", "information", "own", "audit", "audit_expected_mm", "peak_ratio",
          "named", "weights")  # fmt: skip


def judge_verdicts(
    volumes: str | Sequence[str],
    regimes: Sequence[str] = ("R1", "R2", "R5"),
    cases: int = 20,
    methods: Sequence[str] = ("elastix", "greedy", "plastimatch", "regix", "quiz"),
    output_dir: str = "eval/verdicts",
    seed: int = 0,
    threads: int = 2,
    time_limit: float = 300.0,
    device: str = "cpu",
    network: QuizNet | None = None,
) -> list[dict]:
    """Register pairs with every method and judge every map; writes ``verdicts.csv`` and ``verdicts.md`` into ``output_dir``.

    Args:
        volumes: CTs of one region, each of another patient; a pair of two patients is of two of them.
        regimes: of the pairs of one patient.
        cases: pairs of each regime, as many of two patients, and as many mirrored.
        methods: names in ``methods.known_methods``.
        output_dir: made if it is not there; what is there already is not done again.
        seed, threads, time_limit: of ``run_benchmark``.
        device: for the network.
        network: on its device; the shipped weights when left out.

    Returns:
        The rows of ``verdicts.csv``: one for each map.

    Raises:
        InputError: fewer than two volumes, or what ``run_benchmark`` raises.
    """
    files = ct_files([volumes] if isinstance(volumes, str) else list(volumes))
    if len(files) < 2:
        raise InputError("volumes", "CTs of two patients or more, of one region", str(len(files)), "name more")
    cases, network, regimes = as_integer("cases", cases), network or load_network(device=device), [*regimes, MIRRORED, TWO]
    plan = plan_pairs(files, regimes, cases, seed, others := [*files[1:], files[0]])
    run_benchmark(
        files,
        regimes=regimes,
        cases=cases,
        peer_cases=cases,
        output_dir=output_dir,
        methods=methods,
        unrelated=others,
        seed=seed,
        threads=threads,
        time_limit=time_limit,
        device=device,
        network=network,
    )
    folder, weights = Path(output_dir), weights_sha256(network)[:12]
    ran = {tuple(row[column] for column in KEY): row for row in read_rows(folder / "cases.csv", COLUMNS)}
    table = folder / "verdicts.csv"
    rows = open_table(table, lambda row: row["weights"] == weights, JUDGED)
    done = {tuple(row[column] for column in KEY) for row in rows}
    torch.set_num_threads(threads)
    maker = Maker()
    for pair in tqdm(plan, desc="verdicts", unit="pair"):
        if (*pair.name, _names(pair, methods)[-1]) in done:
            continue
        for row in _judged(maker.make(pair), pair, ran, methods, network):
            if tuple(row[column] for column in KEY) not in done:
                append_row(table, row | {"weights": weights}, JUDGED)
    rows = read_rows(table, JUDGED)
    write_whole(folder / "verdicts.md", verdict_report(rows, f"{machine()}; threads: {threads}"))
    return rows


def _names(pair: Planned, methods: Sequence[str]) -> list[str]:
    """What stands for each map of a pair in the column ``method``."""
    if pair.regime in (MIRRORED, TWO):
        return list(methods)
    shifted = [f"{SHIFTED} {millimetres:+g} mm" for millimetres in SHIFTS_MM]
    return [*methods, *(f"{method}, {change}" for method in methods for change in CHANGES), *shifted]


def _judged(
    case: EvaluationCase, pair: Planned, ran: Mapping[tuple, Mapping], methods: Sequence[str], network: QuizNet
) -> Iterator[dict[str, str]]:
    """The rows of a pair."""
    options = Options.of(seed=case.seed)
    scans = {"fixed": case.fixed, "moving": case.moving}
    standard = [standardise(volume, options.search.spacing, options.window) for volume in scans.values()]
    found = search(network, *standard, options.search, torch.Generator().manual_seed(options.seed), options.amp)
    own = conclude(scans, standard, found, network, options, Stopwatch())
    compared = _Compared(case, standard)
    for name in _names(pair, methods):
        method, _, change = name.partition(", ")
        row = {} if method.startswith(SHIFTED) else ran[(*pair.name, method)]
        given = map_of(row) if row else _shifted(case, name)
        gates = "" if change else row.get("accepted", "")  # they never met a map that we changed
        cells = dict(zip(KEY, (*pair.name, name), strict=True)) | {"kind": _kind(pair, name), "own": gates}
        if change and (given is None or not case.tre_mean_mm(given) <= LIMIT_MM):
            continue  # no right map that could be changed
        if given is None:  # the tool gave up: a refusal
            yield cells | {"tre_mm": "inf", "audit": "", "own": gates and "0"}
            continue
        given = _changed(given, change, case.moving)
        verdict = audit(scans, standard, found, own, GivenMap(given, ITK, name, ""), options).given.verdict
        wrong = pair.regime in (MIRRORED, TWO)
        yield cells | {
            "tre_mm": number(math.inf if wrong else case.tre_mean_mm(given)),
            "correlation": number(compared.correlation(given)),
            "information": number(compared.information(given)),
            "audit": str(int(verdict.accepted)),
            "audit_expected_mm": number(verdict.expected_tre_mm),
            "peak_ratio": number(verdict.evidence["peak_ratio"]),
            "named": str(int(any("to be inverted" in reason for reason in verdict.reasons))),
        }


def _kind(pair: Planned, name: str) -> str:
    """What a map is of: "one patient", "two patients", "mirrored", "vertebra", or how it was changed."""
    if name.startswith(SHIFTED):
        return "vertebra"
    return name.partition(", ")[2] or {MIRRORED: "mirrored", TWO: "two patients"}.get(pair.regime, "one patient")


def _changed(given: RigidTransform, change: str, moving: MetaTensor) -> RigidTransform:
    """What a tool found, after what is done to it: one of ``CHANGES``, or nothing."""
    if not change:
        return given
    if change == INVERTED:
        return given.inverse()
    return RigidTransform.about(TURN_DEG, (0.0, 0.0, 0.0), field_centre(moving)) @ given


def _shifted(case: EvaluationCase, name: str) -> RigidTransform:
    """The best rigid map of a case, shifted along the body of the fixed scan."""
    millimetres = float(name.split()[1])
    return case.best_rigid @ shift(torch.tensor([0.0, 0.0, millimetres], dtype=torch.float64))


class _Compared:
    """A pair as the figures of other tools see it: the body of the smaller scan, and both in HU from 0 for air.

    Args:
        case: the pair.
        standard: the same, standardised.
    """

    def __init__(self, case: EvaluationCase, standard: Sequence) -> None:
        self.ordered = Ordered.of(*standard)
        self.points_mm = ask(self.ordered.smaller, COMPARED, torch.Generator().manual_seed(0))
        self.scans = [coarser(from_air(volume), VOXEL_MM) for volume in self.ordered.order((case.fixed, case.moving))]

    def correlation(self, transform: RigidTransform) -> float:
        """Of the intensities over the body, [-1, 1]."""
        return correlation(self.ordered.turned(transform), *self.ordered.pair, self.points_mm)

    def information(self, transform: RigidTransform) -> float:
        """Mutual information over the smaller scan's field, nats."""
        larger, smaller = self.scans
        return mutual_information(smaller, larger, self.ordered.turned(transform).inverse())


