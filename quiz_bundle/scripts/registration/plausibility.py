"""Stage 7: what may be wrong with the scans themselves: of two patients, left and right swapped, slices spaced wrongly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from monai.data import MetaTensor
from torch import Tensor

from ..core.rigid import RigidTransform
from .anatomy import likeness, noise_variance
from .parts import bony
from .result import AnatomyMatch, Verdict
from .scale import best_stretch
from .sides import mirrored_likeness
from .warp import LEAST_PATCHES, warp

PATCHES, STEPS = 500, 8  # of bone, and of the warp that lays them on each other
LEAST_LIKENESS = 0.875  # below: two patients. One patient's pairs had 0.88 and more, accepted ones of two 0.86 and less
SUSPECT_LIKENESS = 0.965  # below, the mirror image is tried; the mirrored pairs had 0.96 and less
MIRROR_GAIN = 0.02  # by which the mirror image has to be more alike
STRETCHED = 0.43  # evidence from which slices are spaced wrongly; one patient's pairs stayed below, but one in two hundred
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

        Where the map is doubtful itself, bones that do not fit say nothing about the patient.
        """
        doubts = list(self.reasons)
        if self.anatomy is not None and self.anatomy.doubt and not doubts and verdict.accepted:
            doubts = [
                f"{TWO_PATIENTS}: their bones are alike to {self.anatomy.score:.2f} only; one patient's are to "
                f"{LEAST_LIKENESS:.2f} and more."
            ]
        reasons = [*verdict.reasons, *doubts]
        return replace(verdict, accepted=not reasons, reasons=reasons, anatomy=self.anatomy, scan_doubts=doubts)


def examine(
    transform: RigidTransform,
    fixed: MetaTensor,
    moving: MetaTensor,
    points_mm: Tensor,
    scans: Sequence[MetaTensor],
) -> Plausibility:
    """Look at two scans under a map between them, right to within a few millimetres if the scans are what they should be.

    Args:
        transform: fixed to moving, RAS mm.
        fixed, moving: standardised volumes; the moving one is the smaller.
        points_mm: (N, 3) body points of the moving one, or of a part of it, RAS mm.
        scans: the same two as loaded, for their slices.
    """
    if len(points_mm) < LEAST_PATCHES:
        return Plausibility(None, [])
    middles = bony(points_mm, moving)[:PATCHES]
    warped = warp(transform, fixed, moving, middles, STEPS)
    noise = noise_variance(fixed), noise_variance(moving)
    score = math.nan if warped is None else likeness(transform, warped, fixed, moving, noise)
    if warped is None or math.isnan(score):
        return Plausibility(None, [])
    reasons = []
    if score < SUSPECT_LIKENESS:
        swapped = mirrored_likeness(transform, fixed, moving, points_mm, middles, noise)
        if swapped > max(score + MIRROR_GAIN, LEAST_LIKENESS):
            reasons.append(
                f"{SWAPPED}: its mirror image fits better, bones are alike to {swapped:.2f} instead of {score:.2f}."
            )
    stretch, evidence = best_stretch(transform, (fixed, moving), points_mm, middles, scans)
    if evidence > STRETCHED:
        reasons.append(f"{MISSPACED}: stretched across them by about {100 * abs(stretch):.0f} % they agree better.")
    return Plausibility(AnatomyMatch(max(0.0, score), score < LEAST_LIKENESS), reasons)
