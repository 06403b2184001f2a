"""QUIZ as in the paper: one look at both whole volumes, each resized to one shape, and the mean displacement in mm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Resize
from torch import Tensor

from .errors import InputError
from .geometry import spacing_of
from .matcher import Matcher
from .network import QuizNet
from .peers import PeerResult
from .queries import ask, believable
from .register import BUNDLE, Options
from .result import Matches
from .resume import with_weights
from .rigid import RigidTransform, fit_robust, fit_translation
from .search import smaller_is_fixed
from .volumes import standardise

COMMAND = "python -m monai.bundle run ablation --bundle_root quiz_bundle --config_file quiz_bundle/configs/ablation.json"
QUERIES = 1500  # asked in the single look


@dataclass(frozen=True)
class Prepared:
    """Two whole volumes as the network sees them, and what it is asked.

    Attributes:
        pair: the standardised volumes (1, I, J, K), resized to one shape, fixed and moving.
        points_mm: (Q, 3) points of the body in the one with the smaller field, RAS mm.
        backward: whether that is the moving one.
    """

    pair: Sequence[MetaTensor]
    points_mm: Tensor
    backward: bool


@dataclass(frozen=True)
class Look:
    """The answers of one look, before any filter.

    Attributes:
        matches: of the queries and their answers, with the cycle error.
        voxel_mm: mean edge of the searched volume's voxels, mm.
    """

    matches: Matches
    voxel_mm: float


def prepare(fixed: MetaTensor, moving: MetaTensor, shape: Sequence[int], options: Options) -> Prepared:
    """Resize two volumes to one shape and draw points of the body in the smaller one.

    Every such point has an answer in the larger volume; the authors' own landmark files ask in the smaller one too.

    Args:
        fixed, moving: volumes (1, I, J, K) in HU.
        shape: (I, J, K), whatever the voxels become.
        options: seed, window, and of ``search`` the spacing before resizing and the number of queries.
    """
    standard = [standardise(volume, options.search.spacing, options.window) for volume in (fixed, moving)]
    backward = not smaller_is_fixed(*standard)
    resize = Resize(shape, mode="trilinear", anti_aliasing=True)
    generator = torch.Generator().manual_seed(options.seed)
    points = ask(standard[1] if backward else standard[0], options.search.queries, generator)
    return Prepared([resize(volume) for volume in standard], points, backward)


def look_once(network: QuizNet, prepared: Prepared, amp: bool = False) -> Look:
    """Ask a network, on its device and in evaluation mode, once."""
    matches = Matcher(network, *prepared.pair, amp=amp).one_way(prepared.points_mm, prepared.backward)
    searched = prepared.pair[0 if prepared.backward else 1]
    return Look(matches, float(spacing_of(searched.affine).mean()))


def settle(look: Look, options: Options) -> tuple[RigidTransform | None, Matches]:
    """The map that answers come to, fixed to moving, and the matches that it rests on; None where they fix none.

    Args:
        look: of ``look_once``.
        options: ``transform`` is "translation" (the plain mean displacement, eq. 5) or "rigid" (the robust fit, weighted by
            confidence). Of ``search``: ``cycle_limit``, in voxels of the searched volume (infinite: no filter), and
            ``threshold``, likewise.
    """
    kept = believable(look.matches, options.search.cycle_limit * look.voxel_mm, least=0.0)
    ends = kept.fixed_mm, kept.moving_mm
    if len(kept) == 0:
        return None, kept
    if options.transform == "translation":
        return RigidTransform(fit_translation(*ends)), kept
    generator = torch.Generator().manual_seed(options.seed)
    threshold_mm = options.search.threshold * look.voxel_mm
    try:
        return fit_robust(*ends, kept.confidence, threshold_mm=threshold_mm, generator=generator)[0], kept
    except ValueError:  # too few, or on a line
        return None, kept


def network_of(configs: Sequence[str], bundle: Path = BUNDLE) -> QuizNet:
    """The untrained network of ``train.json`` with overlays, named without their ending."""
    parser = ConfigParser()
    parser.read_config([bundle / "configs" / f"{name}.json" for name in configs])
    return QuizNet(**{key: value for key, value in parser.get("network_def").items() if key != "_target_"})


@dataclass
class QuizPaper:
    """QUIZ as in the paper, as a method of the benchmark: regression head, no filter, mean displacement.

    Args:
        weights: state dict, trained as the paper has it.
        resize_to: the shape that it was trained at.
        device: where the network runs.
    """

    weights: str | Path = "runs/ablation/regression_both/model.pt"
    resize_to: Sequence[int] = (48, 48, 48)
    device: str = "cpu"
    options: Options = field(
        default_factory=lambda: Options.of({"queries": QUERIES, "cycle_limit": float("inf")}, transform="translation"),
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
        found, _ = settle(look_once(network, prepared), self.options)
        return PeerResult(found, time.perf_counter() - begin, "" if found else "no answer")
