"""A closer look at where two volumes meet: the common region, turned alike, in tiles that the network knows how to read."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import as_affine, corners_mm, mm_to_ijk
from ..core.rigid import RigidTransform
from ..images.volumes import make_volume, resample


def common_region(
    fixed: MetaTensor, moving: MetaTensor, transform: RigidTransform, margin_mm: float
) -> tuple[MetaTensor, MetaTensor] | None:
    """Cut both volumes to where they meet under a map, turned alike; None where they do not meet.

    The moving volume is sampled on the fixed one's axes as the map lays them, so the network sees the pair aligned as far
    as the map is right; the affines tell where every voxel truly lies.

    Args:
        fixed, moving: standardised volumes (1, I, J, K) of one spacing.
        transform: fixed to moving, RAS mm.
        margin_mm: how far beyond the moving field the region goes.
    """
    affine = as_affine(fixed.affine).clone()
    spacing = float(affine[:3, 0].norm())
    shape = torch.tensor(fixed.shape[1:], dtype=torch.float64)
    corners = mm_to_ijk(transform.inverse()(corners_mm(moving.affine, moving.shape[1:])), affine)
    low = (corners.amin(0) - margin_mm / spacing).round().clamp_min(0)
    high = torch.minimum((corners.amax(0) + margin_mm / spacing).round() + 1, shape)
    size = tuple(int(n) for n in (high - low))
    if min(size) < 16:
        return None
    affine[:3, 3] += affine[:3, :3] @ low
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return (
        make_volume(fixed.as_tensor()[:, i, j, k].contiguous(), affine, fixed.meta),
        resample(moving, transform.matrix @ affine, size, outside=0.0),
    )


def tiles(
    region: tuple[MetaTensor, MetaTensor], points: tuple[Tensor, Tensor], tile_mm: float, overlap_mm: float
) -> Iterator[tuple[list[MetaTensor], list[Tensor]]]:
    """Cut a common region into overlapping tiles and hand each point to the tile whose middle is nearest.

    Args:
        region: of ``common_region``: two volumes on one lattice, each with its own affine.
        points: queries (Q, 3) in RAS mm of the fixed and of the moving volume.
        tile_mm: longest edge.
        overlap_mm: what neighbours share.

    Yields:
        The two volumes of a tile, and which rows of the points in each are its own.
    """
    spacing = float(as_affine(region[0].affine)[:3, 0].norm())
    longest, shared = round(tile_mm / spacing), round(overlap_mm / spacing)
    shape = region[0].shape[1:]
    counts = [1 if n <= longest else math.ceil((n - shared) / (longest - shared)) for n in shape]
    # as many as the longest edge needs, but no longer than that many need to be
    size = [math.ceil((n + (c - 1) * shared) / c) for n, c in zip(shape, counts, strict=True)]
    starts = [
        torch.linspace(0, n - s, c).round().long().tolist() if c > 1 else [0]
        for n, s, c in zip(shape, size, counts, strict=True)
    ]
    corners = torch.cartesian_prod(*(torch.tensor(s) for s in starts)).reshape(-1, 3)
    middles = corners + (torch.tensor(size, dtype=torch.float64) - 1) / 2
    half = torch.tensor(size, dtype=torch.float64)
    owner = [
        ((mm_to_ijk(p, v.affine)[:, None] - middles) / half).abs().amax(-1).argmin(1)
        for p, v in zip(points, region, strict=True)
    ]
    for number, corner in enumerate(corners):
        i, j, k = (slice(int(a), int(a) + n) for a, n in zip(corner, size, strict=True))
        volumes = []
        for volume in region:
            affine = as_affine(volume.affine).clone()
            affine[:3, 3] += affine[:3, :3] @ corner.double()
            volumes.append(make_volume(volume.as_tensor()[:, i, j, k].contiguous(), affine, volume.meta))
        yield volumes, [(o == number).nonzero()[:, 0] for o in owner]
