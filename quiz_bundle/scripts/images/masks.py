"""Masks and label maps from their files, refused where nothing could be done with them."""

from __future__ import annotations

from pathlib import Path

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.errors import InputError
from ..core.geometry import corners_mm, ijk_to_mm, inside
from .volumes import load_volume

INSIDE = 0.5  # a mask's values above it are inside
MOST_LABEL = 2**24  # float32, which volumes are, holds every whole number below


def load_region(path: str | Path) -> MetaTensor:
    """Read a mask (1, I, J, K); inside is what is above ``INSIDE``.

    Raises:
        InputError: no readable 3-D image (``volumes.load_volume``), or nothing is inside.
    """
    mask = load_volume(path, labels=True)
    if not (mask.as_tensor() > INSIDE).any():
        found = f"none: the largest value is {float(mask.max()):g}"
        raise InputError(path, f"a mask with voxels above {INSIDE}", found, "check that this is the right file")
    return mask


def load_labels(path: str | Path) -> MetaTensor:
    """Read a label map (1, I, J, K).

    Raises:
        InputError: no readable 3-D image (``volumes.load_volume``), or a label too large to be told from the next.
    """
    labels = load_volume(path, labels=True)
    largest = float(labels.as_tensor().abs().max())
    if largest >= MOST_LABEL:
        raise InputError(path, f"labels below {MOST_LABEL}", f"a label of about {largest:.0f}", "number the labels anew")
    return labels


def check_touches(mask: MetaTensor, scan: MetaTensor, subject: object, kind: str) -> None:
    """Refuse a mask or label map whose voxels all lie outside the scan that it belongs to.

    Args:
        mask: (1, I, J, K); of a label map with no label at all, any of its voxels may lie inside.
        scan: (1, I, J, K), the scan.
        subject: what to call the mask in the message.
        kind: what the scan is called: "fixed" or "moving".

    Raises:
        InputError: none of it lies in the scan's field.
    """
    marked = mask.as_tensor()[0].abs() > INSIDE
    marked = marked if marked.any() else torch.ones_like(marked)
    for row, plane in enumerate(marked):  # one after the other: the points of all would fill the memory
        if (jk := plane.nonzero().double()).numel():
            ijk = torch.cat([torch.full((len(jk), 1), float(row), dtype=torch.float64), jk], 1)
            if inside(ijk_to_mm(ijk, mask.affine), scan.affine, scan.shape[1:]).any():
                return
    fields = (corners_mm(volume.affine, volume.shape[1:]) for volume in (mask, scan))
    own, other = (" x ".join(f"[{low:.0f}, {high:.0f}]" for low, high in zip(*_ends(f), strict=True)) for f in fields)
    found = f"none of it there: it spans {own} mm (RAS) and the scan {other}"
    raise InputError(subject, f"something within the {kind} scan", found, f"give one that was made on the {kind} scan")


def _ends(points_mm: Tensor) -> tuple[list[float], list[float]]:
    return points_mm.amin(0).tolist(), points_mm.amax(0).tolist()
