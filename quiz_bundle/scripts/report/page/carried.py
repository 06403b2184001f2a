"""Pictures of carried structures where they came to lie: the other scan, cut through their middle, with their outlines.

What is drawn is what ``structures.dcm`` holds: closed contours as the body that they bound there, cut by each plane; curves
and points as seen along the plane's normal.
"""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ...core.geometry import as_affine
from ...images.dicom.structures import Contour, Structure
from ...registration.carry import CarriedStructure
from ...registration.result import Registration
from .cuts import PLANES, Plane, cut_points, look, on_cpu
from .pictures import Picture, photo

MARGIN_MM = 40.0
COLOURS = ("#ffd166", "#06d6a0", "#ef476f", "#4cc9f0", "#f78c6b", "#b298dc")  # for structures that have none
FIELD = "#ffffff"


def draw_carried(registration: Registration) -> list[Picture]:
    """Three cuts of the scan that structures were carried to; none if there are no structures."""
    carried = registration.carried
    if carried is None or not (drawn := [each for each in carried.carried_structures if each.contours]):
        return []
    target = on_cpu(registration.moving if carried.structures.role == "fixed" else registration.fixed)
    points = [torch.from_numpy(np.concatenate([each.points_mm for each in one.contours])) for one in drawn]
    box = torch.stack([torch.cat(points).amin(0) - MARGIN_MM, torch.cat(points).amax(0) + MARGIN_MM])
    at = torch.cat(points).median(0).values
    outlines = [(_colour(one, n), _Outline(one, target)) for n, one in enumerate(drawn)]
    return [_picture(target, plane, box, at, outlines) for plane in PLANES]


def _picture(target: MetaTensor, plane: Plane, box: Tensor, at: Tensor, outlines: list[tuple[object, _Outline]]) -> Picture:
    points, step = cut_points(plane, box, at)
    grey, inside = look(target, as_affine(target.affine), points)
    lines = []
    for colour, outline in outlines:
        for curve, style in outline.on(plane, at):
            column = (float(box[1, plane.column]) - curve[:, plane.column]) / step - 0.5
            row = (float(box[1, plane.row]) - curve[:, plane.row]) / step - 0.5
            lines.append((np.stack([column, row], 1), colour, style))
    alt = f"{plane.name.capitalize()} cut through the carried structures, on the scan that they were carried to."
    grey = (grey * inside)[..., None].expand(*grey.shape, 3)
    return photo(grey, step, plane, "carried", alt, ((inside, FIELD),), lines)


class _Outline:
    """What of a carried structure a cut shows.

    Args:
        structure: with its contours.
        target: the scan that they lie on.
    """

    def __init__(self, structure: CarriedStructure, target: MetaTensor) -> None:
        self.open = [each for each in structure.contours if not Contour(each.kind, each.points_mm).bounds]
        closed = [Contour(each.kind, each.points_mm) for each in structure.contours]
        closed = tuple(each for each in closed if each.bounds)
        self.solid = None
        if closed:
            try:
                self.solid = Structure(0, "", "", closed).solid(target)
            except ValueError:  # too little is left of it
                self.solid = None

    def on(self, plane: Plane, at: Tensor) -> list[tuple[np.ndarray, str]]:
        """Lines (N, 3) in RAS mm with a way to draw each, for a plane through a point."""
        found = []
        if self.solid is not None:
            from ...images.solids import Plane as Cut

            axes = np.eye(3)[[plane.column, plane.row]]
            origin = at.numpy() * np.eye(3)[plane.normal]
            for curve in self.solid.cut([Cut(origin, axes)])[0]:
                world = origin + curve @ axes
                found.append((np.concatenate([world, world[:1]]), "-"))
        return found + [(each.points_mm, "o" if len(each.points_mm) == 1 else "-") for each in self.open]


def _colour(structure: CarriedStructure, number: int) -> object:
    own = structure.source.colour
    if own is None or max(own) < 60:  # none, or too dark on grey
        return COLOURS[number % len(COLOURS)]
    return tuple(value / 255 for value in own)
