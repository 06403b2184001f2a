"""The peers: each moves points the right way, whichever image it is told to move."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scripts.core.errors import InputError
from scripts.core.geometry import centre_mm, corners_mm, grid_affine, ijk_to_mm, lattice_ijk, ras_to_lps
from scripts.core.rigid import RigidTransform, angle_deg, rotation_matrix
from scripts.images.volumes import make_volume, resample
from scripts.study import peers
from scripts.study.peers import PEERS, ants, base, elastix, greedy, plastimatch, regix, simple, simple_itk

PACKAGES = {
    "elastix": elastix.elastix_package,
    "ants": ants.ants_package,
    "sitk": simple_itk.sitk_package,
    "greedy": greedy.greedy_package,
    "plastimatch": plastimatch.plastimatch_package,
    "regix": regix.regix_package,
}
NO_FINDERS = ("identity", "centres", "mass", "ants_translation")
FINDERS = [name for name in PEERS if name not in (*NO_FINDERS, "elastix_gravity_large_fixed", "elastix_top_large_fixed")]


def scene(points_mm):
    """HU at points (N, 3) of an object like no other way round: three balls in an egg."""
    value = torch.full(points_mm.shape[:1], -1000.0, dtype=torch.float64)
    egg = torch.tensor([70.0, 55.0, 90.0], dtype=torch.float64)
    value[(points_mm / egg).square().sum(-1) < 1] = 0.0
    for place, radius, hu in (((25, 10, 40), 18, 600), ((-30, -12, 5), 22, 350), ((10, -20, -45), 15, 900)):
        value[(points_mm - torch.tensor(place)).norm(dim=-1) < radius] = hu
    return value


def rendered(transform, affine, shape):
    """The scene as a scanner sees it that puts patient point p at transform(p)."""
    points = transform.inverse()(ijk_to_mm(lattice_ijk(shape), affine))
    return make_volume(scene(points).reshape(1, *shape).float(), affine)


@pytest.fixture(scope="module")
def known_pair():
    """A large LPS scan, a small oblique one of the same scene, and the true map from fixed to moving points."""
    shape = (50, 44, 60)
    affine = grid_affine(4.0, shape, (0.0, 0.0, 0.0))
    affine[:, :2] *= -1
    affine[:2, 3] *= -1
    truth = RigidTransform.about([4.0, -3.0, 6.0], [212.0, -130.0, 68.0], [0.0, 0.0, 0.0])
    fixed = rendered(RigidTransform.identity(), affine, shape)
    small = grid_affine(3.0, (44, 40, 40), (200.0, -120.0, 60.0))
    tilt = RigidTransform.about([0.0, 8.0, 0.0], [0.0, 0.0, 0.0], [200.0, -120.0, 60.0])
    return fixed, rendered(truth, tilt.matrix @ small, (44, 40, 40)), truth


def assert_close(found, truth, millimetres, degrees):
    corners = torch.tensor([[0.0, 0, 0], [50, 30, -40], [-40, 20, 50]], dtype=torch.float64)
    assert float((found(corners) - truth(corners)).norm(dim=-1).max()) < millimetres
    assert angle_deg(found, truth) < degrees


def test_itk_image_shows_the_same_world(affine):
    ready("elastix")
    volume = make_volume(torch.rand(1, 5, 6, 7), affine)
    image = elastix.to_itk(volume)
    for index in ([0, 0, 0], [4, 1, 6], [2, 5, 3]):
        lps = torch.tensor(list(image.TransformIndexToPhysicalPoint(index)), dtype=torch.float64)
        torch.testing.assert_close(ras_to_lps(lps), ijk_to_mm([index], affine)[0], rtol=1e-6, atol=1e-4)
        assert image.GetPixel(index) == float(volume[0][tuple(index)])


def ready(method):
    """Load what a method needs, or skip the test."""
    base.limit_threads(2)
    try:
        PACKAGES[method.partition("_")[0]]()
    except InputError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("method", FINDERS)
def test_peers_find_a_known_transform(known_pair, method):
    ready(method)
    fixed, moving, truth = known_pair
    result = PEERS[method](fixed, moving, 0, 2)
    assert result.note == "" and result.seconds > 0
    assert_close(result.fixed_to_moving, truth, millimetres=1.5, degrees=1.0)


@pytest.mark.parametrize("method", ["elastix", "ants_rigid", "sitk_moments", "greedy", "plastimatch", "regix"])
def test_peers_go_both_ways(known_pair, method):
    ready(method)
    fixed, moving, truth = known_pair
    back = PEERS[method](moving, fixed, 0, 2).fixed_to_moving
    assert_close(back.inverse(), truth, millimetres=1.5, degrees=1.0)


def test_translation_of_ants_turns_nothing(known_pair):
    ready("ants_translation")
    fixed, moving, truth = known_pair
    found = PEERS["ants_translation"](fixed, moving, 0, 2).fixed_to_moving
    assert angle_deg(found, RigidTransform.identity()) < 1e-3
    assert_close(found, truth, millimetres=15, degrees=8)


@pytest.mark.parametrize("package", ["ants", "sitk"])
def test_headers_say_where_voxels_lie(affine, package):
    ready(package)
    volume = make_volume(torch.rand(1, 5, 6, 7), affine)
    image = ants.to_ants(volume) if package == "ants" else simple_itk.to_sitk(volume)
    for index in ([0, 0, 0], [4, 1, 6], [2, 5, 3]):
        if package == "ants":
            place = image.direction @ (np.array(image.spacing) * index) + image.origin
            lps, value = torch.tensor(place), image.numpy()[tuple(index)]
        else:
            lps, value = torch.tensor(image.TransformIndexToPhysicalPoint(index)), image.GetPixel(index)
        torch.testing.assert_close(ras_to_lps(lps.double()), ijk_to_mm([index], affine)[0], rtol=1e-5, atol=1e-3)
        assert value == pytest.approx(float(volume[0][tuple(index)]))


def test_a_method_that_gives_up_says_why(known_pair):
    def run(asked, other, seed, threads):
        raise RuntimeError("first line\n\nITK ERROR: (0xdead) all samples map outside")

    result = base.peer(run, lambda: None)(*known_pair[:2])
    assert result.fixed_to_moving is None and result.note == "ITK ERROR:  all samples map outside"


def test_the_smaller_field_is_asked_unless_told_otherwise(known_pair):
    fixed, moving, _ = known_pair
    turn = RigidTransform.about([0, 0, 10], [1, 2, 3], [0, 0, 0])
    for small_asked, numel in ((True, moving.numel()), (False, fixed.numel())):
        seen = []

        def run(asked, other, seed, threads, seen=seen):
            seen.append((asked.numel(), float(asked.min())))
            return turn

        found = base.peer(run, lambda: None, small_asked)(fixed, moving).fixed_to_moving
        assert seen == [(numel, 0.0)]  # air is 0 for them
        expected = turn.inverse() if small_asked else turn
        torch.testing.assert_close(found.matrix, expected.matrix)


def test_starts_lie_along_the_longer_field(known_pair):
    fixed, moving, _ = known_pair
    starts = base.starts_along(moving, fixed, 60.0)
    centre = centre_mm(moving.affine, moving.shape[1:])
    ends = torch.stack([start(centre[None])[0] for start in starts])  # 240 mm along z
    torch.testing.assert_close(ends, torch.tensor([[0.0, 0, -90], [0, 0, -30], [0, 0, 30], [0, 0, 90]]).double())


def test_tops_are_aligned(known_pair, monkeypatch):
    fixed, moving, _ = known_pair
    seen = {}
    monkeypatch.setattr(elastix, "run_elastix", lambda *pair, start: seen.update(start=start) or start)
    found = elastix.from_tops(moving, fixed, 0, 1)
    high = corners_mm(moving.affine, moving.shape[1:])[:, 2].max()
    centre = centre_mm(moving.affine, moving.shape[1:])
    top = found(torch.stack([*centre[:2], high])[None])[0]
    torch.testing.assert_close(top, torch.tensor([0.0, 0.0, 120.0]).double())  # the large field's centre and upper face
    assert seen["start"] is found


def test_centres_of_mass():
    values = torch.full((1, 4, 4, 4), -1000.0)
    values[0, 1, 2, 3], values[0, 3, 2, 3] = 0.0, 2000.0  # one part and three
    volume = make_volume(values, grid_affine(2.0, (4, 4, 4), (0, 0, 0)))
    expected = ijk_to_mm([[2.5, 2.0, 3.0]], volume.affine)[0]
    torch.testing.assert_close(simple.mass_centre(volume), expected)
    elsewhere = make_volume(values, grid_affine(2.0, (4, 4, 4), (10, 20, 30)))
    found = PEERS["mass"](volume, elsewhere).fixed_to_moving
    torch.testing.assert_close(found.matrix[:3, 3], torch.tensor([10.0, 20, 30]).double())


def test_elastix_angles_are_read_in_itk_order():
    sitk = pytest.importorskip("SimpleITK")
    numbers, centre = [0.3, -0.5, 0.8, 4.0, -6.0, 9.0], [12.0, 20.0, -35.0]
    for zyx in (False, True):
        oracle = sitk.Euler3DTransform()
        oracle.SetFixedParameters([*centre, float(zyx)])
        oracle.SetParameters(numbers)
        ours = elastix.euler_to_ras(
            {
                "TransformParameters": [str(n) for n in numbers],
                "CenterOfRotationPoint": [str(c) for c in centre],
                "ComputeZYX": ["true" if zyx else "false"],
            }
        )
        for lps in ([0.0, 0.0, 0.0], [50.0, -20.0, 10.0]):
            expected = torch.tensor(oracle.TransformPoint(lps), dtype=torch.float64)
            torch.testing.assert_close(ras_to_lps(ours(ras_to_lps([lps])))[0], expected, rtol=0, atol=1e-9)


def test_centres_and_identity(known_pair):
    fixed, moving, _ = known_pair
    found = PEERS["centres"](fixed, moving).fixed_to_moving
    middle = found(centre_mm(fixed.affine, fixed.shape[1:])[None])[0]
    torch.testing.assert_close(middle, centre_mm(moving.affine, moving.shape[1:]))
    assert torch.equal(PEERS["identity"](fixed, moving).fixed_to_moving.matrix, torch.eye(4, dtype=torch.float64))


def test_mutual_information_is_largest_where_images_fit(known_pair):
    fixed, moving, truth = known_pair
    coarse, fixed = base.from_air(resample(moving, moving.affine, moving.shape[1:])), base.from_air(fixed)
    right = base.mutual_information(coarse, fixed, truth.inverse())
    off = RigidTransform.from_parts(rotation_matrix(torch.zeros(3, dtype=torch.float64)), torch.tensor([15.0, 0, 0]))
    assert right > 1.3 * base.mutual_information(coarse, fixed, off @ truth.inverse())


def test_greedy_draws_the_same_starts_for_the_same_seed(known_pair):
    ready("greedy")
    fixed, moving, _ = known_pair
    pair = base.from_air(moving), base.from_air(fixed)
    first, again, other = (greedy.run_greedy(*pair, seed, 1).matrix for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_matrix_of_few_digits_becomes_a_rigid_map():
    truth = RigidTransform.about([20.0, -10.0, 30.0], [5.0, 6.0, -7.0], [100.0, 0.0, 0.0])
    middle = torch.tensor([300.0, -200.0, 900.0], dtype=torch.float64)
    found = greedy.nearest_rigid(truth.matrix.mul(1e4).round().div(1e4), middle)
    torch.testing.assert_close(found.matrix[:3, :3] @ found.matrix[:3, :3].T, torch.eye(3).double(), rtol=0, atol=1e-12)
    assert float((found(middle[None]) - truth(middle[None])).norm()) < 0.1


def test_axes_along_lps_show_the_same_world():
    """Voxel (0, 0, 0) is the one at the largest x and y in RAS, the smallest in LPS."""
    affine = grid_affine(2.0, (5, 6, 7), (10.0, -20.0, 30.0))
    volume = make_volume(torch.rand(1, 5, 6, 7), affine)
    turned = plastimatch.along_lps(volume)
    assert turned.affine[:3, :3].diagonal().tolist() == [-2.0, -2.0, 2.0]
    torch.testing.assert_close(ijk_to_mm([[0, 0, 0]], turned.affine), ijk_to_mm([[4, 5, 0]], affine))
    assert float(turned[0, 0, 0, 0]) == float(volume[0, 4, 5, 0]) and float(turned[0, 3, 1, 6]) == float(volume[0, 1, 4, 6])


def test_plastimatch_says_why_it_gave_up(known_pair, monkeypatch):
    ready("plastimatch")
    monkeypatch.setattr(plastimatch, "COMMANDS", plastimatch.COMMANDS.replace("num_substages=5", "num_substage=5"))
    result = PEERS["plastimatch"](*known_pair[:2], 0, 1)
    assert result.fixed_to_moving is None and "Could not load commands.txt" in result.note


@pytest.mark.parametrize(("status", "accepted"), [("PASS", True), ("FAIL", False)])
def test_gates_of_regix_are_its_verdict(known_pair, monkeypatch, status, accepted):
    """It sees both scans with their centres on the origin and HU as they are; its map goes back to their own frames."""
    ready("regix")
    fixed, moving, _ = known_pair
    shift, seen = [3.0, 4.0, 5.0], []

    def compute(planning, small, config):
        seen.extend([planning, small, config])
        transform = simple_itk.sitk_package().TranslationTransform(3, shift)
        return SimpleNamespace(status=status, applied_transform=SimpleNamespace(as_sitk_transform=lambda: transform))

    package = regix.regix_package()
    fake = SimpleNamespace(compute=compute, load_preset=package.load_preset, Volume=package.Volume)
    monkeypatch.setattr(regix, "regix_package", lambda: fake)
    result = PEERS["regix"](moving, fixed, 6, 1)
    assert result.accepted is accepted and result.note == ""
    planning, small, config = seen
    assert (planning.modality, small.modality) == ("CT", "CBCT") and planning.size == (50, 44, 60)
    for volume in (planning, small):
        middle = volume.image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in volume.size])
        assert middle == pytest.approx([0.0, 0.0, 0.0], abs=1e-4)
    assert float(planning.array().min()) == -1000.0
    assert (config.init.mode.value, config.runtime.seed, config.qc.gates.max_translation_mm) == ("multistart", 7, 40.0)
    centres = [centre_mm(v.affine, v.shape[1:]) for v in (fixed, moving)]
    back = result.fixed_to_moving(centres[1][None])[0]  # the inverse of 3, 4, 5 mm in LPS
    torch.testing.assert_close(back - centres[0], torch.tensor([3.0, 4.0, -5.0]).double(), rtol=0, atol=1e-4)


def test_regix_that_gives_up_refuses(known_pair, monkeypatch):
    def give_up(*_):
        raise RuntimeError("first\nno overlap")

    monkeypatch.setattr(regix, "regix_package", lambda: None)
    monkeypatch.setattr(regix, "run_regix", give_up)
    result = PEERS["regix"](*known_pair[:2])
    assert (result.fixed_to_moving, result.note, result.accepted) == (None, "no overlap", False)


ABSENT = [
    ("elastix", "itk"),
    ("ants_rigid", "ants"),
    ("sitk_moments", "SimpleITK"),
    ("greedy", "picsl_greedy"),
    ("plastimatch", "plastimatch"),
    ("regix", "regix"),
]


@pytest.mark.parametrize(("method", "module"), ABSENT)
def test_absent_packages_are_told(monkeypatch, method, module):
    package = PACKAGES[method.partition("_")[0]]
    package.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match="requirements-peers.txt"):
        peers.load_packages([method], 1)
    package.cache_clear()
