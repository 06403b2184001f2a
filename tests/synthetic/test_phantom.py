"""The phantom: one patient a seed, two kinds of session, correspondence that is exact."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scripts.core.geometry import ijk_to_mm, inside, lattice_ijk, mm_to_grid, mm_to_ijk, sample
from scripts.images.body import body_mask
from scripts.synthetic.phantom import PelvisPhantom, correspond
from scripts.synthetic.phantom.anatomy import LANDMARKS
from scripts.synthetic.phantom.motion import Belly, Growth, Legs, Swirl, draw_motion
from scripts.synthetic.phantom.organs import rectum

SPACING = 5.0


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Thousands of small operations are slower on many threads when the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def patient():
    return PelvisPhantom(3)


@pytest.fixture(scope="module")
def ebrt(patient):
    return patient.session("ebrt", 0, SPACING, noise=False)


@pytest.fixture(scope="module")
def bt(patient):
    return patient.session("bt", 1, SPACING, noise=False, applicator=False)


def hu_at(session, points_mm):
    """HU (N,) of a session at world points (N, 3)."""
    grid = mm_to_grid(points_mm, session.volume.affine, session.volume.shape[1:])
    return sample(session.volume.as_tensor()[None].double(), grid[None])[0, 0]


def points_in(session, count=4000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ijk = torch.rand(count, 3, generator=generator, dtype=torch.float64) * (torch.tensor(session.volume.shape[1:]) - 1)
    return ijk_to_mm(ijk, session.volume.affine)


@pytest.mark.parametrize(
    "motion",
    [
        Growth((0, 0, 34), (50, 40, 66), stretch=2.6),
        Growth((0, 0, 34), (50, 40, 66), stretch=0.3),
        Swirl((5, -10, 40), (48, 38, 58), axis=1, angle=0.8),
        Belly(start=55, amount=-0.25, centre_z=100),
        Belly(start=55, amount=0.2, centre_z=100),
        Legs(start=-70, slope=0.14),
    ],
)
def test_each_motion_is_undone_exactly(motion):
    xyz = torch.from_numpy(np.random.default_rng(0).uniform(-260, 260, (3, 20000)))
    xyz[:, 0] = 0.0
    xyz[:, 1] = torch.tensor([0.0, 0.0, 34.0])  # the centre of the growth
    moved = motion.forward(xyz)
    assert (moved - xyz).abs().max() > 1
    assert (motion.inverse(moved) - xyz).abs().max() < 1e-9
    assert (motion.forward(motion.inverse(xyz)) - xyz).abs().max() < 1e-9


def test_motion_stays_within_its_support():
    xyz = torch.from_numpy(np.random.default_rng(1).uniform(-260, 260, (3, 20000)))
    for motion in draw_motion(np.random.default_rng(2), (1.0, 1.0, 1.0)):
        low, high = (torch.tensor(v, dtype=torch.float64)[:, None] for v in (motion.low, motion.high))
        outside = ((xyz < low) | (xyz > high)).any(0)
        assert (motion.forward(xyz) - xyz)[:, outside].abs().max() < 1e-9


def test_correspondence_is_exact_both_ways(ebrt, bt):
    points = points_in(bt)
    assert (bt.from_patient(bt.to_patient(points)) - points).abs().max() < 1e-6
    assert (correspond(correspond(points, bt, ebrt), ebrt, bt) - points).abs().max() < 1e-6


def test_content_moves_with_the_correspondence(ebrt, bt):
    points = points_in(bt, 20000)
    there = correspond(points, bt, ebrt)
    keep = inside(there, ebrt.volume.affine, ebrt.volume.shape[1:])
    here, other = hu_at(bt, points[keep]), hu_at(ebrt, there[keep])
    body = (here > -200) & (other > -200)
    difference = (here - other)[body].abs()
    # the two grids blur edges differently; texture and tissue agree, bones do too
    assert difference.median() < 15
    assert torch.corrcoef(torch.stack([here, other])[:, body])[0, 1] > 0.93
    shifted = hu_at(ebrt, there[keep] + torch.tensor([10.0, 0.0, 0.0]))
    assert (here - shifted)[body].abs().mean() > 2.5 * difference.mean()


def test_landmarks_correspond_and_lie_in_bone(ebrt, bt):
    assert tuple(ebrt.landmarks) == LANDMARKS
    names = list(LANDMARKS)
    a, b = (torch.stack([s.landmarks[n] for n in names]) for s in (ebrt, bt))
    assert (correspond(a, ebrt, bt) - b).abs().max() < 1e-6
    near = lattice_ijk((3, 3, 3)) * 4 - 4
    for name, point in ebrt.landmarks.items():
        hu = hu_at(ebrt, point + near)
        if name == "pubic_symphysis":  # cartilage between two bones
            assert hu.max() > 200 and hu_at(ebrt, point[None]) > 40
        else:
            assert hu_at(ebrt, point[None]) > 150 or hu.max() > 300, name
    assert ebrt.landmarks["asis_right"][0] - ebrt.landmarks["asis_left"][0] > 180
    assert 140 < ebrt.landmarks["femoral_head_right"][0] - ebrt.landmarks["femoral_head_left"][0] < 205


def test_bones_move_as_one(patient):
    """A rigid map explains the landmarks of a BT session: soft tissue moves, bone does not."""
    bt = patient.session("bt", 2, 10.0)
    for name, point in patient.anatomy.landmarks.items():
        assert (bt.pose(point[None])[0] - bt.landmarks[name]).norm() < 2.0, name
    soft = patient.anatomy.womb_points()[:2]
    assert (bt.pose(soft) - bt.from_patient(soft)).norm(dim=-1).max() > 1.0


def test_tissues_have_their_hounsfield_units(patient):
    session = patient.session("ebrt", 0, 4.0, noise=False)
    hu = session.volume.as_tensor()
    assert hu.dtype == torch.float32 and hu.min() >= -1024 and hu.max() <= 3071
    assert session.volume.shape == (1, 125, 125, 90)
    assert torch.allclose(session.volume.affine[:3, :3], 4.0 * torch.eye(3, dtype=torch.float64))
    share = {
        "air": (hu < -900), "fat": (hu > -140) & (hu < -70), "soft": (hu > 0) & (hu < 90), "bone": hu > 300,
    }  # fmt: skip
    fraction = {name: float(where.double().mean()) for name, where in share.items()}
    assert 0.5 < fraction["air"] < 0.9
    assert 0.03 < fraction["fat"] < 0.3 and 0.05 < fraction["soft"] < 0.3
    assert 0.002 < fraction["bone"] < 0.03
    assert hu.max() < 1700  # no metal without an applicator
    head = session.landmarks["femoral_head_left"]
    assert hu_at(session, head[None]) > 60
    bladder = session.from_patient(patient.anatomy.from_template(torch.tensor([[0.0, 12.0, 12.0]])))
    assert -15 < float(hu_at(session, bladder)) < 35


def test_left_and_right_differ(ebrt):
    mirrored = ebrt.pose(ebrt.pose.inverse()(points_in(ebrt, 8000)) * torch.tensor([-1.0, 1.0, 1.0]))
    here, there = hu_at(ebrt, points_in(ebrt, 8000)), hu_at(ebrt, mirrored)
    body = (here > -300) & (there > -300)
    assert (here - there)[body].abs().mean() > 30


def test_bt_has_metal_streaks_and_a_small_field(patient):
    with_tool = patient.session("bt", 0, 2.5)
    assert with_tool.volume.max() > 1800
    assert all(n * 2.5 <= 285 for n in with_tool.volume.shape[1:])
    clean = patient.session("bt", 0, 2.5, noise=False, applicator=False)
    assert clean.volume.shape == with_tool.volume.shape
    assert clean.applicator_distance(torch.zeros(2, 3)).isinf().all()
    changed = patient.session("bt", 0, 2.5, noise=False).volume - clean.volume
    where = ijk_to_mm(changed[0].as_tensor().abs().gt(1e-3).nonzero(), clean.volume.affine)
    assert len(where) > 200
    assert with_tool.applicator_distance(where).max() < 5


def test_the_seed_decides():
    def volume(seed, number=0):
        return PelvisPhantom(seed).session("bt", number, SPACING).volume

    first = volume(5)
    assert torch.equal(first, volume(5))
    other = volume(5, 1)
    assert other.shape != first.shape or not torch.equal(first, other)
    references = [PelvisPhantom(seed).session("ebrt", 0, 10.0, noise=False) for seed in (5, 6)]
    assert (references[0].volume - references[1].volume).abs().mean() > 20
    scales = np.array([PelvisPhantom(seed).anatomy.scale for seed in range(5)])
    assert np.ptp(scales, axis=0).min() > 0.03


def test_a_session_does_not_change_the_next(patient):
    first = patient.session("bt", 0, 10.0).volume
    patient.session("ebrt", 0, 10.0)
    assert torch.equal(first, patient.session("bt", 0, 10.0).volume)


def test_worlds_are_unrelated_and_configurable():
    near = PelvisPhantom(1, shift_mm=0.0, turn_deg=0.0, motion=0.0)
    a, b = near.session("ebrt", 0, 20.0), near.session("bt", 0, 20.0)
    for name in LANDMARKS:
        assert (a.landmarks[name] - b.landmarks[name]).norm() < 1e-6
    far = PelvisPhantom(1, shift_mm=2000.0, turn_deg=30.0)
    moved = far.session("ebrt", 0, 20.0).pose.displacement_mm(torch.zeros(1, 3))
    assert moved.norm() > 500


def test_a_long_reference_reaches_from_knees_to_neck():
    session = PelvisPhantom(2, length_mm=900.0).session("ebrt", 0, 10.0, noise=False)
    hu = session.volume[0].as_tensor()
    assert hu.shape == (50, 50, 90)
    back = int(mm_to_ijk(session.pose(torch.tensor([[0.0, -60.0, 0.0]])), session.volume.affine)[0, 1])
    lung = ((hu > -900) & (hu < -700))[:, back:].sum((0, 1))  # in front of the couch
    lung = lung.double()
    assert lung[70:82].mean() > 5 * lung[25:60].mean()
    assert all((hu[..., k] > -300).any() for k in range(90))


def test_anisotropic_voxels_and_unknown_kinds(patient):
    session = patient.session("ebrt", 0, (4.0, 5.0, 10.0), noise=False)
    assert session.volume.shape == (1, 125, 100, 36)
    with pytest.raises(ValueError, match="ebrt"):
        patient.session("mri")


def test_gas_is_gas(patient):
    """Thinner than fat wherever it lies in a bowel (at +880 HU it would be bone), and there is some of it: 114 ml here."""
    layers = [layer for seed in range(4) for layer in rectum(np.random.default_rng(seed))]
    assert sum(layer.value == -880.0 for layer in layers) >= 4
    assert all(layer.value == -880.0 or -60 < layer.value < 60 for layer in layers)
    volume = patient.session("ebrt", 0, 4.0, noise=False).volume
    inner = torch.from_numpy(ndimage.binary_erosion(body_mask(volume).numpy(), iterations=5))  # 20 mm below the skin
    thin = inner & (volume.as_tensor()[0] < -500)
    assert 50 < float(thin.sum()) * 0.064 < 300  # ml
    assert float(volume.as_tensor()[0][thin].median()) == pytest.approx(-880, abs=40)
