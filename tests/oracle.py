"""A body that is known at every point, and a matcher that knows the truth: stages 3 to 8 without a network."""

import sys
from collections.abc import Sequence

import torch
from conftest import AFFINES
from scripts.core.geometry import as_affine, centre_mm, ijk_to_mm, lattice_ijk, spacing_of
from scripts.core.rigid import RigidTransform
from scripts.images.volumes import make_volume
from scripts.registration.matcher import Matcher
from scripts.registration.register import Options
from scripts.registration.result import Matches
from scripts.registration.settings import SearchSettings
from torch import Tensor

TRUTH = RigidTransform.about([6.0, -9.0, 12.0], [35.0, -60.0, 120.0], [0.0, 0.0, 0.0])
HALF_AXES_MM = torch.tensor([95.0, 70.0, 110.0], dtype=torch.float64)
QUICK = {
    "spacing": 6.0,
    "coarse_spacing": 12.0,
    "match": {"queries": 300},
    "candidates": {"points": 1500, "hypotheses": 256},
}


def body_hu(points_mm: Tensor) -> Tensor:
    """HU (N,) of an ellipsoid of soft tissue in air, with lumps of bone and fat that make no two places alike."""
    generator = torch.Generator().manual_seed(5)
    lumps = (torch.rand(30, 3, generator=generator, dtype=torch.float64) * 2 - 1) * HALF_AXES_MM * 0.8
    heights = torch.where(torch.arange(30) % 3 > 0, 450.0, -160.0).double()
    widths = 9 + 9 * torch.rand(30, generator=generator, dtype=torch.float64)
    hu = torch.zeros(len(points_mm), dtype=torch.float64)
    for lump, height, width in zip(lumps, heights, widths, strict=True):
        hu += height * torch.exp(-(points_mm - lump).square().sum(-1) / (2 * width**2))
    radius = (points_mm / HALF_AXES_MM).norm(dim=-1)
    return -1000 + (1000 + hu) * torch.sigmoid((1 - radius) * 25)


def centred(name: str, shape: Sequence[int], spacing: float, centre_mm: object = (0.0, 0.0, 0.0)) -> Tensor:
    """One of the six affines, scaled to a mean voxel size in mm, round a centre in mm."""
    affine = AFFINES[name].clone()
    affine[:3, :3] *= spacing / spacing_of(affine).mean()
    middle = affine[:3, :3] @ (torch.tensor(tuple(shape), dtype=torch.float64) - 1) / 2
    affine[:3, 3] = torch.as_tensor(centre_mm, dtype=torch.float64) - middle
    return affine


def scan(affine: Tensor, shape: Sequence[int], pose: RigidTransform | None = None, name: str = "scan"):
    """The body as a volume in HU; ``pose`` maps the body's own mm to the scan's world."""
    points = ijk_to_mm(lattice_ijk(shape), affine)
    hu = body_hu(points if pose is None else pose.inverse()(points))
    return make_volume(hu.float().round().reshape(1, *shape), as_affine(affine), {"name": name})


def pair(fixed: str = "RAS", moving: str = "oblique", small: str = "moving", truth: RigidTransform = TRUTH):
    """Two scans of the body with ``truth`` between them; one of them sees only part of it."""
    large, field = (44, 40, 48), (28, 26, 24)
    shapes = (field, large) if small == "fixed" else (large, field)
    at = torch.tensor([[8.0, -6.0, 10.0]], dtype=torch.float64)  # what the small field is centred on, body mm
    places = (at[0], truth(torch.zeros(1, 3))[0]) if small == "fixed" else (torch.zeros(3), truth(at)[0])
    return (
        scan(centred(fixed, shapes[0], 5.5, places[0]), shapes[0], name="fixed_scan"),
        scan(centred(moving, shapes[1], 5.5, places[1]), shapes[1], truth, "moving_scan"),
    )


def off(moving, turn=(0, 0, 0), shift=(0, 0, 25)):
    """The truth followed by a turn in degrees about the moving volume's middle and a shift in mm."""
    return RigidTransform.about(turn, shift, centre_mm(moving.affine, moving.shape[1:])) @ TRUTH


def oracle(truth: RigidTransform = TRUTH, noise_mm: float = 1.0, outliers: float = 0.3, seed: int = 0) -> type[Matcher]:
    """A matcher that answers from the truth plus noise; a share of its answers is anywhere, half of them confidently."""

    class Oracle(Matcher):
        def __init__(self, network, fixed, moving, amp=False, chunk=1024):
            self.volumes = fixed, moving
            # The search may ask the other way round; the fields lie on each other in one direction only.
            here, there = (centre_mm(volume.affine, volume.shape[1:]) for volume in self.volumes)
            off = [float((way(here[None])[0] - there).norm()) for way in (truth, truth.inverse())]
            self.truth = truth if off[0] <= off[1] else truth.inverse()
            self.generator = torch.Generator().manual_seed(seed)

        def _draw(self, *size: int) -> Tensor:
            return torch.rand(*size, generator=self.generator, dtype=torch.float64)

        def one_way(self, points_mm: Tensor, backward: bool = False) -> Matches:
            count, searched = len(points_mm), self.volumes[0 if backward else 1]
            right = (self.truth.inverse() if backward else self.truth)(points_mm)
            found = right + noise_mm * torch.randn(count, 3, generator=self.generator, dtype=torch.float64)
            wrong = self._draw(count) < outliers
            size = torch.tensor(searched.shape[1:])
            anywhere = ijk_to_mm(self._draw(count, 3) * size - 0.5, searched.affine)
            found = torch.where(wrong[:, None], anywhere, found)
            cycle = torch.where(wrong & (self._draw(count) < 0.5), 80.0, noise_mm * self._draw(count))
            ends = (found, points_mm) if backward else (points_mm, found)
            return Matches(*ends, torch.full_like(cycle, 0.9), cycle, torch.zeros(count, dtype=torch.bool))

    return Oracle


def _is_matcher(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Matcher)


def use_oracle(monkeypatch, **settings: object) -> torch.nn.Module:
    """Put an oracle in the place of every matcher; returns a network that stands in for the one it does not need."""
    matcher = oracle(**settings)
    for name, module in list(sys.modules.items()):
        own = name == "scripts.registration.matcher"
        if name.startswith("scripts.") and _is_matcher(getattr(module, "Matcher", None)) and not own:
            monkeypatch.setattr(module, "Matcher", matcher)
    return stand_in()


def stand_in() -> torch.nn.Module:
    """A network that is never asked; the same weights every time."""
    network = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(network.weight)
    torch.nn.init.ones_(network.bias)
    return network


def quick(**options: object) -> Options:
    """Options for small scans: coarse grids, few points."""
    search = SearchSettings.of({**QUICK, **options.pop("search", {})})
    return Options(**{"compare_points": 4000, "search": search, **options})


def worst_mm(found: RigidTransform, truth: RigidTransform = TRUTH) -> float:
    """Largest distance in mm between two maps over the box round the body."""
    signs = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    corners = torch.cartesian_prod(signs, signs, signs) * HALF_AXES_MM
    return float((found(corners) - truth(corners)).norm(dim=-1).max())
