"""Pseudo-CTs: Hounsfield units painted into a label map of pelvic bones and muscles, different for every seed.

The shapes are a real patient's, the grey values are drawn: most draws look like a CT, some have contrasts no scanner
gives, because a matcher trained on wide random contrasts carries over to scans it never saw (SynthMorph, Hoffmann et
al., IEEE TMI 2022). What a label map leaves open between skin and muscles is filled by ``organs``.

Labels: 1 pelvis, 2 femur, 3 sacrum, 4 spine, 5 to 28 muscles. The work is done on a ``WORK_MM`` grid along RAS.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.random import RandomState
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from ...core.errors import InputError
from ...core.geometry import as_affine, spacing_of
from ...images.masks import load_region
from ...images.volumes import load_volume, make_volume, resample, standard_grid, to_orientation_ras
from .organs import fill_cavity
from .scene import BONES, LABELS, Scene, smooth_noise
from .tissues import bounding_box, dilated, draw_palette, eroded, fat_everywhere, fill_gaps, paint_bone, paint_muscles

WORK_MM = 2.0
OUTSIDE_HU = -1000.0


def load_painting(label_file: str | Path, mask_file: str | Path | None, seed: int, spacing: float = WORK_MM) -> MetaTensor:
    """Read a label map and body mask and paint them: HU (1, I, J, K) on an isotropic RAS grid around the body.

    Args:
        label_file: label map, values as told at the top of this file.
        mask_file: body mask on the same grid, or None.
        seed: draws the painting.
        spacing: of the result in mm; the painting itself has no finer detail than ``WORK_MM``.

    Raises:
        InputError: a file cannot be read, the two grids differ, or the map holds other labels.
    """
    labels, body, affine, meta = _read(str(label_file), None if mask_file is None else str(mask_file), float(spacing))
    hu = _paint(labels, body, spacing, RandomState(seed))
    return make_volume(torch.from_numpy(hu)[None], affine, {**meta, "name": f"{meta['name']}_painted_{seed}"})


@lru_cache(maxsize=8)  # a training paints the same few maps over and over; on the work grid one takes some 15 MB
def _read(label_file: str, mask_file: str | None, spacing: float) -> tuple[np.ndarray, np.ndarray, Tensor, dict]:
    labels = load_volume(label_file, labels=True)
    mask = None if mask_file is None else load_region(mask_file)
    _check(labels, mask, label_file)
    return *_work_grid(labels, mask, spacing), dict(labels.meta)


def paint(labels: MetaTensor, mask: MetaTensor | None, seed: int) -> MetaTensor:
    """Paint a label map (1, I, J, K): HU of the same shape and affine, -1000 outside the body.

    Args:
        labels: label map, values as told at the top of this file.
        mask: body mask on the same grid; None draws a layer of fat around the labels.
        seed: the same seed gives the same painting.

    Raises:
        InputError: mask on another grid, unknown labels, or nothing labelled.
    """
    _check(labels, mask, "labels")
    work, body, affine = _work_grid(labels, mask, WORK_MM)
    hu = make_volume(torch.from_numpy(_paint(work, body, WORK_MM, RandomState(seed)))[None], affine)
    return make_volume(
        resample(hu, as_affine(labels.affine), tuple(labels.shape[1:]), outside=OUTSIDE_HU).as_tensor(),
        labels.affine,
        labels.meta,
    )


def _check(labels: MetaTensor, mask: MetaTensor | None, name: str) -> None:
    low, high = (float(value) for value in torch.aminmax(labels.as_tensor()))
    if low < 0 or high > LABELS - 1 or high == 0:
        found = f"values {low:g} to {high:g}"
        raise InputError(name, f"a label map with values 0 to {LABELS - 1}", found, "map its labels to ours")
    if mask is not None and (
        mask.shape != labels.shape or not torch.allclose(as_affine(mask.affine), as_affine(labels.affine), atol=1e-3)
    ):
        found = f"shape {tuple(mask.shape[1:])} or another affine"
        raise InputError(name, f"a mask of {tuple(labels.shape[1:])} voxels on its grid", found, "resample the mask")


def _work_grid(labels: MetaTensor, mask: MetaTensor | None, spacing: float) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Labels uint8 and body bool (I, J, K) at isotropic spacing along RAS, cropped to the body; their affine."""
    body = labels if mask is None else mask
    reach = 10.0 if mask is not None else 40.0  # mm of air kept around it
    steps = [int(np.ceil(reach / float(step))) for step in spacing_of(labels.affine)]
    box = bounding_box(body.as_tensor()[0].numpy() > 0.5, steps) or (slice(None),) * 3
    # RAS first: two files that differ in orientation only give the same painting.
    labels, body = (to_orientation_ras(_cropped(volume, box)) for volume in (labels, body))
    affine, shape = standard_grid(labels, spacing)
    work = resample(labels, affine, shape, mode="nearest", outside=0.0)[0].numpy().round().astype(np.uint8)
    if mask is None:
        return work, _body_around(work > 0, spacing) | (work > 0), affine
    inside = resample(body, affine, shape, outside=0.0)[0].numpy() > 0.5
    return work, inside | (work > 0), affine


