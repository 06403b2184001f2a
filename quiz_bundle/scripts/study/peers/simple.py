"""Peers that look at no structure: the headers as they are, aligned centres, aligned centres of mass."""

from __future__ import annotations

import time

import torch
from monai.data import MetaTensor
from torch import Tensor

from ...core.geometry import ijk_to_mm
from ...core.rigid import RigidTransform
from .base import PeerResult, field_centre, from_air, shift


def identity(fixed: MetaTensor, moving: MetaTensor, seed: int = 0, threads: int = 1) -> PeerResult:
    """Trust the two world frames as they are."""
    return PeerResult(RigidTransform.identity(), 0.0)


def centres(fixed: MetaTensor, moving: MetaTensor, seed: int = 0, threads: int = 1) -> PeerResult:
    """Lay the geometric centres of the two fields on each other."""
    start = time.perf_counter()
    return PeerResult(shift(field_centre(moving) - field_centre(fixed)), time.perf_counter() - start)


def mass(fixed: MetaTensor, moving: MetaTensor, seed: int = 0, threads: int = 1) -> PeerResult:
    """Lay the centres of mass of the two scans on each other, couch and all."""
    start = time.perf_counter()
    return PeerResult(shift(mass_centre(moving) - mass_centre(fixed)), time.perf_counter() - start)


def mass_centre(volume: MetaTensor) -> Tensor:
    """Centre of mass (3,) of a volume (1, I, J, K) in HU, RAS mm; air weighs nothing."""
    weight = from_air(volume).as_tensor()[0].double()
    total = weight.sum().clamp_min(1e-9)
    rest = [[other for other in range(3) if other != axis] for axis in range(3)]
    places = [(weight.sum(rest[axis]) * torch.arange(weight.shape[axis])).sum() / total for axis in range(3)]
    return ijk_to_mm(torch.stack(places)[None], volume.affine)[0]
