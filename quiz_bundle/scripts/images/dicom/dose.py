"""A dose distribution (RTDOSE) as a grid in RAS mm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from monai.data import MetaTensor

from ...core.errors import InputError
from ...core.geometry import LPS_FROM_RAS
from .folder import damaged, quietly
from .pairing import text_of
from .rt_objects import RTDOSE, open_object, owner

AXIAL = 1e-4  # of direction cosines
WHOLE = 1e-6  # of a step: what rounding may put outside


@dataclass(frozen=True)
class Dose:
    """A dose on the grid of its file.

    Attributes:
        path: of the file.
        role: "fixed" or "moving", the scan in whose frame of reference it lies.
        dataset: as it was read, without pixels.
        values: (I, J, K), columns, rows, frames; in DoseUnits, float32.
        affine: (4, 4) from columns, rows and mm along the normal to RAS mm.
        heights_mm: (K,) of the frames along the normal, growing; frames need not be evenly spaced.
    """

    path: Path
    role: str
    dataset: pydicom.Dataset
    values: np.ndarray
    affine: np.ndarray
    heights_mm: np.ndarray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Steps from column to column, row to row and, in the middle, frame to frame."""
        columns, rows = np.linalg.norm(self.affine[:3, :2], axis=0)
        return float(columns), float(rows), float(np.median(np.diff(self.heights_mm)))

    def corners_mm(self) -> np.ndarray:
        """The middles (8, 3) of the grid's outermost voxels, RAS mm."""
        columns, rows, _ = self.values.shape
        ends = ((0, columns - 1), (0, rows - 1), self.heights_mm[[0, -1]])
        where = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
        return where @ self.affine[:3, :3].T + self.affine[:3, 3]

    def at(self, points_mm: np.ndarray) -> np.ndarray:
        """Dose (N,) at points (N, 3) in RAS mm, linear between the grid's; 0 outside."""
        from scipy.ndimage import map_coordinates

        inverse = np.linalg.inv(self.affine)
        place = points_mm @ inverse[:3, :3].T + inverse[:3, 3]
        low = np.array([0.0, 0.0, self.heights_mm[0]])
        high = np.array([*np.array(self.values.shape[:2]) - 1.0, self.heights_mm[-1]])
        within = ((place >= low - WHOLE) & (place <= high + WHOLE)).all(1)
        place = np.clip(place, low, high)
        place[:, 2] = np.interp(place[:, 2], self.heights_mm, np.arange(len(self.heights_mm)))
        found = np.zeros(len(points_mm))
        found[within] = map_coordinates(self.values, place[within].T, output=np.float64, order=1, mode="nearest")
        return found


def read_dose(path: str | Path, fixed: MetaTensor, moving: MetaTensor) -> Dose:
    """Read an RTDOSE that lies in the frame of reference of one of two scans.

    Raises:
        InputError: no RTDOSE, damaged, a dose at points instead of on a grid, of another patient or in another frame.
    """
    path = Path(path)
    dataset = open_object(path, RTDOSE)
    role = owner(
        path,
        dataset,
        {text_of(dataset, "FrameOfReferenceUID")} - {""},
        {text_of(dataset, "StudyInstanceUID")},
        {"fixed": fixed.meta.get("series"), "moving": moving.meta.get("series")},
    )
    if "PixelData" not in dataset or int(dataset.get("NumberOfFrames") or 1) < 2:
        found = "a single plane, or histograms only"
        raise InputError(path, "an RTDOSE with a grid of several planes", found, "export the dose of the whole volume")
    try:
        with quietly():
            values = dataset.pixel_array.transpose(2, 1, 0) * np.float64(dataset.DoseGridScaling)
            affine, heights = _grid(dataset)
    except InputError:
        raise
    except Exception as error:  # readers raise anything on a damaged file
        raise damaged(path, path, wanted="an RTDOSE") from error
    order = np.argsort(heights)
    heights = heights[order]
    if values.shape[2] != len(heights) or min(values.shape) < 2 or not (np.diff(heights) > 0).all():
        raise damaged(path, path, "planes that lie on each other or are missing", "an RTDOSE")
    del dataset.PixelData
    return Dose(path, role, dataset, np.ascontiguousarray(values[:, :, order], dtype=np.float32), affine, heights)


def _grid(dataset: pydicom.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The affine of ``Dose`` and the heights of the frames in the file's order (PS3.3, C.8.8.3.2)."""
    axes = np.array([float(value) for value in dataset.ImageOrientationPatient]).reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=0.01):
        raise ValueError("ImageOrientationPatient: expected two unit vectors at right angles")
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    normal = np.cross(*axes)
    corner = np.array([float(value) for value in dataset.ImagePositionPatient])
    offsets = np.array([float(value) for value in dataset.GridFrameOffsetVector])
    if abs(offsets[0]) > AXIAL and abs(normal[2]) > 1 - AXIAL:  # written as z of each frame, whichever way the normal points
        offsets = offsets * np.sign(normal[2])
    down, across = (float(value) for value in dataset.PixelSpacing)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([axes[0] * across, axes[1] * down, normal], axis=1)
    affine[:3, 3] = corner
    return np.diag(LPS_FROM_RAS) @ affine, offsets - offsets[0]
