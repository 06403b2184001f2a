"""QUIZ itself as methods of the benchmark: the matcher alone, with a robust fit, as shipped, reversed, network off."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from monai.data import MetaTensor

from ...core.records import number
from ...core.rigid import RigidTransform, fit_rigid
from ...images.volumes import coarser, standardise
from ...network.quiznet import QuizNet
from ...registration.matcher import Matcher
from ...registration.ordered import Ordered
from ...registration.parts import Piece
from ...registration.queries import ask, no_matches
from ...registration.register import Options, Stopwatch, conclude
from ...registration.result import Matches
from ...registration.search import Fit, choose_place, fit_found, search
from ...registration.trials import Trials
from ...synthetic.regimes import EvaluationCase, part_region
from ..peers import PeerResult
from .rows import VERDICT

# Matches of one look at the whole of both scans; intensities have no say. Least squares over all of them, or robust.
COARSE = ("quiz_matcher", "quiz_robust")
# The whole method: the fit before intensities refine it, the paper's mean displacement, as shipped.
WHOLE: dict[str, dict] = {
    "quiz_unrefined": {"refine": False},
    "quiz_translation": {"refine": False, "transform": "translation"},
    "quiz": {},
}
REVERSED = "quiz_reversed"  # as shipped, with the two scans swapped and the answer inverted
NETWORK_OFF = "quiz_network_off"  # as shipped without a network: what its matches add is the difference
REGION = "quiz_region"  # as shipped, with a mask of the named part's bone as fixed_region: only where parts move
QUIZ = (*COARSE, *WHOLE, REVERSED, NETWORK_OFF)  # on any pair
OWN = (*QUIZ, REGION)


@dataclass
class Answer:
    """What a method gave on a pair.

    Attributes:
        result: transform and time.
        cpu_seconds: of all threads.
        says: its verdict as cells of the row; nothing where it has none.
    """

    result: PeerResult
    cpu_seconds: float
    says: dict[str, str] = field(default_factory=dict)


@dataclass
class _Stage:
    """A stage that several methods share, done once for a pair.

    Attributes:
        pair: the standardised volumes.
        fit: matches, and the map that they give.
        seconds, cpu_seconds: what it took; added to every method that builds on it.
    """

    pair: list[MetaTensor]
    fit: Fit
    seconds: float
    cpu_seconds: float


class QuizMethods:
    """Runs QUIZ's methods on pairs; those that begin alike share that part, and each is charged its time.

    Args:
        network: on its device, in evaluation mode.
    """

    def __init__(self, network: QuizNet) -> None:
        self.network = network
        self._case: EvaluationCase | None = None
        self._stages: dict[str, _Stage] = {}

    def run(self, case: EvaluationCase, method: str) -> Answer:
        """Run one of ``OWN`` on a pair."""
        if case is not self._case:
            self._case, self._stages = case, {}
        options = Options.of(seed=case.seed, **WHOLE.get(method, {}))
        if method in COARSE:
            return self._coarse(case, options, robust=method == "quiz_robust")
        if method == NETWORK_OFF:
            return _without_network(case, options)
        swapped = method == REVERSED
        shared = self._stage("backward" if swapped else "forward", lambda: self._search(case, options, swapped))
        begin, cpu = time.perf_counter(), time.process_time()
        scans = (case.moving, case.fixed) if swapped else (case.fixed, case.moving)
        inputs = dict(zip(("fixed", "moving"), scans, strict=True))
        if method == REGION:
            inputs["fixed_region"] = part_region(case)
        found = conclude(inputs, shared.pair, shared.fit, self.network, options, Stopwatch())
        answer = found.fixed_to_moving
        if swapped and answer is not None:
            answer = answer.inverse()
        verdict = found.verdict
        numbers = (int(verdict.accepted), verdict.expected_tre_mm, *verdict.expected_tre_90_mm)
        says = dict(zip(VERDICT, map(number, numbers), strict=True))
        seconds = shared.seconds + time.perf_counter() - begin
        result = PeerResult(answer, seconds, "; ".join(verdict.reasons))
        return Answer(result, shared.cpu_seconds + time.process_time() - cpu, says)

    def _stage(self, name: str, work: Callable[[], tuple[list[MetaTensor], Fit]]) -> _Stage:
        if name not in self._stages:
            begin, cpu = time.perf_counter(), time.process_time()
            pair, fit = work()
            self._stages[name] = _Stage(pair, fit, time.perf_counter() - begin, time.process_time() - cpu)
        return self._stages[name]

    def _search(self, case: EvaluationCase, options: Options, swapped: bool) -> tuple[list[MetaTensor], Fit]:
        """Stages 2 to 6 of a registration, as ``register`` does them."""
        scans = (case.moving, case.fixed) if swapped else (case.fixed, case.moving)
        pair = [standardise(volume, options.search.spacing, options.window) for volume in scans]
        generator = torch.Generator().manual_seed(options.seed)
        return pair, search(self.network, *pair, options.search, generator, options.amp)

    def _look(self, case: EvaluationCase, options: Options) -> tuple[list[MetaTensor], Fit]:
        """One look at the whole of both scans at the coarse spacing, and the robust fit to what passes the filters."""
        settings = options.search
        pair = [standardise(volume, settings.spacing, options.window) for volume in (case.fixed, case.moving)]
        coarse = [coarser(v, settings.coarse_spacing) for v in pair]
        generator = torch.Generator().manual_seed(options.seed)
        found = Matcher(self.network, *coarse, amp=options.amp).match(settings.match.queries, generator)
        return pair, fit_found(found, settings.coarse_spacing, settings, generator)

    def _coarse(self, case: EvaluationCase, options: Options, robust: bool) -> Answer:
        shared = self._stage("coarse", lambda: self._look(case, options))
        begin = time.perf_counter()
        fit = shared.fit
        answer = fit.transform if robust else _least_squares(fit.matches)
        note = "" if answer is not None else "the matches fix no map"
        seconds = shared.seconds + time.perf_counter() - begin
        return Answer(PeerResult(answer, seconds, note), shared.cpu_seconds)


def _without_network(case: EvaluationCase, options: Options) -> Answer:
    """The search with the sweep of starts alone to propose places, refined from the best; no match, no verdict."""
    begin, cpu = time.perf_counter(), time.process_time()
    settings = options.search
    pair = [standardise(volume, settings.spacing, options.window) for volume in (case.fixed, case.moving)]
    ordered = Ordered.of(*pair)  # the smaller scan is looked for in the larger one, as ``search`` does
    coarse = [coarser(v, settings.coarse_spacing) for v in ordered.pair]
    generator = torch.Generator().manual_seed(options.seed)
    tried = ask(coarse[1], settings.candidates.points, generator)
    trials = Trials(coarse, tried, settings.candidates)
    fit = Fit(None, None, no_matches(), 0, settings.coarse_spacing)
    answer, _ = choose_place(fit, trials, settings, generator)
    if answer is not None:
        points = ask(ordered.smaller, options.compare_points, torch.Generator().manual_seed(options.seed))
        answer = ordered.turned(Piece(answer, points, 1.0, 1.0, whole=True).refined(*ordered.pair))
    note = "" if answer is not None else "no start of the sweep fits"
    return Answer(PeerResult(answer, time.perf_counter() - begin, note), time.process_time() - cpu)


def _least_squares(kept: Matches) -> RigidTransform | None:
    """The least-squares rigid map through all matches that passed the filters, weighted by their confidence."""
    try:
        return RigidTransform(fit_rigid(kept.fixed_mm, kept.moving_mm, kept.confidence))
    except ValueError:  # too few, or on a line
        return None
