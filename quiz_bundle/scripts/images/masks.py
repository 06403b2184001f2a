"""Masks and label maps from their files, refused where nothing could be done with them."""

from __future__ import annotations

from pathlib import Path

from monai.data import MetaTensor

from ..core.errors import InputError
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
