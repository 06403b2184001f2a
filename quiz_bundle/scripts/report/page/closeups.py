"""Close-ups of the registered pair in three planes, at the landmarks or, without any, at matches spread over the field."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor

from ...core.geometry import as_affine, inside
from ...core.rigid import residual_mm
from ...registration.result import Registration
from .cuts import PLANES, Plane, look
from .pictures import FIXED_LINE, MOVING_LINE, Picture, jpeg_of

MOST_PLACES = 6
HALF_MM = 32.0  # from a close-up's middle to its edge
PIXELS = 190
GAP, HEAD = 6, 26  # pixels between close-ups, and for the words above them


@dataclass(frozen=True)
class Place:
    """Where to look closely.

    Attributes:
        words: what is written above it.
        fixed_mm: (3,) the point in the fixed scan.
        mapped_mm: (3,) its partner in the moving scan, through the map.
    """

    words: str
    fixed_mm: Tensor
    mapped_mm: Tensor


def places_of(registration: Registration) -> list[Place]:
    """The landmarks with the largest errors, or matches that agree, far from each other; none without a fit."""
    fit, marks, matches = registration.fixed_to_moving, registration.landmark_points, registration.matches
    if fit is None:
        return []
    if marks is not None:
        fixed, moving = registration.fixed, registration.moving
        seen = inside(marks.fixed_mm, fixed.affine, fixed.shape[1:])
        seen &= inside(marks.moving_mm, moving.affine, moving.shape[1:])
        rows = seen.nonzero()[:, 0]
        mapped = fit.inverse()(marks.moving_mm)
        error = residual_mm(fit, marks.fixed_mm, marks.moving_mm)
        worst = rows[error[rows].argsort(descending=True)][:MOST_PLACES]
        return [Place(f"{marks.labels[n]}: {error[n]:.1f} mm", marks.fixed_mm[n], mapped[n]) for n in worst.tolist()]
    there = inside(fit(matches.fixed_mm), registration.moving.affine, registration.moving.shape[1:])
    rows = (matches.inlier & there).nonzero()[:, 0]
    mapped = fit.inverse()(matches.moving_mm)
    return [
        Place(f"place {number}", matches.fixed_mm[n], mapped[n])
        for number, n in enumerate(rows[far_apart(matches.fixed_mm[rows], MOST_PLACES)].tolist(), 1)
    ]


def far_apart(points_mm: Tensor, count: int) -> Tensor:
    """Rows of ``count`` points (N, 3), the first next to the middle and each next one farthest from those before it."""
    if len(points_mm) == 0:
        return torch.zeros(0, dtype=torch.long)
    chosen = [int((points_mm - points_mm.mean(0)).norm(dim=-1).argmin())]
    distance = (points_mm - points_mm[chosen[0]]).norm(dim=-1)
    while len(chosen) < min(count, len(points_mm)):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points_mm - points_mm[chosen[-1]]).norm(dim=-1))
    return torch.tensor(chosen)


def draw_closeups(registration: Registration, fixed: MetaTensor, moving: MetaTensor, affine: Tensor) -> Picture | None:
    """One picture: a column a place, a row a plane; moving is placed by ``affine``. None if there is no place."""
    from matplotlib.figure import Figure

    if not (places := places_of(registration)):
        return None
    wide = len(places) * (PIXELS + GAP) - GAP
    tall = HEAD + len(PLANES) * (PIXELS + GAP) - GAP
    figure = Figure(figsize=(wide / 100, tall / 100), dpi=100, facecolor="white")
    for column, place in enumerate(places):
        left = column * (PIXELS + GAP)
        words = place.words if len(place.words) <= 24 else f"{place.words[:12]}…{place.words[-10:]}"
        figure.text((left + PIXELS / 2) / wide, 1 - HEAD / 2 / tall, words, fontsize=9.5, ha="center", va="center")
        for row, plane in enumerate(PLANES):
            top = HEAD + row * (PIXELS + GAP)
            box = (left / wide, 1 - (top + PIXELS) / tall, PIXELS / wide, PIXELS / tall)
            axes = figure.add_axes(box)
            axes.imshow(_quarters(fixed, moving, affine, plane, place.fixed_mm).numpy(), interpolation="nearest")
            axes.set_axis_off()
            marked = ((place.fixed_mm, "o", FIXED_LINE, 130), (place.mapped_mm, "+", MOVING_LINE, 110))
            for point, marker, colour, size in marked:
                offset = (place.fixed_mm - point) * PIXELS / (2 * HALF_MM)
                x, y = (float(offset[axis]) + (PIXELS - 1) / 2 for axis in (plane.column, plane.row))
                filled = {"facecolors": "none", "edgecolors": colour} if marker == "o" else {"c": colour}
                axes.scatter([x], [y], s=size, marker=marker, linewidths=1.4, **filled)
            axes.set_xlim(-0.5, PIXELS - 0.5)
            axes.set_ylim(PIXELS - 0.5, -0.5)
    kind = "landmarks" if registration.landmark_points is not None else "matches"
    alt = (
        f"Close-ups of {2 * HALF_MM:.0f} mm at {len(places)} {kind} in the axial, coronal and sagittal plane: quarters of "
        "the fixed scan and of the registered moving scan in turn; a ring where the point lies in the fixed scan, a cross "
        "where the map takes its partner."
    )
    return Picture("closeups", kind, alt, jpeg_of(figure), wide, tall)


def _quarters(fixed: MetaTensor, moving: MetaTensor, affine: Tensor, plane: Plane, at: Tensor) -> Tensor:
    """Colours (rows, columns, 3) of a square round a point: split in quarters, fixed and moving in turn."""
    steps = HALF_MM - (torch.arange(PIXELS, dtype=torch.float64) + 0.5) * 2 * HALF_MM / PIXELS
    points = at.repeat(PIXELS, PIXELS, 1)
    points[..., plane.column] += steps
    points[..., plane.row] += steps[:, None]
    fixed_grey, in_fixed = look(fixed, as_affine(fixed.affine), points)
    moving_grey, in_moving = look(moving, affine, points)
    half = steps > 0
    take_fixed = (half[:, None] == half[None]) | ~in_moving
    grey = torch.where(take_fixed, fixed_grey * in_fixed, moving_grey)
    tint = torch.where(take_fixed[..., None], torch.tensor([0.9, 1.0, 1.1]), torch.tensor([1.1, 1.0, 0.85]))
    return (grey[..., None] * tint).clamp(0, 1)
