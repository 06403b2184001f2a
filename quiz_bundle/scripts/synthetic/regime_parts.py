"""How the parts of a patient move in an evaluation case, and where the moving field lies then."""

from __future__ import annotations

import numpy as np
import torch

from ..core.errors import InputError
from ..core.rigid import RigidTransform
from .bend import Bend
from .filling import BELLY_MM, Girth, Soft, draw_fillings
from .joints import Joints
from .regime_recipes import Regime
from .synthesis import random_turn


def draw_parts(
    recipe: Regime, random: np.random.RandomState, joints: Joints
) -> tuple[Bend, tuple[Soft, ...], RigidTransform]:
    """A bend of the patient, what fills besides, and where the moving field lies: round the named part's joints.

    Args:
        recipe: of the regime.
        random: source of the draws.
        joints: of the patient.

    Returns:
        The bend, the organs, and the pose of the field, moving to fixed RAS mm before the bend: the named part's own pose
        is the one that was drawn.

    Raises:
        InputError: the patient has no such joints.
    """
    skeleton = joints.posture(recipe.posture)
    if skeleton is None:
        remedy = f"give a CT that shows the {recipe.posture}, and for hips a map of the femora beside it"
        raise InputError("volume", f"a CT whose joints for {recipe.part} can be found", "none", remedy)
    bend = skeleton.draw(random, least=recipe.least_bend)
    number = bend.names.index(recipe.part)
    near = [limb.centre_mm for n, limb in enumerate(skeleton.limbs) if number in (n, limb.carrier) and n > 0]
    middle = torch.stack(near).mean(0) + torch.tensor([0.0, 0.0, recipe.above_mm])
    shift = random.normal(size=3)
    shift *= recipe.max_offset * random.uniform() / np.linalg.norm(shift)
    pose = RigidTransform.from_parts(random_turn(recipe.max_turn, random), middle + torch.as_tensor(shift))
    pose = bend.part_maps()[recipe.part].inverse() @ pose
    if recipe.posture != "organs":
        return bend, (), pose
    return bend, (*draw_fillings(joints.soft_mm, random, np.ones(3)), _draw_girth(pose, joints, random)), pose


def _draw_girth(pose: RigidTransform, joints: Joints, random: np.random.RandomState) -> Girth:
    """A patient who is thinner or more swollen in front of her spine, or of the field's middle where none was found."""
    middle = pose.matrix[:3, 3].clone()
    if joints.spine_mm is not None:
        line = joints.spine_mm
        middle = line[(line[:, 2] - middle[2]).abs().argmin()].clone()
    middle[1] += BELLY_MM
    return Girth(middle, random.uniform(-0.2, 0.2))
