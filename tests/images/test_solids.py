"""The body that contours bound: volumes that can be worked out by hand, cuts at any angle, and the way there and back."""

import numpy as np
import pytest
from rt_objects import ball, ring
from scipy.spatial.transform import Rotation
from scripts.images.contours import NotParallelError, areas_mm2
from scripts.images.solids import Plane, Solid

UP = np.array([0.0, 0.0, 1.0])
AXIAL = np.eye(3)[:2]


def square(side, height, centre=(0.0, 0.0)):
    half = side / 2
    corners = ((-half, -half), (half, -half), (half, half), (-half, half))
    return np.array([[x + centre[0], y + centre[1], height] for x, y in corners])


def level(height):
    return Plane(np.array([0.0, 0.0, height]), AXIAL)


def carried(solid, turn_deg, shift, spacing, phase):
    """Contours in another frame, on axial slices there, of a body turned and shifted."""
    turn = Rotation.from_rotvec(turn_deg, degrees=True).as_matrix()
    heights = (solid.box_mm() @ turn.T + shift)[:, 2]
    slices = np.arange(np.floor(heights.min()), heights.max() + spacing, spacing) + phase
    planes = [Plane((np.array([0.0, 0.0, z]) - shift) @ turn, AXIAL @ turn) for z in slices]
    cut = zip(slices, solid.cut(planes), strict=True)
    return [np.column_stack([c, np.full(len(c), z)]) for z, cuts in cut for c in cuts]


def random_map(seed):
    rng = np.random.default_rng(seed)
    turn = rng.normal(size=3)
    return turn / np.linalg.norm(turn) * rng.uniform(5, 30), rng.uniform(-80, 80, 3), rng.uniform(0, 3)


def test_volume_is_area_times_slice_distance():
    box = Solid([square(20, z) for z in (0, 3, 6, 9)], UP, 3.0)
    assert box.volume_mm3 == pytest.approx(4 * 3 * 400)
    assert Solid([square(20, 5)], UP, 2.5).volume_mm3 == pytest.approx(2.5 * 400)  # one slice: as thick as told
    drawn_on_every_second = Solid([square(20, z) for z in (0, 6, 12)], UP, 3.0)
    assert drawn_on_every_second.volume_mm3 == pytest.approx(3 * 6 * 400)
    in_two_parts = Solid([square(20, z) for z in (0, 3, 30, 33)], UP, 3.0)
    assert in_two_parts.volume_mm3 == pytest.approx(4 * 3 * 400)
    assert in_two_parts.cut([level(15)]) == [[]]


def test_a_contour_in_another_is_a_hole_and_so_is_a_keyhole():
    hole = Solid([c for z in (0, 3, 6) for c in (square(30, z), square(10, z))], UP, 3.0)
    assert hole.volume_mm3 == pytest.approx(3 * 3 * (900 - 100))
    around = [[-15, -15], [15, -15], [15, 15], [-15, 15], [-15, 0]]
    within = [[-5, 0], [-5, 5], [5, 5], [5, -5], [-5, -5], [-5, 0], [-15, 0]]  # in by a channel, and out by it again
    keyhole = Solid([np.column_stack([around + within, np.full(12, float(z))]) for z in (0, 3, 6)], UP, 3.0)
    assert keyhole.volume_mm3 == pytest.approx(3 * 3 * (900 - 100))
    for solid in (hole, keyhole):
        (curves,) = solid.cut([level(2.0)])
        assert len(curves) == 2 and areas_mm2(curves) == pytest.approx(800, rel=5e-3)  # corners are a step wide
        inside = solid.depth(np.array([[0.0, 0.0, 3.0], [10.0, 0.0, 3.0], [20.0, 0.0, 3.0]])) > 0
        assert inside.tolist() == [False, True, False]


@pytest.mark.parametrize("height", [0.0, 3.0, 6.0])
def test_a_cut_along_a_contour_gives_the_contour(height):
    drawn = ring((3.0, -5.0), 20.0, height, squash=0.6)
    solid = Solid([ring((3.0, -5.0), 20.0, z, squash=0.6) for z in (0.0, 3.0, 6.0)], UP, 3.0)
    ((curve,),) = solid.cut([level(height)])
    (start, end), gaps = (drawn[:, :2], np.roll(drawn[:, :2], -1, 0)), []
    for point in curve:
        along = end - start
        share = np.clip(((point - start) * along).sum(1) / (along**2).sum(1), 0, 1)
        gaps.append(np.linalg.norm(point - start - share[:, None] * along, axis=1).min())
    assert max(gaps) < 0.002


