"""Pseudo-CTs: Hounsfield units painted into a label map of pelvic bones and muscles, different for every seed.

The shapes are a real patient's, the grey values are drawn: most draws look like a CT, some have contrasts no scanner
gives, because a matcher trained on wide random contrasts carries over to scans it never saw (SynthMorph, Hoffmann et al.,
IEEE TMI 2022). What a label map leaves open between skin and muscles is filled by ``painting_organs``.

Labels: 1 pelvis, 2 femur, 3 sacrum, 4 spine, 5 to 28 muscles. The work is done on a ``WORK_MM`` grid along RAS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.random import RandomState
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from .errors import InputError
from .geometry import as_affine, spacing_of
from .painting_organs import Scene, fill_cavity, smooth_noise
from .volumes import load_volume, make_volume, resample, standard_grid

WORK_MM = 2.0
OUTSIDE_HU = -1000.0
PELVIS, FEMUR, SACRUM, SPINE = 1, 2, 3, 4
BONES = (PELVIS, FEMUR, SACRUM, SPINE)
LABELS = 29
WILD = 0.2  # share of the draws with contrasts that no CT has


@dataclass
class Palette:
    """The grey values of one painting, HU.

    Attributes:
        muscle: one value per label (LABELS,); the bones' are not used.
        cortex: compact bone (LABELS,).
        marrow: spongy bone (LABELS,).
        thickness: of the cortex in mm (LABELS,).
        shaft_cortex: compact bone of the femoral shaft; ``shaft_marrow``, ``shaft_thickness`` likewise.
        wild: whether the values are free of what tissue looks like.
    """

    muscle: np.ndarray
    cortex: np.ndarray
    marrow: np.ndarray
    thickness: np.ndarray
    shaft_cortex: float
    shaft_marrow: float
    shaft_thickness: float
    fat: float
    septum: float
    skin: float
    disc: float
    canal: float
    wild: bool


def draw_palette(rng: RandomState) -> Palette:
    """Draw the grey values of one painting."""
    wild = bool(rng.rand() < WILD)
    density = rng.uniform(0.65, 1.25)  # of the skeleton: osteoporosis to a young adult
    muscle = rng.uniform(38, 72) + rng.normal(0, 5, LABELS)
    cortex, marrow, thickness = np.zeros(LABELS), np.zeros(LABELS), np.ones(LABELS)
    cortex[1:5] = density * np.array([820, 950, 520, 520]) * rng.uniform(0.85, 1.15, 4)
    marrow[1:5] = density * np.array([190, 270, 130, 190]) * rng.uniform(0.8, 1.25, 4) - 20
    thickness[1:5] = np.array([2.0, 2.0, 1.5, 1.3]) * rng.uniform(0.8, 1.25)
    palette = Palette(
        muscle=muscle,
        cortex=cortex,
        marrow=marrow,
        thickness=thickness,
        shaft_cortex=rng.uniform(1150, 1750),
        shaft_marrow=rng.uniform(-70, 60),
        shaft_thickness=rng.uniform(4.5, 7.5),
        fat=rng.uniform(-122, -85),
        septum=rng.uniform(15, 45),
        skin=rng.uniform(-30, 40),
        disc=rng.uniform(60, 110),
        canal=rng.uniform(10, 45),
        wild=wild,
    )
    if wild:
        palette.muscle = rng.uniform(-60, 220) + rng.normal(0, rng.uniform(5, 60), LABELS)
        palette.cortex = cortex * rng.uniform(0.3, 1.6, LABELS)
        palette.marrow = rng.uniform(-150, 500, LABELS)
        palette.shaft_cortex, palette.shaft_marrow = rng.uniform(200, 1800), rng.uniform(-200, 500)
        palette.fat, palette.septum = rng.uniform(-350, 60), rng.uniform(-80, 120)
        palette.skin, palette.disc, palette.canal = rng.uniform(-200, 250, 3)
    return palette


def load_painting(
    label_file: str | Path, mask_file: str | Path | None, seed: int, spacing: float = WORK_MM
) -> MetaTensor:
    """Read a label map and body mask and paint them: HU (1, I, J, K) on an isotropic RAS grid around the body.

    Args:
        label_file: label map, values as told at the top of this file.
        mask_file: body mask on the same grid, or None.
        seed: draws the painting.
        spacing: of the result in mm; the painting itself has no finer detail than ``WORK_MM``.

    Raises:
        InputError: a file cannot be read, the two grids differ, or the map holds other labels.
    """
    labels = load_volume(label_file)
    mask = None if mask_file is None else load_volume(mask_file)
    _check(labels, mask, str(label_file))
    scene_labels, body, affine = _work_grid(labels, mask, spacing)
    hu = _paint(scene_labels, body, spacing, RandomState(seed))
    return make_volume(torch.from_numpy(hu)[None], affine, {**labels.meta, "name": f"{labels.meta['name']}_{seed}"})


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


def _work_grid(
    labels: MetaTensor, mask: MetaTensor | None, spacing: float
) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Labels uint8 and body bool (I, J, K) at isotropic spacing along RAS, cropped to the body; their affine."""
    affine, shape = standard_grid(labels, spacing)
    work = resample(labels, affine, shape, mode="nearest", outside=0.0)[0].numpy().round().astype(np.uint8)
    if mask is None:
        body = _body_around(work > 0, spacing)
    else:
        body = resample(mask, affine, shape, outside=0.0)[0].numpy() > 0.5
    body |= work > 0
    margin = 3
    crop = []
    for axis in range(3):
        filled = np.flatnonzero(body.any(axis=tuple({0, 1, 2} - {axis})))
        crop.append(slice(max(0, filled[0] - margin), min(shape[axis], filled[-1] + 1 + margin)))
    start = torch.tensor([float(part.start) for part in crop], dtype=torch.float64)
    affine = affine.clone()
    affine[:3, 3] += affine[:3, :3] @ start
    return np.ascontiguousarray(work[tuple(crop)]), np.ascontiguousarray(body[tuple(crop)]), affine


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
    hu = _fat(rng, shape, spacing, palette, coarse)
    scene = Scene(hu, labels, body, spacing, rng, palette.muscle[1:].mean(), palette.fat, fine, wild=palette.wild)
    _soften_gaps(scene, palette)
    fill_cavity(scene)
    _muscles(scene, palette, coarse, fine)
    for bone in BONES:
        _bone(scene, palette, bone, fine)
    skin = body & ~_eroded(body, 1)
    hu[skin] = palette.skin + 15 * fine[skin]
    hu[~body] = OUTSIDE_HU
    blur = rng.uniform(0.45, 0.8) * WORK_MM / spacing
    hu = ndimage.gaussian_filter(hu, (blur, blur, blur * rng.uniform(1.0, 1.4)), truncate=3.0)
    sigma = rng.uniform(4, 22)
    grain = rng.standard_normal(shape).astype(np.float32)
    grain = functional.avg_pool3d(torch.from_numpy(grain)[None, None], (2, 2, 1), 1, (1, 1, 0))[0, 0]
    hu += 2 * sigma * grain[: shape[0], : shape[1]].numpy() * _smooth(body.astype(np.float32))
    hu[~_dilated(body, 1)] = OUTSIDE_HU
    return hu.clip(-1000, 3000).astype(np.float32)


