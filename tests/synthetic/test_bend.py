"""Parts that turn about joints: rigid in their cores, undone exactly, without folds between."""

import numpy as np
import pytest
import torch
from scripts.core.geometry import grid_affine, ijk_to_mm, lattice_ijk
from scripts.core.rigid import RigidTransform
from scripts.synthetic.bend import Bend, Joint
from scripts.synthetic.cores import Block, Blocks, Fields
from scripts.synthetic.deformation import SmoothDeformation
from scripts.synthetic.filling import Filling, Girth
from scripts.synthetic.motion import Motion
from scripts.synthetic.skeleton import Limb, Skeleton, column, hinge

ORIGIN = torch.zeros(3, dtype=torch.float64)
EYE = torch.eye(3, dtype=torch.float64)


def somewhere(count: int, half_mm: float, seed: int = 0) -> torch.Tensor:
    return (torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1) * half_mm


def knee(turn_deg=(30.0, 0.0, 0.0)) -> Bend:
    """Below z = -20 stays, above z = 20 turns about the origin."""
    opening = {"across": 0.4, "along": 0.4}
    cores = Blocks([Block(ORIGIN, EYE, high=-20.0, **opening), Block(ORIGIN, EYE, low=20.0, **opening)])
    turn = torch.tensor(turn_deg, dtype=torch.float64)
    return Bend(["shank", "thigh"], [Joint(-1, ORIGIN, ORIGIN, ORIGIN), Joint(0, ORIGIN, turn, ORIGIN)], cores)


def determinants(bend, points_mm: torch.Tensor, step_mm: float = 1e-3) -> torch.Tensor:
    """Determinants (N,) of a map's Jacobian, by central differences."""
    columns = [(bend.forward(points_mm + step_mm * e) - bend.forward(points_mm - step_mm * e)) / (2 * step_mm) for e in EYE]
    return torch.linalg.det(torch.stack(columns, -1))


def test_a_core_moves_rigidly_to_a_millionth_of_a_millimetre():
    bend, points = knee(), somewhere(4000, 120.0)
    part, there = bend.core_of(bend.forward(points)), bend.forward(points)
    assert (part == 0).sum() > 500
    assert (part == 1).sum() > 500
    maps = bend.part_maps()
    assert (maps["shank"](points)[part == 0] - there[part == 0]).norm(dim=1).max() < 1e-6
    assert (maps["thigh"](points)[part == 1] - there[part == 1]).norm(dim=1).max() < 1e-6
    assert maps["shank"].rotation_deg.abs().max() < 1e-9
    assert maps["thigh"].rotation_deg.tolist() == pytest.approx([-30.0, 0.0, 0.0], abs=1e-9)


def test_between_the_cores_all_turns_by_a_part_of_the_angle():
    bend = knee()
    middle = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    there = bend.forward(middle)
    assert there[0].abs().max() < 1e-12  # the joint stays
    assert there[1].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-12)  # so does its axis
    angle = np.degrees(np.arctan2(float(there[2, 2]), float(there[2, 1])))
    assert angle == pytest.approx(-15.0, abs=1.0)


def test_the_inverse_is_exact_and_nothing_folds():
    bend, points = knee((25.0, 15.0, -20.0)), somewhere(2000, 150.0, 1)
    assert (bend.inverse(bend.forward(points)) - points).norm(dim=1).max() < 1e-9
    assert (bend.forward(bend.inverse(points)) - points).norm(dim=1).max() < 1e-9
    assert determinants(bend, points).min() > 0.1
    apart = (bend.forward(points + 1e-4) - bend.forward(points)).norm(dim=1)
    assert apart.max() < 1e-3  # and nothing tears


def test_float32_is_the_same_map():
    bend, points = knee(), somewhere(2000, 150.0, 2)
    assert (bend.forward(points.float()).double() - bend.forward(points)).norm(dim=1).max() < 1e-3


def test_too_sharp_a_bend_is_refused():
    """Cores that overlap in the moving scan's posture: a place has two sources, and some points none."""
    cores = Blocks([Block(ORIGIN, EYE, high=-1.0), Block(ORIGIN, EYE, low=1.0)])
    turn = torch.tensor([60.0, 0.0, 0.0], dtype=torch.float64)
    sharp = Bend(["a", "b"], [Joint(-1, ORIGIN, ORIGIN, ORIGIN), Joint(0, ORIGIN, turn, ORIGIN)], cores)
    with pytest.raises(ValueError, match="can be undone"):
        sharp.inverse(somewhere(2000, 150.0))


def test_a_column_shares_its_turn_among_its_joints():
    heights = torch.tensor([0.0, 40.0, 80.0, 120.0], dtype=torch.float64)
    centres = torch.stack([torch.zeros(4).double(), torch.zeros(4).double(), heights], 1)
    disc = {"low": -8.0, "high": 8.0, "radius": 30.0}
    limits = ((20.0, 20.0), (0.0, 0.0), (0.0, 0.0))
    spine = column(["a", "b", "c", "d"], centres, EYE[2].expand(4, 3), limits, [{"high": 0.0}, disc, disc, {"low": 0.0}])
    bend = spine.draw(np.random.RandomState(0))
    turns = [float(one.rotation_deg[0]) for one in bend.part_maps().values()]
    assert turns == pytest.approx([0.0, -20 / 3, -40 / 3, -20.0], abs=1e-9)
    points = somewhere(500, 60.0) + torch.tensor([0.0, 0.0, 60.0])
    assert determinants(bend, points).min() > 0.3
    assert (bend.inverse(bend.forward(points)) - points).norm(dim=1).max() < 1e-9
    assert bend.part_of(torch.tensor([[0.0, 0.0, 41.0], [5.0, 0.0, 130.0]])).tolist() == [1, 3]
    assert bend.core_of(torch.tensor([[0.0, 0.0, 60.0], [5.0, 0.0, 130.0]])).tolist() == [-1, 3]


