"""True points of pairs for training: what folds is drawn again."""

import numpy as np
import pytest
import torch
from scripts.core.geometry import grid_affine, ijk_to_mm, inside, lattice_ijk
from scripts.images.volumes import make_volume
from scripts.synthetic.bend import Bend
from scripts.synthetic.cores import Block, Blocks
from scripts.synthetic.correspondences import correspondences, draw_true_pair
from scripts.synthetic.joints import Joints
from scripts.synthetic.skeleton import Limb, Skeleton
from scripts.synthetic.synthesis import PairRecipe, Source, draw_pair
from scripts.training.pairs import DrawPaird

SPACING, ORIGIN, EYE = 6.0, torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
POINTS, SEEDS = 32, range(4)
SHARP = {"spacing": SPACING, "bend": 1.0, "bends": {"hips": 1.0}}
SHARP |= dict.fromkeys(("couch", "bubbles", "applicator", "cbct"), 0.0)
SHARP |= {"fixed_extent": ((200, 240),) * 3, "moving_extent": ((100, 120),) * 3}


def source(turn_deg: float, gap_mm: float = 1.0) -> Source:
    """A cylinder along z of two halves, as near to each other as ``gap_mm``, that turn about x by up to an angle."""
    shape = (50, 50, 60)
    affine = grid_affine(SPACING, shape, [0.0, 0.0, 0.0])
    mm = ijk_to_mm(lattice_ijk(shape), affine)
    data = torch.where(mm[:, :2].norm(dim=1) < 110, 40.0, -1000.0).reshape(shape)
    limbs = (Limb("below"), Limb("above", 0, ORIGIN, ((-turn_deg, turn_deg), (0.0, 0.0), (0.0, 0.0))))
    cores = Blocks([Block(ORIGIN, EYE, high=-gap_mm), Block(ORIGIN, EYE, low=gap_mm)])
    joints = Joints({"hips": Skeleton(limbs, cores)})
    return Source.from_volume(make_volume(data[None].float(), affine), (SPACING,), joints=joints)


@pytest.fixture(scope="module")
def sharp() -> Source:
    return source(70.0)


def folds(pair, random) -> bool:
    try:
        correspondences(pair, POINTS, random)
    except ValueError:
        return True
    return False


def test_pairs_that_fold_are_drawn_again(sharp):
    """Of the first draws of these seeds most fold; what comes out of the loader is whole, and true in both directions."""
    randoms = [np.random.RandomState(seed) for seed in SEEDS]
    assert sum(folds(draw_pair(sharp, PairRecipe(**SHARP), random), random) for random in randoms) >= 3
    for seed in SEEDS:
        pair, fixed_mm, moving_mm = draw_true_pair(sharp, PairRecipe(**SHARP), POINTS, np.random.RandomState(seed))
        assert fixed_mm.shape == moving_mm.shape == (POINTS, 3)
        assert (pair.motion(moving_mm) - fixed_mm).norm(dim=1).max() < 1e-3
        assert inside(fixed_mm[POINTS // 2 :], pair.fixed.affine, pair.fixed.shape[1:]).all()


def test_training_items_that_fold_do_not_end_a_run(sharp):
    draw = DrawPaird([SHARP], points=POINTS, frozen=True)
    for number in SEEDS:
        drawn = draw({"source": sharp, "draw": number})
        assert drawn["fixed_points"].isfinite().all() and drawn["moving_points"].isfinite().all()
        assert len(drawn["fixed_points"]) == len(drawn["parts"]) == POINTS


def test_what_always_folds_is_drawn_as_one_body(monkeypatch):
    def never(*_: object) -> None:
        raise ValueError("bend: expected a map that can be undone")

    monkeypatch.setattr(Bend, "inverse", never)
    pair, fixed_mm, _ = draw_true_pair(source(20.0, 20.0), PairRecipe(**SHARP), 64, np.random.RandomState(0))
    assert pair.motion.bend is None and len(fixed_mm) == 64


def test_a_step_without_slope_is_a_fold_and_no_crash(monkeypatch):
    """Where all points of space go to one, Newton's method has no slope to follow."""
    bend = source(20.0, 20.0).joints.skeletons["hips"].draw(np.random.RandomState(0))
    monkeypatch.setattr(Bend, "_step", lambda self, rows, step: torch.zeros_like(rows))
    with pytest.raises(ValueError, match="can be undone"):
        bend.inverse(torch.ones(4, 3))