def _fat(rng: RandomState, shape: Sequence[int], spacing: float, palette: Palette, coarse: np.ndarray) -> np.ndarray:
    """Fat everywhere, with septa where a smooth noise passes zero: thin sheets that branch, as in subcutaneous fat."""
    hu = np.full(shape, palette.fat, dtype=np.float32) + 6 * coarse
    for cell, share in ((14.0, 0.6), (30.0, 1.0)):
        sheets = smooth_noise(rng, shape, cell / spacing)
        np.abs(sheets, out=sheets)
        hu += palette.septum * share * np.exp(-((sheets / (1.4 / cell)) ** 2)) * (coarse > -0.6)
    return hu


def _soften_gaps(scene: Scene, palette: Palette) -> None:
    """Fill discs, vertebral canal and joint spaces: what lies between bones is not fat."""
    bone = (scene.labels > 0) & (scene.labels <= SPINE)
    box = _box(bone, 2)
    if box is None:
        return
    bone, free = bone[box], scene.labels[box] == 0
    joint = _closed(bone, [max(1, round(4.0 / scene.spacing))] * 3) & free
    scene.hu[box][joint] = palette.disc
    spine = np.isin(scene.labels, (SPINE, SACRUM))
    box = _box(spine, 2)
    if box is None:
        return
    spine, free = spine[box], scene.labels[box] == 0
    across = round(11.0 / scene.spacing)
    canal = _closed(spine, [across, across, 0]) & free
    canal &= _closed(spine, [across, 0, 0]) | _closed(spine, [0, across, 0])
    view = scene.hu[box]
    view[canal] = palette.canal
    disc = _closed(spine, [0, 0, round(8.0 / scene.spacing)]) & free
    view[disc] = palette.disc
    scene.taken[box] |= canal | disc