def two_bones() -> tuple[Fields, torch.Tensor]:
    """A large bone and one above it, 30 mm apart, on a lattice of 3 mm."""
    masks = torch.zeros(2, 30, 30, 50, dtype=torch.bool)
    masks[0, 5:25, 5:25, 2:18] = True
    masks[1, 10:20, 10:20, 28:48] = True
    affine = grid_affine(3.0, (30, 30, 50), [0.0, 0.0, 0.0])
    return Fields(masks, affine, gap_mm=14.0), affine


def test_distances_on_a_lattice():
    cores, affine = two_bones()
    points = torch.stack([ijk_to_mm([[15.0, 15.0, 10.0], [15.0, 15.0, 22.0], [15.0, 15.0, 40.5]], affine)] * 2)
    rows = points.transpose(1, 2)
    assert cores.distances(rows).tolist() == [[0.0, 15.0, 70.5], [54.0, 18.0, 0.0]]
    many = (somewhere(1000, 40.0) + torch.zeros(2, 1, 3)).transpose(1, 2)
    assert (cores.distances(many.float()).double() - cores.distances(many)).abs().max() < 1e-3


def test_a_mirrored_patient_bends_like_her_mirror_image():
    ranges = ((-10.0, 40.0), (-20.0, 5.0), (-12.0, 12.0))
    centre = torch.tensor([20.0, 0.0, 0.0], dtype=torch.float64)
    cores = two_bones()[0]
    skeleton = Skeleton((Limb("trunk"), Limb("leg", 0, centre, ranges)), cores)
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    plain, mirrored = (skeleton.draw(np.random.RandomState(3), factors) for factors in ([1, 1, 1], [-1, 1, 1]))
    points = somewhere(300, 60.0)
    assert (mirrored.forward(flip * points) - flip * plain.forward(points)).norm(dim=1).max() < 1e-9
    larger = skeleton.draw(np.random.RandomState(3), [1.1, 1.1, 1.1])
    assert (larger.forward(1.1 * points) - 1.1 * plain.forward(points)).norm(dim=1).max() < 1e-9


def test_a_hinge_opens_towards_the_skin():
    skeleton = hinge([10.0, 20.0, 30.0], [0.1, -0.2, 1.0], 40.0, 14.0)
    bend = skeleton.draw(np.random.RandomState(1), least=0.9)
    points = somewhere(2000, 180.0) + torch.tensor([10.0, 20.0, 30.0])
    assert determinants(bend, points).min() > 0.05
    assert (bend.inverse(bend.forward(points)) - points).norm(dim=1).max() < 1e-9


def test_what_fills_and_swells_is_undone_and_leaves_bone_alone():
    filling = Filling(torch.tensor([10.0, 20.0, 30.0], dtype=torch.float64), 40.0, 0.5)
    girth = Girth(torch.tensor([0.0, 0.0, 0.0], dtype=torch.float64), 0.2)
    points = somewhere(1000, 150.0)
    for soft in (filling, girth):
        assert (soft.inverse(soft.forward(points)) - points).norm(dim=1).max() < 1e-9
        assert (soft.forward(points) - points).norm(dim=1).max() > 1.5
    away = (points - filling.centre_mm).norm(dim=1) >= 40
    assert (filling.forward(points) - points)[away].abs().max() < 1e-12
    behind = points[:, 1] <= 0
    assert (girth.forward(points) - points)[behind].abs().max() < 1e-12


def test_a_motion_with_everything_in_it():
    """Moving to fixed: rigid, bend, organs, deformation; undone to 1e-9 mm."""
    rigid = RigidTransform.about([5.0, -8.0, 12.0], [30.0, -10.0, 4.0], [0.0, 0.0, 0.0])
    field = SmoothDeformation(2.0, 50.0, np.random.RandomState(0))
    organ = Filling(torch.tensor([0.0, 0.0, -60.0], dtype=torch.float64), 30.0, 1.5)
    motion, points = Motion(rigid, field, knee(), (organ,)), somewhere(500, 100.0)
    there = field.forward(organ.forward(knee().forward(rigid(points))))
    assert (motion(points) - there).norm(dim=1).max() < 1e-12
    assert (motion.inverse(motion(points)) - points).norm(dim=1).max() < 1e-8
    maps, part = motion.part_maps(), motion.part_of(there)
    assert list(maps) == ["shank", "thigh"]
    assert (maps["shank"].matrix - rigid.matrix).abs().max() < 1e-12
    plain = Motion(rigid, None, knee())
    thigh = plain.part_of(plain(points)) == 1
    assert thigh.sum() > 50
    assert (plain.part_maps()["thigh"](points) - plain(points))[thigh].norm(dim=1).max() < 1e-6
    follows = plain.followed(points)
    assert (follows[thigh] == 1).all()
    assert (part >= -1).all()
    assert Motion(rigid).followed(points).tolist() == [0] * 500
    assert list(Motion(rigid).part_maps()) == ["body"]


def test_points_of_a_lattice_bend_alike_in_parts_and_at_once():
    points = ijk_to_mm(lattice_ijk((40, 40, 30)), grid_affine(5.0, (40, 40, 30), [0.0, 0.0, 0.0]))
    bend = knee()
    assert torch.equal(bend.forward(points)[40_000:], bend.forward(points[40_000:]))
