"""Volumes of different shapes in one tensor: padded with air, their voxel indices unchanged."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional


def pad_together(images: Sequence[Tensor]) -> list[Tensor]:
    """Pad volumes (..., I, J, K) with air (0) behind their last voxels to one common shape; voxel indices stay true."""
    shape = [max(image.shape[axis] for image in images) for axis in (-3, -2, -1)]
    padded = []
    for image in images:
        gap = [wanted - have for wanted, have in zip(shape, image.shape[-3:], strict=True)]
        padded.append(functional.pad(image, [0, gap[2], 0, gap[1], 0, gap[0]]))
    return padded
