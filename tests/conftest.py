"""What several tests share: six affines that a frame bug cannot hide from, and the optional shared data."""

from pathlib import Path

import pytest
import torch
from scripts.core.geometry import ijk_to_mm, lattice_ijk
from scripts.core.rigid import rotation_matrix
from scripts.images.volumes import make_volume
from scripts.report.page.pictures import Pictures


def make_affine(linear, origin):
    """A (4, 4) float64 affine from its (3, 3) part and the place of voxel 0."""
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3], affine[:3, 3] = torch.as_tensor(linear, dtype=torch.float64), torch.tensor(origin).double()
    return affine


def _oblique():
    turn = rotation_matrix(torch.deg2rad(torch.tensor([20.0, -15.0, 30.0], dtype=torch.float64)))
    return turn @ torch.diag(torch.tensor([-0.9, 1.1, 2.5], dtype=torch.float64))


AFFINES = {
    "RAS": make_affine(torch.diag(torch.tensor([1.0, 1.0, 1.0])), [0.0, 0.0, 0.0]),
    "LAS": make_affine(torch.diag(torch.tensor([-1.5, 1.5, 1.5])), [60.0, -40.0, 10.0]),
    "LPS": make_affine(torch.diag(torch.tensor([-0.8, -0.8, 3.0])), [50.0, 70.0, -300.0]),
    "oblique": make_affine(_oblique(), [-30.0, 40.0, 12.0]),
    "anisotropic": make_affine([[0.0, 0.0, -1.3], [0.6, 0.0, 0.0], [0.0, -2.5, 0.0]], [90.0, -20.0, 75.0]),
    "shifted": make_affine(torch.diag(torch.tensor([2.0, 2.0, 2.0])), [-412.5, 233.25, -1507.75]),
}


@pytest.fixture(params=AFFINES)
def affine(request):
    """One of six affines (4, 4) ijk -> RAS mm."""
    return AFFINES[request.param].clone()


@pytest.fixture
def oblique_affine():
    """An affine whose voxel axes are turned by 39 degrees and flipped."""
    return AFFINES["oblique"].clone()


@pytest.fixture
def coordinate_volume():
    """A function that makes a volume whose value is the world coordinate along an axis (0 is x)."""

    def make(affine, shape, axis=0):
        values = ijk_to_mm(lattice_ijk(shape), affine)[:, axis].reshape(1, *shape)
        return make_volume(values.float(), affine, {"name": "coordinate"})

    return make


@pytest.fixture(scope="session")
def shared_dir():
    """The data beside the repository, which a clone does not have."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the shared data are not beside this clone")
    return folder


@pytest.fixture
def no_pictures(monkeypatch):
    """Leaves the drawing out, where a test is about other files."""
    monkeypatch.setattr("scripts.report.write.draw_pictures", lambda _: Pictures([], False))
