"""The body that closed contours on parallel planes bound, and its cut with any other plane.

Contours are never turned into a mask. On each of its planes the body is the polygon of its contours, and the signed
distance to that polygon's outline says how deep a point lies. Between two planes the depth changes evenly from the one's
to the other's, so the surface, where it is zero, passes through every contour and between those that correspond, whatever
splits or joins. Beyond a first or last contour a dome holds what planning systems count there, half a slab.

Polygons and their areas are shapely's (GEOS), nearest points SciPy's; lines of equal depth come from contourpy, which
Matplotlib brings. Their vertices are then moved onto the surface itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from contourpy import contour_generator
from shapely.geometry.base import BaseGeometry

from .contours import sections
from .outlines import Outline

GAP = 1.6  # distances of planes, in the usual one, from which the body is not continued between them
LOWEST = 0.75  # a dome, in the distance of planes
MOST_SWELL = 0.5  # of a section between two planes, in their distance
STEEP = 3.0  # a surface that moves sideways by more than this many distances of planes gets a step half way
FINEST_MM, COARSEST_MM = 0.25, 1.0  # steps in which lines of equal depth are looked for
SIMPLER_MM = 0.01  # points of a cut that lie this close to a straight line are left out
SMALLEST_MM2 = 0.05  # cuts below are specks
HALVINGS = 10


@dataclass(frozen=True)
class _Between:
    """The body between two planes: the depth changes from the lower outline's to the upper one's.

    Halfway, ``swell`` mm are added, so that the section's area there is the mean of the two.
    """

    low: float
    high: float
    lower: Outline
    upper: Outline
    swell: float

    @classmethod
    def of(cls, low: float, high: float, lower: Outline, upper: Outline) -> _Between:
        where = lower.grid(upper)
        halfway = (lower.quick_depth(where) + upper.quick_depth(where)) / 2
        area = (lower.region.area + upper.region.area) / 2
        count = min(max(round(area / lower.step**2), 1), len(halfway))
        level = -np.partition(-halfway, count - 1)[count - 1]
        return cls(low, high, lower, upper, float(np.clip(-level, -MOST_SWELL * (high - low), MOST_SWELL * (high - low))))

    def depth(self, plane: np.ndarray, height: np.ndarray, quick: bool) -> np.ndarray:
        """Depth (N,) at places (N, 2) of the plane and heights (N,) between the two."""
        lower, upper = (each.quick_depth(plane) if quick else each.depth(plane) for each in (self.lower, self.upper))
        share = (height - self.low) / (self.high - self.low)
        return (1 - share) * lower + share * upper + 4 * share * (1 - share) * self.swell


@dataclass(frozen=True)
class _End:
    """The body beyond its last plane: a dome whose section's area falls evenly to nothing at its tip.

    As high as the next plane would be far it holds as much as half a slab, which is what planning systems count there.
    """

    at: float
    tip: float
    outline: Outline

    @property
    def low(self) -> float:
        """Where it begins."""
        return min(self.at, self.tip)

    @property
    def high(self) -> float:
        """Where it ends."""
        return max(self.at, self.tip)

    def depth(self, plane: np.ndarray, height: np.ndarray, quick: bool) -> np.ndarray:
        """Depth (N,) at places (N, 2) of the plane and heights (N,) between the last plane and the tip."""
        share = (height - self.at) / (self.tip - self.at)
        return (self.outline.quick_depth(plane) if quick else self.outline.depth(plane)) - self.outline.level(share)


class Solid:
    """The body that closed planar contours bound, in the contours' own world (mm).

    Args:
        contours: each (N, 3), all in planes at right angles to ``normal``; several in one plane exclude each other's
            inside where they overlap, as DICOM has it.
        normal: (3,), of the planes.
        spacing: distance of the planes where one alone cannot tell it, mm.

    Raises:
        NotParallelError: a contour is not flat, or lies otherwise.
        ValueError: the contours enclose nothing.
    """

    def __init__(self, contours: Sequence[np.ndarray], normal: np.ndarray, spacing: float) -> None:
        normal = np.asarray(normal, dtype=float) / np.linalg.norm(normal)
        across = np.cross(normal, np.eye(3)[np.argmin(np.abs(normal))])
        across /= np.linalg.norm(across)
        self.axes = np.stack([across, np.cross(normal, across), normal])  # rows: two in the plane, and its normal
        self.planes = sections([np.asarray(contour, dtype=float) @ self.axes.T for contour in contours])
        if not self.planes:
            raise ValueError("contours that enclose nothing")
        heights = np.array([height for height, _ in self.planes])
        gaps = np.diff(heights)
        self.spacing = float(np.median(gaps)) if len(gaps) else float(spacing)
        joined = gaps <= GAP * self.spacing
        below, above = (np.full(len(heights), self.spacing / 2) for _ in range(2))
        below[1:][joined] = above[:-1][joined] = gaps[joined] / 2
        self.thickness = below + above
        self.step = self._step()
        self.layers = self._layers(joined)
        self.bottom, self.top = heights[0] - self.spacing, heights[-1] + self.spacing

    @property
    def volume_mm3(self) -> float:
        """Areas times the thickness that each stands for."""
        return float(sum(region.area * thick for (_, region), thick in zip(self.planes, self.thickness, strict=True)))

    def box_mm(self) -> np.ndarray:
        """The eight corners (8, 3) of the box round the body, world mm."""
        bounds = np.array([region.bounds for _, region in self.planes])
        low, high = bounds[:, :2].min(0), bounds[:, 2:].max(0)
        ends = np.array([[*low, self.bottom], [*high, self.top]])
        corners = np.stack(np.meshgrid(*ends.T, indexing="ij"), -1).reshape(-1, 3)
        return corners @ self.axes

    def depth(self, points_mm: np.ndarray, quick: bool = False) -> np.ndarray:
        """How deep points (N, 3) lie in the body, mm: positive inside, zero on its surface; cut off away from it.

        Args:
            points_mm: world mm.
            quick: from tables, to about a tenth of their step.
        """
        own = np.asarray(points_mm, dtype=float).reshape(-1, 3) @ self.axes.T
        found = np.full(len(own), -STEEP * self.spacing)
        order = np.argsort(own[:, 2], kind="stable")
        heights = own[order, 2]
        for layer in self.layers:
            first, last = np.searchsorted(heights, layer.low, "left"), np.searchsorted(heights, layer.high, "right")
            chosen = order[first:last]
            if len(chosen):
                depth = layer.depth(own[chosen, :2], own[chosen, 2], quick)
                found[chosen] = np.maximum(found[chosen], depth)
        return found

    def cut(self, planes: Sequence[Plane]) -> list[list[np.ndarray]]:
        """The closed curves in which planes cut the body's surface: for each plane, plane mm (N, 2), not closed again."""
        corners = self.box_mm()
        found = [_level_lines(plane, corners, self.step, lambda points: self.depth(points, quick=True)) for plane in planes]
        lines = [(number, *line) for number, each in enumerate(found) for line in each]
        if not lines:
            return [[] for _ in planes]
        world = [
            np.concatenate([planes[number].world(ends[side]) for number, _, ends in lines]) for side in range(2)
        ]
        share = self._crossing(*world)
        result: list[list[np.ndarray]] = [[] for _ in planes]
        place = 0
        for number, line, (start, end) in lines:
            exact = share[place : place + len(line)]
            place += len(line)
            line = np.where(np.isnan(exact)[:, None], line, start + np.nan_to_num(exact)[:, None] * (end - start))
            if (line := _tidy(line)) is not None:
                result[number].append(line)
        return result

    def _crossing(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Where between two points (N, 3) the surface passes, as a share of the way; NaN where it does not."""
        inside = self.depth(start) > 0
        low, high = np.zeros(len(start)), np.ones(len(start))
        passes = inside != (self.depth(end) > 0)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            same = (self.depth(start + middle[:, None] * (end - start)) > 0) == inside
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        return np.where(passes, (low + high) / 2, np.nan)

    def _step(self) -> float:
        """A sixteenth of the mean width of the body's sections, within limits."""
        area = sum(region.area for _, region in self.planes)
        length = sum(region.length for _, region in self.planes)
        return float(np.clip(0.25 * area / length, FINEST_MM, COARSEST_MM))

    def _layers(self, joined: np.ndarray) -> list[_Between | _End]:
        reach = STEEP * self.spacing
        outlines: dict[int, Outline] = {}

        def outline(region: BaseGeometry) -> Outline:
            return outlines.setdefault(id(region), Outline(region, reach, self.step))

        def end(height: float, region: BaseGeometry, rise: float) -> _End:
            deepest = float(np.hypot(*np.subtract(region.bounds[2:], region.bounds[:2]))) / 2
            return _End(height, height + rise, Outline(region, max(reach, deepest), self.step))

        def dome(number: int, side: int) -> _End:
            """The end at a plane: as high as the areas of the last two sections let expect."""
            height, region = self.planes[number]
            before, share = number - side, 1.0
            if 0 <= before < len(self.planes) and joined[min(number, before)]:
                shrinks = self.planes[before][1].area - region.area
                share = float(np.clip(region.area / shrinks, LOWEST, 1)) if shrinks > 0 else 1.0
            return end(height, region, side * share * self.spacing)

        layers = [dome(0, -1), dome(len(self.planes) - 1, 1)]
        for number, whole in enumerate(joined):
            (low, lower), (high, upper) = self.planes[number : number + 2]
            if not whole:
                layers += [dome(number, 1), dome(number + 1, -1)]
                continue
            (below, alone_below), (above, alone_above) = _facing(lower, upper), _facing(upper, lower)
            if below is not None and above is not None:
                layers.append(_Between.of(low, high, outline(below), outline(above)))
            if alone_below is not None:
                layers.append(end(low, alone_below, high - low))
            if alone_above is not None:
                layers.append(end(high, alone_above, low - high))
        return layers


@dataclass(frozen=True)
class Plane:
    """A plane in space: where its (0, 0) lies, and its two unit vectors (2, 3), world mm."""

    origin: np.ndarray
    axes: np.ndarray

    def world(self, points: np.ndarray) -> np.ndarray:
        """Plane mm (N, 2) as world mm (N, 3)."""
        return self.origin + points @ self.axes


def _facing(region: BaseGeometry, other: BaseGeometry) -> tuple[BaseGeometry | None, BaseGeometry | None]:
    """The pieces of a region that overlap another one, and those that do not; a whole region stays the same object."""
    pieces = shapely.get_parts(region)
    meets = shapely.intersects(pieces, other)
    if meets.all():
        return region, None
    if not meets.any():
        return None, region
    return shapely.union_all(pieces[meets]), shapely.union_all(pieces[~meets])


def _level_lines(
    plane: Plane, corners: np.ndarray, step: float, depth: Callable[[np.ndarray], np.ndarray]
) -> list[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Lines (N, 2) on a plane, near zero depth, and for each of their vertices two points it lies between."""
    normal = np.cross(*plane.axes)
    heights = (corners - plane.origin) @ normal
    if heights.min() > 0 or heights.max() < 0:
        return []
    flat = (corners - plane.origin) @ plane.axes.T
    low, high = flat.min(0) - 2 * step, flat.max(0) + 2 * step
    size = np.ceil((high - low) / step).astype(int) + 1
    where = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1).reshape(-1, 2) * step + low
    values = depth(plane.world(where)).reshape(size)
    if values.max() <= 0:
        return []
    result = []
    for line in contour_generator(z=values.T).lines(0.0):
        if len(line) < 4:
            continue
        line = line[:-1]
        whole = np.round(line)
        on_node = np.abs(line - whole) < 1e-9
        start, end = np.where(on_node, whole, np.floor(line)), np.where(on_node, whole, np.floor(line) + 1)
        result.append((line * step + low, (start * step + low, end * step + low)))
    return result


def _tidy(line: np.ndarray) -> np.ndarray | None:
    """A closed curve without superfluous points; None for a speck."""
    ring = shapely.simplify(shapely.Polygon(line).exterior, SIMPLER_MM) if len(line) >= 3 else None
    if ring is None or ring.is_empty or shapely.Polygon(ring).area < SMALLEST_MM2:
        return None
    return shapely.get_coordinates(ring)[:-1]
