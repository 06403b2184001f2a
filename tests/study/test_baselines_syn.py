"""ANTs SyN: which way its warps go, whichever image it is told to call fixed."""

import sys

import numpy as np
import pytest
import torch
from egg import scan
from scripts.core.errors import InputError
from scripts.core.geometry import centre_mm, grid_affine, grid_to_mm, ras_to_lps, spacing_of
from scripts.core.rigid import RigidTransform
from scripts.images.volumes import make_volume
from scripts.study.baselines import deformable
from scripts.study.baselines.syn import coarsened, read_affine, read_warp, run_syn
from scripts.study.peers import ants, base
from scripts.synthetic.deformation import SmoothDeformation


@pytest.fixture(scope="module")
def package():
    """The ``ants`` module, on one thread."""
    base.limit_threads(1)
    try:
        return ants.ants_package()
    except InputError as error:
        pytest.skip(str(error))


def test_voxels_become_at_least_as_long_as_asked(affine):
    volume = scan(affine, (20, 18, 16))
    coarse = coarsened(volume, 2.0)
    assert (spacing_of(coarse.affine) >= 2.0 - 1e-9).all()
    long = spacing_of(affine) >= 2.0
    torch.testing.assert_close(spacing_of(coarse.affine)[long], spacing_of(affine)[long])
    torch.testing.assert_close(centre_mm(coarse.affine, coarse.shape[1:]), centre_mm(affine, (20, 18, 16)))
    assert coarsened(volume, 0.1) is volume


def test_files_of_ants_are_read_in_ras(package, affine, tmp_path):
    transform = package.create_ants_transform(transform_type="AffineTransform", dimension=3)
    transform.set_parameters([1.1, 0.1, 0.0, -0.2, 0.9, 0.05, 0.0, 0.1, 1.0, 5.0, -7.0, 9.0])
    transform.set_fixed_parameters([10.0, 20.0, 30.0])
    package.write_transform(transform, str(tmp_path / "a.mat"))
    point = torch.tensor([[12.0, -34.0, 56.0]], dtype=torch.float64)
    lps = torch.tensor(transform.apply_to_point(tuple(ras_to_lps(point)[0].tolist())), dtype=torch.float64)
    matrix = read_affine(tmp_path / "a.mat")
    torch.testing.assert_close(matrix[:3, :3] @ point[0] + matrix[:3, 3], ras_to_lps(lps), atol=1e-4, rtol=0)
    shape = (5, 6, 7)
    vectors = torch.randn(*shape, 3)
    origin, spacing, direction = base.lps_header(make_volume(torch.zeros(1, *shape), affine))
    header = (tuple(origin.tolist()), tuple(spacing.tolist()), direction.numpy())
    image = package.from_numpy(vectors.numpy(), *header, has_components=True)
    package.image_write(image, str(tmp_path / "w.nii.gz"))
    displacement, grid = read_warp(tmp_path / "w.nii.gz")
    torch.testing.assert_close(grid, affine, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(displacement, (vectors * torch.tensor([-1.0, -1, 1])).movedim(-1, 0))


@pytest.mark.parametrize("affine_stage", [True, False])
@pytest.mark.parametrize("small", ["moving", "fixed"])
def test_syn_finds_a_known_deformation_from_either_image(package, small, affine_stage):
    """From 9 mm off, 3 mm of it deformation, to below 3 mm, and to less than the rigid part alone would leave."""
    deformation = SmoothDeformation(2.5, 45.0, np.random.RandomState(0))
    turn = RigidTransform.about([3, -2, 4], [200.0, -100, 50], [0, 0, 0])
    large = scan(grid_affine(4.0, (44, 40, 48), (0, 0, 0)), (44, 40, 48))
    place = RigidTransform.about([0, 8, 0], [0, 0, 0], [200, -100, 50]).matrix @ grid_affine(
        4.0, (32, 30, 30), (200, -100, 55)
    )
    near = scan(place, (32, 30, 30), lambda points: deformation.inverse(turn.inverse()(points)))
    generator = torch.Generator().manual_seed(0)
    q = grid_to_mm(1.2 * torch.rand(100, 3, generator=generator, dtype=torch.float64) - 0.6, place, (32, 30, 30))
    p = deformation.inverse(turn.inverse()(q))
    start = turn @ RigidTransform.about([1, 1, -2], [4.0, -4.0, 5.0], [0, 0, 0])
    if small == "fixed":
        large, near, p, q, start = near, large, q, p, start.inverse()
    found = run_syn(large, near, start, affine_stage=affine_stage, iterations=(100, 60, 10), spacing=0)
    error, before = ((m(p) - q).norm(dim=-1).mean() for m in (found, start))
    assert before > 8 and error < 3
    assert callable(deformable("ants_syn" if affine_stage else "ants_syn_only"))


def test_without_the_package_syn_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ants", None)
    ants.ants_package.cache_clear()
    with pytest.raises(InputError, match="the package antspyx"):
        deformable("ants_syn")
    ants.ants_package.cache_clear()
