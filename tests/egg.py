"""A patient like an egg with three balls in her, in closed form."""

import torch
from scripts.core.geometry import ijk_to_mm, lattice_ijk
from scripts.images.volumes import make_volume


def hu_at(points_mm):
    """HU of an egg with three balls and a texture, at points (N, 3)."""
    value = torch.full(points_mm.shape[:1], -1000.0, dtype=torch.float64)
    body = (points_mm / torch.tensor([75.0, 65.0, 85.0], dtype=torch.float64)).square().sum(-1) < 1
    value[body] = (40 + 60 * torch.cos(points_mm / 9).sum(-1))[body]
    for place, radius, hu in (((25, 10, 40), 18, 500), ((-30, -12, 5), 22, 350), ((10, -20, -45), 15, 600)):
        value[(points_mm - torch.tensor(place)).norm(dim=-1) < radius] = hu
    return value


def scan(affine, shape, to_patient=lambda points: points):
    """A volume (1, I, J, K) of that patient."""
    return make_volume(hu_at(to_patient(ijk_to_mm(lattice_ijk(shape), affine))).reshape(1, *shape).float(), affine)
