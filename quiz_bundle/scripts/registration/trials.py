"""Stage 6 on the coarse pair: which of several places the intensities prefer, and by how much."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.rigid import RigidTransform
from .agreement import Patches
from .refine import climb
from .settings import CandidateSettings

NOISE = 0.01  # what two scans of one thing leave unexplained


class Trials:
    """What the intensities of the coarse pair say of places.

    Args:
        pair: fixed and moving volumes (1, I, J, K).
        points_mm: (N, 3) body points of the moving one, RAS mm.
        settings: steps of a climb, patches round which its outcome is judged, how far one place reaches.
    """

    def __init__(self, pair: Sequence[MetaTensor], points_mm: Tensor, settings: CandidateSettings) -> None:
        self.pair, self.points_mm, self._settings = pair, points_mm, settings
        self._middles = points_mm[: settings.patches]
        self._patches = Patches(*pair, self._middles)
        self._tried: list[tuple[RigidTransform, float]] = []

    def climb(self, transform: RigidTransform) -> tuple[RigidTransform, float]:
        """A map after a short climb, and the correlation within small patches that it reaches.

        The correlation over the whole body has the wider slopes to climb, but bone on bone and skin on skin satisfy it in
        many places; patch by patch only the right place does.
        """
        better, _ = climb(transform, *self.pair, self.points_mm, self._settings.steps)
        self._tried.append((better, self._patches.correlation(better)))
        return self._tried[-1]

    def best(self) -> tuple[RigidTransform | None, float]:
        """The outcome of the highest correlation so far, and that; None and -1 where nothing was tried."""
        return max(self._tried, key=lambda one: one[1], default=(None, -1.0))

    def peak_ratio(self, place: RigidTransform) -> float:
        """How many times as much the best of the other places that were tried leaves unexplained: 1 less its correlation.

        The spine repeats itself; a place that is hardly better than the next vertebra's is hardly better than a guess. As
        the ratio of the two highest peaks in particle image velocimetry, or of distances in Lowe's test of descriptors.

        Args:
            place: fixed to moving, RAS mm; what was tried within ``same_place`` of it is the same place.
        """
        return peak_ratio(place, self._tried, self._middles, self._settings.same_place)


def peak_ratio(
    place: RigidTransform, tried: Sequence[tuple[RigidTransform, float]], points_mm: Tensor, same_place: float
) -> float:
    """See ``Trials.peak_ratio``.

    Args:
        place: fixed to moving, RAS mm.
        tried: maps and the correlations that they reach.
        points_mm: (N, 3) points of the moving body.
        same_place: mean distance in mm over them up to which two maps are of one place.
    """
    at = place.inverse()(points_mm)
    here, elsewhere = 0.0, 0.0
    for other, score in tried:
        if (other.inverse()(points_mm) - at).norm(dim=-1).mean() <= same_place:
            here = max(here, score)
        else:
            elsewhere = max(elsewhere, score)
    return (1 - elsewhere + NOISE) / (1 - here + NOISE)


def neighbours(
    transform: RigidTransform, points_mm: Tensor, slips: Sequence[float], turns: Sequence[float]
) -> list[RigidTransform]:
    """Maps that a place is easily mistaken for: a vertebra up or down, or turned about the middle of the body.

    Args:
        transform: fixed to moving, RAS mm.
        points_mm: (N, 3) body points of the moving scan.
        slips: mm, upwards in the fixed scan.
        turns: degrees, about each fixed axis.
    """
    middle = transform.inverse()(points_mm).mean(0)
    still = torch.zeros(3, dtype=torch.float64)
    up, axes = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    steps = [RigidTransform.about(still, up * slip, middle) for slip in slips]
    steps += [RigidTransform.about(axis * turn, still, middle) for turn in turns for axis in axes]
    return [transform @ step.inverse() for step in steps]
