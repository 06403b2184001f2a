"""Pictures for the report page: overlays before and after, a checkerboard, close-ups, matches by error, carried structures.

Everything is drawn in RAS mm of the fixed scan, seen as a radiographer expects it: the patient's right, or front, on
the left of the picture. Colours are told apart with every kind of colour vision: fixed blue, moving orange, and the
two add up to grey where they agree.
"""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch import Tensor

from ...core.geometry import as_affine
from ...registration.result import Registration
from .carried import draw_carried
from .closeups import draw_closeups
from .cuts import PLANES, Plane, canvas_box, common_box, common_point, cut_points, look, on_cpu, overlapping, start_affine
from .match_map import draw_matches
from .parts import tinted
from .pictures import FIXED_LINE, MOVING_LINE, Picture, Pictures, photo

FIXED_COLOUR = torch.tensor([0.10, 0.50, 0.95])
MOVING_COLOUR = 1.0 - FIXED_COLOUR  # the two add up to white
SQUARE_MM = 30.0


def draw_pictures(registration: Registration) -> Pictures:
    """Draw every image that a result allows: without a fit, or with a stray one, only the scans as they came."""
    fixed, moving = on_cpu(registration.fixed), on_cpu(registration.moving)
    before, centred = start_affine(fixed, moving)
    start = "centres put on each other" if centred else "as the two files place them"
    shown = [("before", before, f"before registration, {start}")]
    if registration.fixed_to_moving is not None:
        after = torch.linalg.inv(registration.fixed_to_moving.matrix) @ as_affine(moving.affine)
        if overlapping(fixed, moving, after):
            shown.append(("after", after, "after registration"))
    box = canvas_box(fixed, moving, [affine for _, affine, _ in shown])
    images = []
    for section, affine, words in shown:
        at = common_point(fixed, moving, affine)
        images += [_overlay(fixed, moving, affine, plane, box, at, section, words) for plane in PLANES]
    if len(shown) == 2 and (common := common_box(fixed, moving, after)) is not None:
        images += [_checkerboard(fixed, moving, after, plane, common, at) for plane in PLANES]
        if (closeups := draw_closeups(registration, fixed, moving, after)) is not None:
            images.append(closeups)
    if len(registration.parts) > 1 and len(shown) == 2:
        for plane in PLANES:
            colour, step = tinted(registration, fixed, plane, box, at)
            alt = f"{plane.name.capitalize()} cut of the fixed scan: in colours the parts that moved on their own."
            images.append(photo(colour, step, plane, "parts", alt))
    if len(registration.matches):
        images.append(draw_matches(registration, fixed))
    images += draw_carried(registration)
    return Pictures(images, centred)


def _overlay(
    fixed: MetaTensor,
    moving: MetaTensor,
    affine: Tensor,
    plane: Plane,
    box: Tensor,
    at: Tensor,
    section: str,
    words: str,
) -> Picture:
    """Fixed in blue plus moving in orange where both are, fixed alone in grey, moving alone in orange."""
    points, step = cut_points(plane, box, at)
    fixed_grey, in_fixed = look(fixed, as_affine(fixed.affine), points)
    moving_grey, in_moving = look(moving, affine, points)
    fixed_grey, moving_grey = fixed_grey[..., None] * in_fixed[..., None], moving_grey[..., None] * in_moving[..., None]
    both = (in_fixed & in_moving)[..., None]
    colour = torch.where(both, fixed_grey * FIXED_COLOUR, 0.75 * fixed_grey) + moving_grey * MOVING_COLOUR
    alt = f"{plane.name.capitalize()} cut {words}: fixed scan in blue, moving scan in orange, grey where they agree. " + (
        "Outlines show the two fields of view." if in_moving.any() else "The moving scan does not reach this cut."
    )
    outlines = ((in_fixed, FIXED_LINE), (in_moving, MOVING_LINE))
    return photo(colour, step, plane, section, alt, outlines)


def _checkerboard(fixed: MetaTensor, moving: MetaTensor, affine: Tensor, plane: Plane, box: Tensor, at: Tensor) -> Picture:
    """Squares of the fixed scan, faintly blue, and of the registered moving scan, faintly orange, in turn."""
    points, step = cut_points(plane, box, at)
    fixed_grey, in_fixed = look(fixed, as_affine(fixed.affine), points)
    moving_grey, in_moving = look(moving, affine, points)
    squares = ((points - box[0]) / SQUARE_MM).floor().long()
    take_fixed = ((squares[..., plane.column] + squares[..., plane.row]) % 2 == 0) | ~in_moving
    grey = torch.where(take_fixed, fixed_grey * in_fixed, moving_grey)[..., None]
    tint = torch.where(take_fixed[..., None], FIXED_COLOUR, MOVING_COLOUR)
    colour = grey * (0.9 + 0.1 * 2 * tint)
    alt = (
        f"{plane.name.capitalize()} checkerboard after registration, squares of {SQUARE_MM:.0f} mm taken in turn from "
        "the fixed scan (bluish) and the moving scan (orange): edges should run on across the squares."
    )
    return photo(colour, step, plane, "checkerboard", alt)
