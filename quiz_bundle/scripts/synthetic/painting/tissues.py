"""Bones, muscles and fat of a painted pelvis, and the grey values drawn for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from scipy import ndimage

from .scene import FEMUR, LABELS, SACRUM, SPINE, Box, Scene, smooth_noise

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
    cortex[1:5] = density * np.array([800, 900, 480, 430]) * rng.uniform(0.85, 1.15, 4)
    marrow[1:5] = density * np.array([170, 260, 110, 150]) * rng.uniform(0.8, 1.25, 4) - 20
    thickness[1:5] = np.array([1.9, 1.8, 1.3, 1.0]) * rng.uniform(0.8, 1.25)
    palette = Palette(
        muscle=muscle,
        cortex=cortex,
        marrow=marrow,
        thickness=thickness,
        shaft_cortex=rng.uniform(1150, 1750),
        shaft_marrow=rng.uniform(-70, 60),
        shaft_thickness=rng.uniform(4.5, 7.5),
        fat=rng.uniform(-122, -85),
        septum=rng.uniform(20, 75),
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


def fat_everywhere(rng: RandomState, palette: Palette, coarse: np.ndarray, spacing: float) -> np.ndarray:
    """Fat (I, J, K) with septa where a smooth noise passes zero: thin sheets that branch, as under the skin."""
    hu = np.float32(palette.fat) + 6 * coarse
    for cell, share in ((14.0, 0.6), (30.0, 1.0)):
        sheets = smooth_noise(rng, coarse.shape, cell / spacing)
        strength = np.clip(coarse + 1.0, 0, 1.5) * np.float32(palette.septum * share)
        hu += strength * np.exp(-((sheets * (cell / 1.8)) ** 2))
    return hu


def fill_gaps(scene: Scene, palette: Palette) -> None:
    """Fill discs, vertebral canal and joint spaces: what lies between bones is not fat."""
    bone = (scene.labels > 0) & (scene.labels <= SPINE)
    box = bounding_box(bone, (2, 2, 2))
    if box is None:
        return
    bone, free = bone[box], scene.labels[box] == 0
    joint = _closed(bone, [max(1, round(4.0 / scene.spacing))] * 3) & free
    scene.hu[box][joint] = palette.disc
    spine = np.isin(scene.labels, (SPINE, SACRUM))
    box = bounding_box(spine, (2, 2, 2))
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


def paint_muscles(scene: Scene, palette: Palette, coarse: np.ndarray, fine: np.ndarray) -> None:
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


def paint_bone(scene: Scene, palette: Palette, label: int, fine: np.ndarray) -> None:
    """One bone: compact shell around spongy bone; the femoral shaft has a thick one around fatty marrow."""
    box = bounding_box(scene.labels == label, (2, 2, 2))
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
    spongy = marrow * (1 + 0.16 * noise) + 15 * noise
    # Spongy bone is denser towards the shell.
    spongy = spongy + 0.25 * np.exp(-depth / 5) * (cortex - spongy)
    value = spongy + share * (cortex * (1 + 0.08 * noise) - spongy)
    scene.hu[box][inside] = value[inside]


def bounding_box(mask: np.ndarray, margin: Sequence[int]) -> Box | None:
    """Bounding box of a mask with a margin of voxels; None if it is empty."""
    found = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        if filled.size == 0:
            return None
        found.append(slice(max(0, filled[0] - margin[axis]), min(mask.shape[axis], filled[-1] + 1 + margin[axis])))
    return tuple(found)


def _closed(mask: np.ndarray, radius: Sequence[int]) -> np.ndarray:
    """Closing with a box of 2 r + 1 voxels; what lies beyond the box given is taken for open space."""
    grown = np.pad(mask, [(r, r) for r in radius])
    for axis, r in enumerate(radius):
        grown = _dilated_along(grown, r, axis)
    inner = ~grown
    for axis, r in enumerate(radius):
        inner = _dilated_along(inner, r, axis)
    return ~inner[tuple(slice(r, n + r) for r, n in zip(radius, mask.shape, strict=True))]


def dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    """Dilation with a cube of 2 r + 1 voxels."""
    for axis in range(3):
        mask = _dilated_along(mask, radius, axis)
    return mask


def _dilated_along(mask: np.ndarray, radius: int, axis: int) -> np.ndarray:
    """Dilation along one axis by shifted copies: far quicker on bool arrays than pooling."""
    here, there = [slice(None)] * 3, [slice(None)] * 3
    done = 0
    while done < radius:
        shift = min(2 * done + 1, radius - done)
        here[axis], there[axis] = slice(shift, None), slice(None, -shift)
        grown = mask.copy()
        grown[tuple(here)] |= mask[tuple(there)]
        grown[tuple(there)] |= mask[tuple(here)]
        mask, done = grown, done + shift
    return mask


def eroded(mask: np.ndarray, radius: int) -> np.ndarray:
    """Erosion with a cube of 2 r + 1 voxels; the faces of the array do not erode."""
    return ~dilated(~mask, radius)
