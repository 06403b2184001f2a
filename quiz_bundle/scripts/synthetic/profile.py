"""A patient slice by slice: how large she is, where her spine runs, where her iliac crests end."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from scipy import ndimage
from torch import Tensor

from ..core.geometry import as_affine, ijk_to_mm
from ..images.body import body_mask
from ..images.volumes import coarser

BONE_HU = 180.0
RULE_MM = 3.0


class Profile:
    """A patient slice by slice on a 3 mm grid.

    Attributes:
        z_mm: (K,) heights of the slices.
        area_mm2: (K,) of the body.
        bone: (I, J, K) bool.
        affine: (4, 4) of the grid.
    """

    def __init__(self, volume: MetaTensor) -> None:
        scan = coarser(volume, RULE_MM, outside=-1000.0)
        self.affine = as_affine(scan.affine)
        body = body_mask(scan)
        data = scan.as_tensor()[0]
        self.data, self.body, self.bone = data, body, (data > BONE_HU) & body
        self.z_mm = (self.affine[2, 3] + self.affine[2, 2] * torch.arange(body.shape[2], dtype=torch.float64)).numpy()
        self.area_mm2 = body.double().sum((0, 1)).numpy() * RULE_MM**2
        self.empty = int(body.sum()) == 0

    def spine_mm(self, z_mm: float, reach_mm: float = 12.0) -> Tensor | None:
        """A point (3,) within the spine at a height: the middle of the bone in the rear about the midline; None without."""
        near = np.abs(self.z_mm - z_mm) <= reach_mm
        body, bone = self.body[:, :, near], self.bone[:, :, near]
        if not body.any():
            return None
        where = ijk_to_mm(body.nonzero(), self.affine)
        middle = where[:, 0].median()
        rear, front = where[:, 1].quantile(0.02) if len(where) < 1e6 else where[:, 1].min(), where[:, 1].max()
        points = ijk_to_mm(bone.nonzero(), self.affine)
        keep = ((points[:, 0] - middle).abs() < 35) & (points[:, 1] < rear + 0.62 * (front - rear))
        if int(keep.sum()) < 15:
            return None
        points = points[keep]
        return torch.tensor([float(points[:, 0].median()), float(points[:, 1].median()), z_mm], dtype=torch.float64)


def spine_line(profile: Profile, step_mm: float = 12.0) -> Tensor | None:
    """The longest unbroken run (N, 3) of points within the spine, one every 12 mm upwards, smoothed; None below 100 mm."""
    if profile.empty:
        return None
    runs: list[list[Tensor]] = [[]]
    for z in np.arange(profile.z_mm[0] + 6, profile.z_mm[-1] - 6, step_mm):
        point = profile.spine_mm(float(z))
        last = runs[-1][-1] if runs[-1] else None
        if point is None or (last is not None and float((point - last)[:2].norm()) > 15):
            runs.append([] if point is None else [point])
        else:
            runs[-1].append(point)
    longest = max(runs, key=len)
    if len(longest) < 9:
        return None
    line = torch.stack(longest)
    line[:, :2] = torch.from_numpy(ndimage.gaussian_filter1d(line[:, :2].numpy(), 2.0, axis=0, mode="nearest"))
    return line


def crest(profile: Profile) -> float | None:
    """Height in mm of the iliac crests: where the bone to both sides of the spine ends upwards; None without."""
    if profile.empty:
        return None
    voxels = profile.bone.nonzero()
    x = ijk_to_mm(voxels, profile.affine)[:, 0] - ijk_to_mm(profile.body.nonzero(), profile.affine)[:, 0].median()
    counts = []
    for side in (1, -1):
        at = (side * x > 50) & (side * x < 140)
        counts.append(np.bincount(voxels[at][:, 2].numpy(), minlength=profile.bone.shape[2]) * RULE_MM**2)
    both = np.minimum(*counts)
    for k in range(20, len(both) - 4):
        if both[k - 20 : k].mean() > 350 and both[k : k + 4].max() < 60:
            return float(profile.z_mm[k])
    return None