def test_a_slanted_cut_of_a_cylinder_is_an_ellipse():
    solid = Solid([ring((0.0, 0.0), 15.0, z, count=360) for z in np.arange(-30, 31, 3.0)], UP, 3.0)
    turn = Rotation.from_euler("x", 30, degrees=True).as_matrix()
    ((curve,),) = solid.cut([Plane(np.zeros(3), AXIAL @ turn.T)])
    half = 15 / np.cos(np.radians(30))  # along the slant; 15 across
    assert np.abs(np.hypot(curve[:, 0] / 15, curve[:, 1] / half) - 1).max() < 1e-3
    assert areas_mm2([curve]) == pytest.approx(np.pi * 15 * half, rel=1e-3)


@pytest.mark.parametrize(("radius", "spacing", "limit"), [(19.3, 3.0, 0.02), (19.3, 5.0, 0.02), (10.7, 3.0, 0.05)])
def test_volumes_survive_twenty_random_maps(radius, spacing, limit):
    """30 ml within 2 %, 5 ml within 5 %, against the true ball too."""
    solid = Solid(ball((0.0, 0.0, 0.4), radius, np.arange(-25, 26, spacing)), UP, spacing)
    true = 4 / 3 * np.pi * radius**3
    for seed in range(20):
        there = carried(solid, *random_map(seed)[:2], 3.0, random_map(seed)[2])
        volume = sum(areas_mm2([c[:, :2] for c in there if c[0, 2] == z]) for z in {c[0, 2] for c in there}) * 3.0
        assert volume == pytest.approx(solid.volume_mm3, rel=limit), seed
        assert volume == pytest.approx(true, rel=limit), seed


def test_points_of_a_carried_ball_lie_on_the_ball_and_so_do_they_on_the_way_back():
    radius, shift, turn = 30.0, np.array([12.0, -40.0, 7.0]), np.array([12.0, -17.0, 8.0])
    solid = Solid(ball((0.0, 0.0, 0.4), radius, np.arange(-33, 34, 3.0)), UP, 3.0)
    there = carried(solid, turn, shift, 2.5, 0.7)
    matrix = Rotation.from_rotvec(turn, degrees=True).as_matrix()
    points = (np.concatenate(there) - shift) @ matrix
    off = np.abs(np.linalg.norm(points - [0, 0, 0.4], axis=1) - radius)
    assert np.percentile(off, 95) < 0.15
    heights = [z for z, _ in solid.planes]
    back = Solid(there, UP, 2.5).cut([Plane(np.array([0.0, 0.0, z]) @ matrix.T + shift, AXIAL @ matrix.T) for z in heights])
    again = [np.column_stack([c, np.full(len(c), z)]) for z, cuts in zip(heights, back, strict=True) for c in cuts]
    off = np.abs(np.linalg.norm(np.concatenate(again) - [0, 0, 0.4], axis=1) - radius)
    assert np.percentile(off, 95) < 0.2 and off.max() < 1.5  # half a slice's distance


def test_what_splits_and_joins_stays_whole():
    """A trunk that forks: between the slices neither branch is lost, and nothing lies between them."""
    trunk = [ring((0.0, 0.0), 14.0, z) for z in (0.0, 3.0, 6.0)]
    branches = [ring((x, 0.0), 6.0, z) for z in (9.0, 12.0, 15.0) for x in (-9.0, 9.0)]
    solid = Solid([*trunk, *branches], UP, 3.0)
    (low, high) = solid.cut([level(7.0), level(8.9)])
    assert len(low) == 1 and len(high) == 2
    steps = np.arange(-4, 19.01, 0.25)
    volume = sum(areas_mm2(curves) for curves in solid.cut([level(z) for z in steps])) * 0.25
    assert volume == pytest.approx(solid.volume_mm3, rel=0.01)


def test_a_slanted_thin_tube_keeps_its_volume():
    """A catheter whose section moves by more than its width from slice to slice still holds what the slices count."""
    solid = Solid([ring((1.9 * z, 0.0), 2.0, z, count=40) for z in np.arange(0, 31, 3.0)], UP, 3.0)
    volume = sum(areas_mm2(curves) for curves in solid.cut([level(z) for z in np.arange(-3, 33.01, 0.25)])) * 0.25
    assert volume == pytest.approx(solid.volume_mm3, rel=0.05)


def test_planes_of_any_direction_but_parallel():
    turn = Rotation.from_rotvec([20, 30, -10], degrees=True).as_matrix()
    tilted = [c @ turn.T for c in ball((0.0, 0.0, 0.0), 20.0, np.arange(-18, 19, 3.0))]
    assert Solid(tilted, turn[:, 2], 3.0).volume_mm3 == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.01)
    with pytest.raises(NotParallelError, match="parallel planes"):
        Solid(tilted, UP, 3.0)
    with pytest.raises(ValueError, match="enclose nothing"):
        Solid([np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])], UP, 3.0)
