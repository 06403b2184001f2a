"""Joints found in a CT: the neck and the spine by rule, the hips from a map of the femora."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from scipy import ndimage
from torch import Tensor

from ..core.geometry import ijk_to_mm
from ..images.volumes import load_volume
from .cores import Block, Blocks, Fields
from .hips import femora_by_rule, hips
from .phantom.patient import PhantomSession
from .profile import RULE_MM, Profile, crest, spine_line
from .skeleton import Limb, Range, Skeleton, axes_along, column

TILT_DEG = 22.0  # of the planes across the neck: lower in front, so that the chin goes with the skull
NECK = ((-25.0, 25.0), (-12.0, 12.0), (-18.0, 18.0))
SHOULDER = ((-12.0, 12.0), (-12.0, 12.0), (-12.0, 12.0))
SHRUG = ((-5.0, 5.0), (-5.0, 5.0), (-15.0, 15.0))
BREATH = ((-3.0, 3.0), (-4.0, 4.0), (-20.0, 20.0))
SLIDES_MM = 24.0  # from the next bone: soft tissue that slides along it as one
L5_BELOW_CREST_MM, LUMBAR_MM, WINGS = 48.0, 135.0, 0.6
SPINE = ((-20.0, 20.0), (-10.0, 10.0), (-10.0, 10.0))


@dataclass(frozen=True)
class Joints:
    """What can bend in a patient.

    Attributes:
        skeletons: by name: "hips", "neck", "shoulders", "organs".
        spine_mm: (N, 3) points within the spine, upwards; None where it was not found.
        crest_mm: height of the iliac crests; None where they were not found.
        soft_mm: (N, 4) places in soft tissue with room about them, and how far the next bone is, mm.
    """

    skeletons: Mapping[str, Skeleton] = field(default_factory=dict)
    spine_mm: Tensor | None = None
    crest_mm: float | None = None
    soft_mm: Tensor = field(default_factory=lambda: torch.zeros(0, 4, dtype=torch.float64))

    def kinds(self) -> list[str]:
        """The names that ``skeleton`` takes."""
        return [*self.skeletons, *(["spine"] if self.spine_mm is not None else []), "hinge"]

    def skeleton(self, kind: str, random: np.random.RandomState) -> Skeleton | None:
        """The skeleton of a kind; None for a hinge, which is made anywhere (``skeleton.random_hinge``)."""
        if kind == "spine":
            return random_spine(self.spine_mm, random)
        return self.skeletons.get(kind)

    def posture(self, name: str) -> Skeleton | None:
        """The skeleton of an evaluation regime: "hips", "neck", "organs" or "lumbar"; None where it was not found."""
        if name != "lumbar":
            return self.skeletons.get(name)
        if self.spine_mm is None or self.crest_mm is None:
            return None
        low = self.crest_mm - L5_BELOW_CREST_MM
        return spine(self.spine_mm, low, low + LUMBAR_MM, names=("pelvis", "trunk"), wings=WINGS)


def find_joints(volume: MetaTensor, femora: MetaTensor | None = None, sides: tuple[int, int] = (1, 1)) -> Joints:
    """Neck, spine and organs of a CT (1, I, J, K) in HU by rule; the hips if a map of the femora is given (``hips``)."""
    profile = Profile(volume)
    found = {"neck": neck(profile), "hips": None if femora is None else hips(volume, femora, sides)}
    found["shoulders"] = shoulders(found["neck"])
    found["organs"], soft = organs(profile)
    skeletons = {name: one for name, one in found.items() if one is not None}
    return Joints(skeletons, spine_line(profile), crest(profile), soft)


def phantom_joints(session: PhantomSession) -> Joints:
    """Joints of a phantom patient, whose femoral heads are known."""
    heads = torch.stack([session.landmarks[f"femoral_head_{side}"] for side in ("left", "right")])
    return find_joints(session.volume, femora_by_rule(session.volume, heads))


def joints_beside(file: str | Path, volume: MetaTensor) -> Joints:
    """Joints of a CT in a file; its femora are looked for in a label map beside it.

    ``NAME_structures.nii.gz`` with ``NAME_structures.txt``, which has a line "number name" for each label, of which
    ``femur_left`` and ``femur_right`` are taken.
    """
    file = Path(file)
    stem = file.name.split(".")[0]
    labels, names = (file.with_name(f"{stem}_structures{end}") for end in (".nii.gz", ".txt"))
    if not (labels.exists() and names.exists()):
        return find_joints(volume)
    table = {name: int(n) for n, _, name in (line.partition(" ") for line in names.read_text().splitlines() if line.strip())}
    if not {"femur_left", "femur_right"} <= {name.strip() for name in table}:
        return find_joints(volume)
    return find_joints(volume, load_volume(labels, labels=True), (table["femur_left"], table["femur_right"]))


def neck(profile: Profile) -> Skeleton | None:
    """Skull, three blocks of the neck, chest: where the body is thinnest between the head and the shoulders.

    Returns:
        The skeleton with the chest as the part that stays; None where there is no such place.
    """
    if profile.empty:
        return None
    z, area = profile.z_mm, ndimage.gaussian_filter1d(profile.area_mm2, 2.0)
    held = area > 2000
    if held.sum() < 30:
        return None
    lowest = None
    for k in np.flatnonzero(held):
        below, above = area[max(0, k - 35) : k], area[k + 1 : k + 36]
        if len(below) < 10 or len(above) < 8 or area[k] > 22_000:
            continue
        if below.max() > 1.5 * area[k] and above.max() > 1.05 * area[k] and (lowest is None or area[k] < area[lowest]):
            lowest = k
    if lowest is None:
        return None
    return neck_at(profile, float(z[lowest]))


def neck_at(profile: Profile, z_mm: float) -> Skeleton | None:
    """The same about a neck that is thinnest at a height."""
    middle = profile.spine_mm(z_mm)
    ends = [profile.spine_mm(z_mm + up) for up in (-30.0, 20.0)]
    if middle is None:
        return None
    low, high = (middle if end is None else end for end in ends)
    along = high - low if float((high - low)[2]) > 20 else torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    along = along / along.norm()
    tilt = math.radians(TILT_DEG)
    normal = torch.tensor([0.0, math.sin(tilt), math.cos(tilt)], dtype=torch.float64)
    heights = torch.tensor([-45.0, -22.0, -1.0, 20.0, 36.0], dtype=torch.float64)
    centres = middle + heights[:, None] * along / along[2]
    disc = {"low": -5.0, "high": 5.0, "radius": 28.0}
    blocks = [{"high": 0.0, "across": 0.25}, disc, disc, disc, {"low": 0.0}]
    names = ["chest", "neck 3", "neck 2", "neck 1", "skull"]
    return column(names, centres, normal.expand(5, 3), NECK, blocks)


def shoulders(neck_: Skeleton | None) -> Skeleton | None:
    """Chest, with the neck on it, and the shoulders with their arms, below a neck that was found."""
    if neck_ is None:
        return None
    base = neck_.limbs[1].centre_mm - torch.tensor([0.0, 0.0, 45.0])
    limbs, cores = [Limb("chest")], [Block(base, torch.eye(3, dtype=torch.float64), radius=80.0)]
    for name, side in (("left shoulder", -1.0), ("right shoulder", 1.0)):
        out = torch.tensor([side, 0.0, 0.0], dtype=torch.float64)
        middle = base + 120.0 * out
        cores.append(Block(middle, axes_along(out), low=0.0, high=200.0, radius=90.0))
        limbs.append(Limb(name, 0, base + 60.0 * out, SHOULDER, SHRUG))
    return Skeleton(tuple(limbs), Blocks(cores))


def spine(
    line: Tensor,
    low_mm: float,
    high_mm: float,
    turn: tuple[Range, Range, Range] = SPINE,
    names: tuple[str, str] = ("below", "above"),
    wings: float = 0.0,
) -> Skeleton:
    """A spine that curves between two heights: what lies below, blocks every 40 mm or so, what lies above.

    Args:
        line: (N, 3) points within the spine, upwards.
        low_mm, high_mm: heights, mm, at which the parts at either end begin.
        turn: of the upper end against the lower one.
        names: of the two ends.
        wings: by how much the lower part reaches up for each mm to the side: the iliac wings beside the lumbar spine.
    """
    between = max(1, round((high_mm - low_mm) / 42.0) - 1)
    heights = np.linspace(low_mm, high_mm, between + 2)
    sides = [np.interp(heights, line[:, 2].numpy(), line[:, axis].numpy()) for axis in (0, 1)]
    centres = torch.from_numpy(np.stack([*sides, heights], -1))
    normals = torch.zeros_like(centres)
    normals[:, 2] = 1.0
    disc = {"low": -9.0, "high": 9.0, "radius": 40.0}
    blocks = [{"high": 0.0, "across": -wings}, *[disc] * between, {"low": 0.0, "across": 0.15}]
    return column([names[0], *(f"spine {n}" for n in range(between, 0, -1)), names[1]], centres, normals, turn, blocks)


def random_spine(line: Tensor, random: np.random.RandomState) -> Skeleton:
    """A random stretch of a spine, 110 to 240 mm long or all there is, that bends up to 20 degrees."""
    low, high = float(line[0, 2]), float(line[-1, 2])
    length = min(random.uniform(110.0, 240.0), high - low)
    begin = random.uniform(low, high - length)
    return spine(line, begin, begin + length)


def organs(profile: Profile) -> tuple[Skeleton | None, Tensor]:
    """Bones that stay and soft tissue away from them that slides as in breathing; places (N, 4) where organs may fill."""
    nowhere = torch.zeros(0, 4, dtype=torch.float64)
    if profile.empty:
        return None, nowhere
    steps = (RULE_MM,) * 3
    apart = torch.from_numpy(ndimage.distance_transform_edt(~profile.bone.numpy(), steps))
    deep = torch.from_numpy(ndimage.distance_transform_edt(profile.body.numpy(), steps))
    core = (apart > SLIDES_MM) & (deep > 12)
    if int(core.sum()) < 2000:
        return None, nowhere
    voxels = core.nonzero()
    middle = ijk_to_mm(voxels, profile.affine).mean(0)
    random = np.random.RandomState(0)
    roomy = (core & (apart > 30)).nonzero()
    soft = nowhere
    if len(roomy):
        roomy = roomy[torch.as_tensor(random.randint(len(roomy), size=64))]
        soft = torch.cat([ijk_to_mm(roomy, profile.affine), apart[tuple(roomy.T)][:, None]], 1)
    limbs = (Limb("bones"), Limb("organs", 0, middle, shift=BREATH))
    bones = profile.bone & profile.body
    return Skeleton(limbs, Fields(torch.stack([bones, core]), profile.affine, margin_mm=4.0)), soft
