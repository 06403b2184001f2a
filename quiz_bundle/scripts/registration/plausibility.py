"""Stage 7: what may be wrong with the scans themselves: of two patients, left and right swapped, slices spaced wrongly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from monai.data import MetaTensor
from torch import Tensor

from ..core.rigid import RigidTransform
from .anatomy import likeness, noise_variance
from .assess import follow
from .parts import bony
from .result import AnatomyMatch, Verdict
from .scale import best_stretch
from .sides import mirrored_likeness
from .warp import Warp

LEAST_LIKENESS = 0.85  # below: two patients. Heads of two had 0.84 and less, of one 0.89 and more; chests 0.81 and 0.94
VOUCHING = 0.92  # likeness of bones that are one patient's, however organs lie; those of two patients had 0.87 and less
SUSPECT_LIKENESS = 0.965  # below, the mirror image is tried; mirrored pairs had 0.95 and less
MIRROR_GAIN = 0.03  # by which the mirror image has to be more alike; eleven such had 0.06 and more
STRETCHED = 0.5  # evidence from which slices are spaced wrongly; one patient's pairs stayed below, but one in a hundred
TWO_PATIENTS = "The scans may be of two patients"
SWAPPED = "Left and right may be swapped in one of the scans"
MISSPACED = "The slices of one of the scans may be spaced wrongly"


@dataclass(frozen=True)
class Plausibility:
    """What is to be said of the scans.

    Attributes:
        anatomy: whether they show one patient; None where too little can be compared.
        reasons: sentences on what is wrong with them; empty where nothing is.
    """

    anatomy: AnatomyMatch | None
    reasons: list[str]

    def weigh(self, verdict: Verdict) -> Verdict:
        """A verdict on a map in the light of this.

        Where the map is doubtful itself, anatomy that does not fit says nothing about the patient.
        """
        doubts = list(self.reasons)
        if self.anatomy is not None and self.anatomy.doubt and not doubts and verdict.accepted:
            doubts = [
                f"{TWO_PATIENTS}: their anatomy is alike to {self.anatomy.score:.2f} only; one patient's is to "
                f"{LEAST_LIKENESS:.2f} and more."
            ]
        reasons = [*verdict.reasons, *doubts]
        return replace(verdict, accepted=not reasons, reasons=reasons, anatomy=self.anatomy, scan_doubts=doubts)


def examine(
    transform: RigidTransform,
    fixed: MetaTensor,
    moving: MetaTensor,
    points_mm: Tensor,
    warped: Warp | None,
    scans: Sequence[MetaTensor],
) -> Plausibility:
    """Look at two scans under a map between them, right to within a few millimetres if the scans are what they should be.

    Args:
        transform: fixed to moving, RAS mm.
        fixed, moving: standardised volumes; the moving one is the smaller.
        points_mm: (N, 3) body points of the moving one, or of a part of it, RAS mm.
        warped: what ``assess.follow`` returns for them.
        scans: the same two as loaded, for their slices.
    """
    noise = noise_variance(fixed), noise_variance(moving)
    score = math.nan if warped is None else likeness(transform, warped, fixed, moving, noise)
    if math.isnan(score):
        return Plausibility(None, [])
    bony_mm, reasons = bony(points_mm, moving), []
    doubt = score < LEAST_LIKENESS
    if doubt:
        bones = follow(transform, fixed, moving, bony_mm)
        doubt = bones is None or not likeness(transform, bones, fixed, moving, noise) >= VOUCHING
    if score < SUSPECT_LIKENESS:
        swapped = mirrored_likeness(transform, fixed, moving, points_mm, warped.moving_mm, noise)
        if swapped > max(score + MIRROR_GAIN, LEAST_LIKENESS):
            reasons.append(f"{SWAPPED}: its mirror image fits better, alike to {swapped:.2f} instead of {score:.2f}.")
    stretch, evidence = best_stretch(transform, (fixed, moving), points_mm, bony_mm, scans)
    if evidence > STRETCHED:
        reasons.append(f"{MISSPACED}: stretched across them by about {100 * abs(stretch):.0f} % they agree better.")
    return Plausibility(AnatomyMatch(max(0.0, score), doubt), reasons)