def _muscles(scene: Scene, palette: Palette, coarse: np.ndarray, fine: np.ndarray) -> None:
    """Muscles of nearly one grey value, streaked with fat, with faint fat planes where two of them touch."""
    labels, hu = scene.labels, scene.hu
    where = labels > SPINE
    value = palette.muscle.astype(np.float32)[labels]
    value += 5 * coarse + 6 * fine
    streaks = np.clip(smooth_noise(scene.rng, labels.shape, 9.0 / scene.spacing) - scene.rng.uniform(0.9, 2.2), 0, 1)
    value += streaks * 0.6 * (palette.fat - value)
    seam = np.zeros(labels.shape, dtype=bool)
    for axis in range(3):
        here = [slice(None)] * 3
        there = [slice(None)] * 3
        here[axis], there[axis] = slice(1, None), slice(None, -1)
        differ = (labels[tuple(here)] != labels[tuple(there)]) & (labels[tuple(there)] > SPINE)
        seam[tuple(here)] |= differ & (labels[tuple(here)] > SPINE)
    value[seam] += scene.rng.uniform(0.15, 0.6) * (palette.fat - value[seam])
    hu[where] = value[where]


def _bone(scene: Scene, palette: Palette, label: int, fine: np.ndarray) -> None:
    """One bone: compact shell around spongy bone; the femoral shaft has a thick one around fatty marrow."""
    box = _box(scene.labels == label, 2)
    if box is None:
        return
    inside = scene.labels[box] == label
    spacing = scene.spacing
    depth = ndimage.distance_transform_edt(inside).astype(np.float32) * spacing - spacing / 2
    noise = fine[box]
    cortex, marrow, thickness = palette.cortex[label], palette.marrow[label], palette.thickness[label]
    if label == FEMUR:
        top = np.flatnonzero(inside.any(axis=(0, 1)))[-1]
        below = (top - np.arange(inside.shape[2])) * spacing  # mm below the top of the heads
        shaft = 1 / (1 + np.exp(-(below - 105) / 8))
        cortex = cortex + shaft * (palette.shaft_cortex - cortex)
        marrow = marrow + shaft * (palette.shaft_marrow - marrow)
        thickness = thickness + shaft * (palette.shaft_thickness - thickness)
    share = np.clip((thickness * (1 + 0.25 * noise) - depth) / spacing + 0.5, 0, 1)
    spongy = marrow * (1 + 0.22 * noise) + 25 * noise
    # Spongy bone is denser towards the shell.
    spongy = spongy + 0.25 * np.exp(-depth / 5) * (cortex - spongy)
    value = spongy + share * (cortex * (1 + 0.08 * noise) - spongy)
    scene.hu[box][inside] = value[inside]


def _box(mask: np.ndarray, margin: int) -> tuple[slice, slice, slice] | None:
    """Bounding box of a mask with a margin of voxels; None if it is empty."""
    found = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        if filled.size == 0:
            return None
        found.append(slice(max(0, filled[0] - margin), min(mask.shape[axis], filled[-1] + 1 + margin)))
    return tuple(found)


def _closed(mask: np.ndarray, radius: Sequence[int]) -> np.ndarray:
    size = [2 * r + 1 for r in radius]
    grown = _pooled(np.pad(mask, [(r, r) for r in radius]), size)
    inner = ~_pooled(~grown, size)
    return inner[tuple(slice(r, n + r) for r, n in zip(radius, mask.shape, strict=True))]


def _pooled(mask: np.ndarray, size: Sequence[int]) -> np.ndarray:
    data = torch.from_numpy(mask).float()[None, None]
    for axis, n in enumerate(size):
        if n > 1:
            window = [n if a == axis else 1 for a in range(3)]
            data = functional.max_pool3d(data, window, 1, [w // 2 for w in window])
    return data[0, 0].numpy() > 0.5


def _dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    return _pooled(mask, [2 * radius + 1] * 3)


def _eroded(mask: np.ndarray, radius: int) -> np.ndarray:
    return ~_dilated(~mask, radius)


def _smooth(data: np.ndarray) -> np.ndarray:
    tensor = torch.from_numpy(data)[None, None]
    return functional.avg_pool3d(tensor, 3, 1, 1, count_include_pad=False)[0, 0].numpy()