def _cropped(volume: MetaTensor, box: Sequence[slice]) -> MetaTensor:
    affine = as_affine(volume.affine).clone()
    affine[:3, 3] += affine[:3, :3] @ torch.tensor([float(part.start or 0) for part in box], dtype=torch.float64)
    return make_volume(volume.as_tensor()[(slice(None), *box)], affine)


def _body_around(labelled: np.ndarray, spacing: float) -> np.ndarray:
    """A body for labels that came without one: 20 mm around them, holes filled in every axial slice."""
    steps = max(1, round(20.0 / spacing))
    body = torch.from_numpy(labelled).float()[None, None]
    body = functional.max_pool3d(body, (2 * steps + 1, 2 * steps + 1, 1), 1, (steps, steps, 0))
    soft = functional.avg_pool3d(body, (9, 9, 1), 1, (4, 4, 0), count_include_pad=False)[0, 0].numpy() > 0.5
    return np.stack([ndimage.binary_fill_holes(soft[..., k]) for k in range(soft.shape[-1])], -1)


def _paint(labels: np.ndarray, body: np.ndarray, spacing: float, rng: RandomState) -> np.ndarray:
    """HU (I, J, K) float32 for labels and body on an isotropic RAS grid."""
    palette = draw_palette(rng)
    shape = labels.shape
    coarse, fine = (smooth_noise(rng, shape, cell / spacing) for cell in (25.0, 6.0))
    hu = fat_everywhere(rng, palette, coarse, spacing)
    scene = Scene(hu, labels, body, spacing, rng, palette.muscle[1:].mean(), palette.fat, fine, wild=palette.wild)
    fill_gaps(scene, palette)
    fill_cavity(scene)  # before the bones and muscles, whose edges are then whole
    paint_muscles(scene, palette, coarse, fine)
    for bone in BONES:
        paint_bone(scene, palette, bone, fine)
    skin = body & ~eroded(body, 1)
    hu[skin] = palette.skin + 15 * fine[skin]
    hu[~body] = OUTSIDE_HU
    blur = rng.uniform(0.45, 0.8) * WORK_MM / spacing
    hu = ndimage.gaussian_filter(hu, (blur, blur, blur * rng.uniform(1.0, 1.4)), truncate=3.0)
    sigma = rng.uniform(4, 22)
    grain = rng.standard_normal(shape).astype(np.float32)
    # Neighbours in a slice share noise, as after reconstruction.
    grain = functional.avg_pool3d(torch.from_numpy(grain)[None, None], (2, 2, 1), 1, (1, 1, 0))[0, 0]
    hu += 2 * sigma * grain[: shape[0], : shape[1]].numpy() * _smooth(body.astype(np.float32))
    hu[~dilated(body, 1)] = OUTSIDE_HU
    return hu.clip(-1000, 3000).astype(np.float32)


def _smooth(data: np.ndarray) -> np.ndarray:
    tensor = torch.from_numpy(data)[None, None]
    return functional.avg_pool3d(tensor, 3, 1, 1, count_include_pad=False)[0, 0].numpy()
