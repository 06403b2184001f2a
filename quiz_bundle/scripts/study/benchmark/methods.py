"""Methods by name: peers, QUIZ, deformable ones, and one after the other, as in "quiz+ants_syn"."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...core.errors import InputError
from ...images.hashes import file_sha256
from ...network.quiznet import QuizNet
from ...network.weights import weights_sha256
from ...registration.register import load_network
from ...synthetic.regimes import EvaluationCase
from ..baselines import DEFORMABLE, Deform, deformable, trained_weights
from ..baselines.methods import SYN, TUNED
from ..peers import PEERS, PeerResult, load_packages
from .quiz import NETWORK_OFF, OWN, Answer, QuizMethods
from .quiz_paper import SHAPE, QuizPaper

QUIZ_PAPER = "quiz_paper"  # regression head and mean displacement, trained as the paper says
THEN = "+"
TRAINED = {*OWN, QUIZ_PAPER, *DEFORMABLE}.difference(SYN, [NETWORK_OFF])
START = "centres"  # of a deformable method that stands alone: world frames say nothing here


def known_methods() -> list[str]:
    """Every method with a name of its own."""
    return [*PEERS, *OWN, QUIZ_PAPER, *DEFORMABLE]


def check_methods(names: Iterable[str]) -> None:
    """Refuse names that nothing answers to.

    Raises:
        InputError: a part is unknown, the second of two is not deformable, or the first of two is.
    """
    for name in names:
        first, then, second = name.partition(THEN)
        right = not then or (first not in DEFORMABLE and second in DEFORMABLE)
        if not right or first not in known_methods():
            expected = f"names among {', '.join(known_methods())}, or a rigid one{THEN}one of {', '.join(DEFORMABLE)}"
            raise InputError("methods", expected, repr(name), "choose from these")


class Methods:
    """Runs named methods on pairs. Every part of a pair's methods is done once, and each is charged its time.

    Args:
        names: all that will be asked for.
        threads: CPU threads for each.
        weights: file of each trained method but QUIZ as shipped; where it lies usually when left out.
        device: for QUIZ and the other networks.
        network: QUIZ as shipped, on its device; the shipped weights when left out.
        paper_shape: (I, J, K) that the weights of QUIZ as in the paper were trained at.

    Raises:
        InputError: an unknown name, a package not installed, weights that are not there.
    """

    def __init__(
        self,
        names: Iterable[str],
        threads: int,
        weights: Mapping[str, str] | None = None,
        device: str = "cpu",
        network: QuizNet | None = None,
        paper_shape: Sequence[int] = SHAPE,
    ) -> None:
        names = list(names)
        check_methods(names)
        parts = list(dict.fromkeys(part for name in names for part in name.split(THEN)))
        load_packages(parts, threads)
        self.threads, weights = threads, dict(weights or {})
        self._marks: dict[str, str] = {}
        self._deforms: dict[str, Deform] = {}
        self._quiz, self._paper = None, None
        if any(part in OWN for part in parts):
            network = network or load_network(device=device)
            self._quiz = QuizMethods(network)
            self._marks |= dict.fromkeys(TRAINED.intersection(OWN), weights_sha256(network)[:12])
        if QUIZ_PAPER in parts:
            given = {"weights": weights[QUIZ_PAPER]} if QUIZ_PAPER in weights else {}
            self._paper = QuizPaper(**given, resize_to=paper_shape, device=device)
            self._marks[QUIZ_PAPER] = weights_sha256(self._paper.network)[:12]
        for part in parts:
            if part in DEFORMABLE:
                file = trained_weights(part, weights.get(part.removesuffix(TUNED)))
                self._deforms[part] = deformable(part, file, device)
                self._marks[part] = "" if file is None else file_sha256(Path(file))[:12]
        self._case: EvaluationCase | None = None
        self._answers: dict[str, Answer] = {}

    def weights(self, method: str) -> str:
        """What tells the weights of a method apart; empty where it has none."""
        return THEN.join(filter(None, (self._marks.get(part) for part in method.split(THEN))))

    def fresh(self, row: Mapping[str, str]) -> bool:
        """Whether a row still holds: none of its parts has weights that are loaded now and are others than the row's."""
        trained = [part for part in row["method"].split(THEN) if part in TRAINED]
        marks = row["weights"].split(THEN) if row["weights"] else []
        if len(marks) != len(trained):
            return not any(part in self._marks for part in trained)
        return all(self._marks.get(part, mark) == mark for part, mark in zip(trained, marks, strict=True))

    def remember(self, case: EvaluationCase, method: str, answer: Answer) -> None:
        """Take what a method gave on a pair in an earlier run, for those that go on from there."""
        self._begin(case)
        self._answers[method] = answer

    def _begin(self, case: EvaluationCase) -> None:
        if case is not self._case:
            self._case, self._answers = case, {}

    def run(self, case: EvaluationCase, method: str) -> Answer:
        """Run a method on a pair."""
        self._begin(case)
        if method not in self._answers:
            first, _, second = method.partition(THEN)
            if first in DEFORMABLE:
                first, second = START, first
            self._answers[method] = self._then(case, self.run(case, first), second) if second else self._rigid(case, first)
        return self._answers[method]

    def _rigid(self, case: EvaluationCase, method: str) -> Answer:
        if method in OWN:
            return self._quiz.run(case, method)
        cpu = _cpu_seconds()
        run = self._paper if method == QUIZ_PAPER else PEERS[method]
        result = run(case.fixed, case.moving, case.seed, self.threads)
        says = {} if result.accepted is None else {"accepted": str(int(result.accepted))}
        return Answer(result, _cpu_seconds() - cpu, says)

    def _then(self, case: EvaluationCase, first: Answer, second: str) -> Answer:
        """A deformable method from where a rigid one ended; both times added up."""
        start = first.result.fixed_to_moving
        if start is None:
            return Answer(PeerResult(None, first.result.seconds, first.result.note), first.cpu_seconds)
        begin, cpu = time.perf_counter(), time.process_time()
        try:
            found, note = self._deforms[second](case.fixed, case.moving, start, case.seed, self.threads), ""
        except RuntimeError as error:  # ITK's exceptions
            found, note = None, " ".join(str(error).split())[-160:]
        seconds = first.result.seconds + time.perf_counter() - begin
        return Answer(PeerResult(found, seconds, note), first.cpu_seconds + time.process_time() - cpu)


def _cpu_seconds() -> float:
    """What this process and the programs that it has run to their end have used."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime
