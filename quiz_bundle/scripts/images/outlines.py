"""A region of a plane, and how deep points lie in it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import shapely
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree
from shapely.geometry.base import BaseGeometry

SAMPLES_MM = 1.0  # longest piece of an outline


class Outline:
    """A region of a plane and the signed distance to its outline.

    Args:
        region: polygons, plane mm.
        reach: distances beyond are cut off, mm.
        step: of the grid on which distances are tabulated, mm.
    """

    def __init__(self, region: BaseGeometry, reach: float, step: float) -> None:
        self.region, self.reach, self.step = region, reach, step
        shapely.prepare(self.region)

    @cached_property
    def _pieces(self) -> tuple[cKDTree, np.ndarray, np.ndarray, np.ndarray]:
        """Search tree of the outline's points, each one's next point and the one before."""
        points, after, before = [], [], []
        for ring in shapely.get_rings(shapely.get_parts(shapely.segmentize(self.region, SAMPLES_MM))):
            ring = shapely.get_coordinates(ring)[:-1]
            points.append(ring)
            after.append(np.roll(ring, -1, axis=0))
            before.append(np.roll(ring, 1, axis=0))
        points = np.concatenate(points)
        return cKDTree(points), points, np.concatenate(after), np.concatenate(before)

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Distance (N,) of points (N, 2) to the outline, positive inside, at most ``reach`` either way."""
        tree, at, after, before = self._pieces
        near, index = tree.query(points, k=min(3, len(at)), distance_upper_bound=self.reach + SAMPLES_MM)
        near, index = near.reshape(len(points), -1), index.reshape(len(points), -1)
        distance = np.full(len(points), self.reach)
        for column in range(index.shape[1]):
            there = np.isfinite(near[:, column])
            chosen = index[there, column]
            for other in (after, before):
                found = _to_segment(points[there], at[chosen], other[chosen])
                distance[there] = np.minimum(distance[there], found)
        inside = shapely.contains_xy(self.region, points[:, 0], points[:, 1])
        return np.where(inside, distance, -distance)

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """Depths on a grid that holds the outline and all within reach of it, and the grid's first corner."""
        low, high = np.array(self.region.bounds).reshape(2, 2)
        low = low - self.reach - self.step
        size = np.ceil((high + self.reach + self.step - low) / self.step).astype(int) + 1
        where = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1).reshape(-1, 2) * self.step + low
        return self.depth(where).reshape(size).astype(np.float32), low

    @cached_property
    def _levels(self) -> np.ndarray:
        """Depths that are exceeded in the whole region, in a little less of it, and so on to nothing of it."""
        depths = np.sort(self._table[0][self._table[0] > 0])
        if not len(depths):
            return np.zeros(2)
        levels = np.quantile(depths, np.linspace(0, 1, 65))
        levels[0] = 0
        return levels

    def level(self, share: np.ndarray) -> np.ndarray:
        """The depth that is exceeded in all of the region but a share (N,) of its area."""
        return np.interp(share, np.linspace(0, 1, len(self._levels)), self._levels)

    def grid(self, other: Outline) -> np.ndarray:
        """Points (N, 2) of a grid that holds both regions and all within reach of them."""
        low = np.minimum(self.region.bounds[:2], other.region.bounds[:2]) - self.reach
        high = np.maximum(self.region.bounds[2:], other.region.bounds[2:]) + self.reach
        size = np.ceil((high - low) / self.step).astype(int) + 1
        return np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1).reshape(-1, 2) * self.step + low

    def quick_depth(self, points: np.ndarray) -> np.ndarray:
        """``depth`` from the table: for finding where the surface passes."""
        table, low = self._table
        return map_coordinates(table, ((points - low) / self.step).T, order=1, mode="nearest")


def _to_segment(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distances (N,) of points to segments, each to its own."""
    along = end - start
    share = ((points - start) * along).sum(1) / np.maximum((along * along).sum(1), 1e-12)
    return np.linalg.norm(points - start - np.clip(share, 0, 1)[:, None] * along, axis=1)
