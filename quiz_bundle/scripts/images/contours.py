"""Closed contours: what they enclose in one plane, and their sections where they lie on several that are parallel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

FLAT_MM = 0.1  # how far a planar contour's points may lie off its plane
SAME_PLANE_MM = 0.1  # two that lie nearer to each other are of one plane


class NotParallelError(ValueError):
    """Contours that are not flat, or lie in planes of several directions."""


def closed_region(rings: Sequence[np.ndarray]) -> BaseGeometry:
    """What closed contours (N, 2) in one plane enclose: each one's even-odd inside, less where two overlap."""
    parts = [shapely.make_valid(shapely.Polygon(ring)) for ring in rings if len(ring) >= 3]
    region = reduce(shapely.symmetric_difference, parts, shapely.Polygon())
    polygons = [piece for piece in shapely.get_parts(shapely.get_parts(region)) if piece.geom_type == "Polygon"]
    return shapely.union_all([piece for piece in polygons if piece.area > 0])


def areas_mm2(rings: Sequence[np.ndarray]) -> float:
    """Area that closed contours (N, 2) in one plane enclose."""
    return float(closed_region(rings).area)


def normal_of(contours: Sequence[np.ndarray]) -> np.ndarray:
    """The normal (3,) of the plane of the contour (N, 3) that encloses most."""
    turned = [np.cross(each - each[0], np.roll(each, -1, axis=0) - each[0]).sum(0) for each in contours]
    return max(turned, key=np.linalg.norm)


def sections(contours: Sequence[np.ndarray]) -> list[tuple[float, BaseGeometry]]:
    """Heights in order and what the contours (N, 3) on each enclose; empty planes are left out.

    Raises:
        NotParallelError: a contour does not lie across the third axis.
    """
    if any(np.ptp(contour[:, 2]) > FLAT_MM for contour in contours):
        raise NotParallelError("contours that do not lie in parallel planes")
    contours = sorted(contours, key=lambda contour: contour[:, 2].mean())
    groups: list[list[np.ndarray]] = []
    for contour in contours:
        if groups and contour[:, 2].mean() - groups[-1][0][:, 2].mean() <= SAME_PLANE_MM:
            groups[-1].append(contour)
        else:
            groups.append([contour])
    planes = [
        (float(np.mean([contour[:, 2].mean() for contour in group])), closed_region([contour[:, :2] for contour in group]))
        for group in groups
    ]
    return [(height, region) for height, region in planes if not region.is_empty]
