"""QUIZ as in the paper: one look at both whole volumes, each resized to one shape, and the mean displacement in mm.

And what lies between that and the registration as shipped: a look at volumes of one spacing, and the robust fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from monai.transforms import Resize
from torch import Tensor

from ..core.geometry import spacing_of
from ..core.rigid import RigidTransform, fit_robust, fit_translation
from ..images.volumes import standardise
from ..network.quiznet import QuizNet
from ..registration.matcher import Matcher
from ..registration.ordered import Ordered
from ..registration.queries import ask, believable
from ..registration.register import Options
from ..registration.result import Matches

QUERIES = 1500  # asked in the single look


@dataclass(frozen=True)
class Prepared:
    """Two whole volumes as the network sees them, and what it is asked.

    Attributes:
        pair: the standardised volumes (1, I, J, K), resized to one shape if one was asked for, fixed and moving.
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


def prepare(fixed: MetaTensor, moving: MetaTensor, shape: Sequence[int] | None, options: Options) -> Prepared:
    """Resize two volumes to one shape, or leave them at one spacing, and draw points of the body in the smaller one.

    Every such point has an answer in the larger volume; the authors' own landmark files ask in the smaller one too.

    Args:
        fixed, moving: volumes (1, I, J, K) in HU.
        shape: (I, J, K), whatever the voxels become; None to leave both at their common spacing.
        options: seed, window, and of ``search`` the spacing (before resizing) and the number of queries.
    """
    standard = [standardise(volume, options.search.spacing, options.window) for volume in (fixed, moving)]
    ordered = Ordered.of(*standard)
    pair = standard if shape is None else [Resize(shape, mode="trilinear", anti_aliasing=True)(v) for v in standard]
    generator = torch.Generator().manual_seed(options.seed)
    points = ask(ordered.smaller, options.search.match.queries, generator)
    return Prepared(pair, points, not ordered.swapped)


def look_once(network: QuizNet, prepared: Prepared, amp: bool = False) -> Look:
    """Ask a network, on its device and in evaluation mode, once."""
    matches = Matcher(network, *prepared.pair, amp=amp).one_way(prepared.points_mm, prepared.backward)
    searched = prepared.pair[0 if prepared.backward else 1]
    return Look(matches, float(spacing_of(searched.affine).mean()))


def fit_look(look: Look, options: Options) -> tuple[RigidTransform | None, Matches]:
    """The map that answers come to, fixed to moving, and the matches that it rests on; None where they fix none.

    Args:
        look: of ``look_once``.
        options: ``transform`` is "translation" (the plain mean displacement, eq. 5) or "rigid" (the robust fit, weighted by
            confidence). Of ``search``: ``cycle_limit``, in voxels of the searched volume (infinite: no filter), and
            ``threshold``, likewise.
    """
    kept = believable(look.matches, options.search.match.cycle_limit * look.voxel_mm, least=0.0)
    ends = kept.fixed_mm, kept.moving_mm
    if len(kept) == 0:
        return None, kept
    if options.transform == "translation":
        return RigidTransform(fit_translation(*ends)), kept
    generator = torch.Generator().manual_seed(options.seed)
    threshold_mm = options.search.fit.threshold * look.voxel_mm
    try:
        return fit_robust(*ends, kept.confidence, threshold_mm=threshold_mm, generator=generator)[0], kept
    except ValueError:  # too few, or on a line
        return None, kept


