"""What makes two scans of one patient look different: couch, noise, gas, applicator, CBCT.

Every function takes a HU volume (I, J, K) on an axis-aligned RAS grid of isotropic spacing (mm), a
``RandomState``, and returns a new volume; none of them moves anatomy.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

AIR = -1000.0


def axes_mm(shape: tuple[int, ...], spacing: float) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates in mm from the volume's centre along each axis, shaped to broadcast over (I, J, K)."""
    x, y, z = ((torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * spacing for n in shape)
    return x[:, None, None], y[None, :, None], z[None, None, :]


def smooth_field(shape: tuple[int, ...], spacing: float, correlation_mm: float, random: np.random.RandomState) -> Tensor:
    """A smooth random field (I, J, K) of unit variance, drawn on a lattice of half the correlation length."""
    lattice = [max(4, math.ceil(n * spacing / (0.5 * correlation_mm)) + 3) for n in shape]
    noise = torch.as_tensor(random.normal(size=lattice), dtype=torch.float32)[None, None]
    field = functional.interpolate(noise, size=tuple(shape), mode="trilinear", align_corners=False)[0, 0]
    return field / field.std().clamp_min(1e-3)


def add_noise(volume: Tensor, spacing: float, sigma_hu: float, random: np.random.RandomState) -> Tensor:
    """Gaussian noise of ``sigma_hu`` (HU), slightly correlated as reconstruction leaves it."""
    noise = torch.as_tensor(random.standard_normal(volume.shape).astype(np.float32))
    if random.uniform() < 0.5:
        noise = functional.avg_pool3d(noise[None, None], 3, stride=1, padding=1)[0, 0] * 27**0.5
        noise = noise / noise.std().clamp_min(1e-3)
    return (volume + sigma_hu * noise).clamp_min(-1024)


def add_couch(volume: Tensor, spacing: float, random: np.random.RandomState, threshold: float = -300.0) -> Tensor:
    """A table top behind the patient (flat or curved, shell and foam), aligned with the scanner and not with the patient."""
    rows = (volume > threshold).sum((0, 2)) > 0.02 * volume.shape[0] * volume.shape[2]
    if not rows.any():
        return volume
    x, y, _ = axes_mm(tuple(volume.shape), spacing)
    back = float(y.flatten()[int(rows.nonzero()[0])])
    curve = random.choice([0.0, random.uniform(2e-4, 8e-4)])
    shift = random.uniform(-40, 40)
    top = back - random.uniform(0, 12) + curve * (x - shift).square() - curve * 60**2 * random.uniform(0, 1)
    thickness, shell = random.uniform(15, 60), max(random.uniform(1.5, 4), spacing)
    depth = top - y
    wide = (x - shift).abs() < random.uniform(190, 270)
    slab = (depth > 0) & (depth < thickness) & wide
    skin = slab & ((depth < shell) | (depth > thickness - shell))
    couch = torch.where(skin, random.uniform(-400, 150), torch.where(slab, random.uniform(-985, -850), AIR))
    return torch.maximum(volume, couch.expand_as(volume))


def add_bubbles(volume: Tensor, spacing: float, random: np.random.RandomState, count: int) -> Tensor:
    """Ellipsoids of gas or fluid that are in one scan and not in the other (bowel, bladder filling)."""
    x, y, z = axes_mm(tuple(volume.shape), spacing)
    soft = ((volume > -80) & (volume < 120)).nonzero()
    if len(soft) == 0:
        return volume
    volume = volume.clone()
    for _ in range(count):
        i, j, k = soft[random.randint(len(soft))].tolist()
        radii = random.uniform(6, 26, 3)
        distance = ((x - x[i]) / radii[0]) ** 2 + ((y - y[0, j]) / radii[1]) ** 2 + ((z - z[0, 0, k]) / radii[2]) ** 2
        hu = random.choice([random.uniform(-950, -500), random.uniform(0, 30), random.uniform(150, 400)])
        volume = torch.where((distance < 1) & (volume > -200) & (volume < 250), torch.full_like(volume, hu), volume)
    return volume


def add_applicator(volume: Tensor, spacing: float, random: np.random.RandomState) -> Tensor:
    """A metal tandem that enters from below, perhaps with ring or ovoids, and the streaks it throws in each slice."""
    x, y, z = axes_mm(tuple(volume.shape), spacing)
    half = [n * spacing / 2 for n in volume.shape]
    tip = random.uniform(-0.35, 0.35, 3) * half
    tilt = random.uniform(-0.35, 0.35, 2)
    bend = random.uniform(-0.004, 0.004)
    below = (tip[2] - z).clamp_min(0)
    axis_x = tip[0] + tilt[0] * below
    axis_y = tip[1] + tilt[1] * below + bend * (60 - below).clamp_min(0).square()
    radius = max(random.uniform(2, 4.5), 0.6 * spacing)
    off = torch.sqrt((x - axis_x).square() + (y - axis_y).square())
    metal = (off < radius) & (z < tip[2])
    kind = random.randint(3)
    if kind:
        level = tip[2] - random.uniform(40, 70)
        reach = random.uniform(12, 18)
        if kind == 1:  # ring around the tandem
            metal |= ((off - reach).square() + (z - level).square()) < max(4.0, 0.6 * spacing) ** 2
        else:  # two ovoids beside it
            for side in (-reach, reach):
                metal |= (x - axis_x - side).square() + (y - axis_y).square() + (z - level).square() < 9.0**2
    angle = torch.atan2(y - axis_y, x - axis_x)
    spokes = sum(
        torch.cos(n * angle + phase) for n, phase in zip(random.randint(3, 16, 5), random.uniform(0, 6.28, 5), strict=True)
    )
    strength = random.uniform(20, 160)
    streaks = strength * spokes * torch.exp(-off / random.uniform(15, 50)) * torch.sigmoid((tip[2] + 4 - z) / 2)
    volume = torch.where(volume > -700, volume + streaks, volume)
    return torch.where(metal, torch.full_like(volume, random.uniform(1500, 3000)), volume).clamp(-1024, 3071)


def make_cbct(volume: Tensor, spacing: float, random: np.random.RandomState) -> Tensor:
    """Cone-beam look: cylindrical field, cupping, shading, wrong HU scale and offset, noise."""
    x, y, _ = axes_mm(tuple(volume.shape), spacing)
    radius = torch.sqrt(x.square() + y.square())
    half = min(volume.shape[0], volume.shape[1]) * spacing / 2
    field = half * random.uniform(0.92, 1.15)
    cup = random.uniform(-0.04, 0.16) * ((radius / field).square() - 0.5)
    shading = random.uniform(10, 70) * smooth_field(tuple(volume.shape), spacing, random.uniform(60, 160), random)
    attenuation = (volume + 1000) * random.uniform(0.8, 1.1) * (1 + cup)
    out = attenuation - 1000 + torch.where(volume > -700, shading, 0.3 * shading) + random.uniform(-80, 80)
    out = add_noise(out, spacing, random.uniform(20, 80), random)
    return torch.where(radius < field, out, torch.full_like(out, AIR))


def vary_hu(volume: Tensor, random: np.random.RandomState) -> Tensor:
    """Small scanner differences: a few per cent of scale and some HU of offset."""
    return (volume + 1000) * random.uniform(0.96, 1.04) - 1000 + random.uniform(-15, 15)
