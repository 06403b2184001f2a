"""QUIZ as in the paper, as a method of the benchmark."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from monai.bundle import ConfigParser
from monai.data import MetaTensor

from ...checks.one_look import QUERIES, fit_look, look_once, prepare
from ...core.errors import InputError
from ...network.quiznet import QuizNet
from ...network.weights import with_weights
from ...registration.register import BUNDLE, Options
from ..peers import PeerResult

RUN = "python -m monai.bundle run ablation --bundle_root quiz_bundle"
COMMAND = f"{RUN} --config_file quiz_bundle/configs/study/ablation.json"
WEIGHTS = BUNDLE / "models" / "paper" / "model.pt"  # the paper's first stage at its own size
SHAPE = (128, 128, 128)  # what they were trained at


def network_of(configs: Sequence[str], bundle: Path = BUNDLE) -> QuizNet:
    """The untrained network of ``train.json`` with overlays, named without their ending."""
    parser = ConfigParser()
    parser.read_config([bundle / "configs" / f"{name}.json" for name in configs])
    return QuizNet(**{key: value for key, value in parser.get("network_def").items() if key != "_target_"})


@dataclass
class QuizPaper:
    """QUIZ as in the paper, as a method of the benchmark: regression head, no filter, mean displacement.

    Args:
        weights: state dict, trained as the paper has it; those in the repository when left out.
        resize_to: the shape that it was trained at.
        device: where the network runs.
    """

    weights: str | Path = WEIGHTS
    resize_to: Sequence[int] = SHAPE
    device: str = "cpu"
    options: Options = field(
        default_factory=lambda: Options.of(
            {"match": {"queries": QUERIES, "cycle_limit": float("inf")}}, transform="translation"
        ),
        init=False,
    )

    @cached_property
    def network(self) -> QuizNet:
        """The trained network.

        Raises:
            InputError: its weights are missing or those of another network.
        """
        if not Path(self.weights).is_file():
            raise InputError(self.weights, "weights of the paper's network", "no such file", f"train them: {COMMAND}")
        return with_weights(network_of(("train", "paper")), self.weights, self.device)

    def __call__(self, fixed: MetaTensor, moving: MetaTensor, seed: int = 0, threads: int = 1) -> PeerResult:
        """Register volumes (1, I, J, K) in HU; ``seed`` draws the queries, ``threads`` are torch's own."""
        network = self.network  # no method's time includes loading it
        begin = time.perf_counter()
        prepared = prepare(fixed, moving, self.resize_to, replace(self.options, seed=seed))
        found, _ = fit_look(look_once(network, prepared), self.options)
        return PeerResult(found, time.perf_counter() - begin, "" if found else "no answer")
