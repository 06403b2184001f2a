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

from ..core.geometry import as_affine, grid_affine, ijk_to_mm
from ..images.body import body_mask
from ..images.volumes import load_volume, make_volume, resample, standard_grid
from .cores import Fields
from .phantom.patient import PhantomSession
from .skeleton import Limb, Range, Skeleton, column

BONE_HU = 180.0
LATTICE_MM = 3.0
HEAD_MM = 24.5  # of the ball that a femoral head fills
RULE_MM = 3.0
TILT_DEG = 22.0  # of the planes across the neck: lower in front, so that the chin goes with the skull
NECK = ((-25.0, 25.0), (-12.0, 12.0), (-18.0, 18.0))
HIP = ((-10.0, 40.0), (-20.0, 5.0), (-12.0, 12.0))  # of the right one: flexed, abducted, turned
SPINE = ((-20.0, 20.0), (-10.0, 10.0), (-10.0, 10.0))


@dataclass(frozen=True)
class Joints:
    """What can bend in a patient.

    Attributes:
        skeletons: by name: "hips", "neck".
        spine_mm: (N, 3) points within the spine, upwards; None where it was not found.
    """

    skeletons: Mapping[str, Skeleton] = field(default_factory=dict)
    spine_mm: Tensor | None = None

    def kinds(self) -> list[str]:
        """The names that ``skeleton`` takes."""
        return [*self.skeletons, *(["spine"] if self.spine_mm is not None else []), "hinge"]

    def skeleton(self, kind: str, random: np.random.RandomState) -> Skeleton | None:
        """The skeleton of a kind; None for a hinge, which is made anywhere (``skeleton.random_hinge``)."""
        if kind == "spine":
            return random_spine(self.spine_mm, random)
        return self.skeletons.get(kind)

    def posture(self, name: str) -> Skeleton | None:
        """The skeleton of an evaluation regime: "hips", "neck", or "lumbar"; None where it was not found."""
        return self.skeletons.get(name)


def find_joints(volume: MetaTensor, femora: MetaTensor | None = None, sides: tuple[int, int] = (1, 1)) -> Joints:
    """Neck and spine of a CT (1, I, J, K) in HU by rule, and the hips if a map of the femora is given (see ``hips``)."""
    profile = Profile(volume)
    found = {"neck": neck(profile), "hips": None if femora is None else hips(volume, femora, sides)}
    return Joints({name: one for name, one in found.items() if one is not None}, spine_line(profile))


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


class Profile:
    """A patient slice by slice on a 3 mm grid.

    Attributes:
        z_mm: (K,) heights of the slices.
        area_mm2: (K,) of the body.
        bone: (I, J, K) bool.
        affine: (4, 4) of the grid.
    """

    def __init__(self, volume: MetaTensor) -> None:
        scan = resample(volume, *standard_grid(volume, RULE_MM), outside=-1000.0)
        self.affine = as_affine(scan.affine)
        body = body_mask(scan)
        data = scan.as_tensor()[0]
        self.data, self.body, self.bone = data, body, (data > BONE_HU) & body
        self.z_mm = (self.affine[2, 3] + self.affine[2, 2] * torch.arange(body.shape[2], dtype=torch.float64)).numpy()
        self.area_mm2 = body.double().sum((0, 1)).numpy() * RULE_MM**2
        self.empty = int(body.sum()) == 0

    def spine_mm(self, z_mm: float, reach_mm: float = 12.0) -> Tensor | None:
        """A point (3,) within the spine at a height: the middle of the bone in the rear about the midline; None without."""
        near = np.abs(self.z_mm - z_mm) <= reach_mm
        body, bone = self.body[:, :, near], self.bone[:, :, near]
        if not body.any():
            return None
        where = ijk_to_mm(body.nonzero(), self.affine)
        middle = where[:, 0].median()
        rear, front = where[:, 1].quantile(0.02) if len(where) < 1e6 else where[:, 1].min(), where[:, 1].max()
        points = ijk_to_mm(bone.nonzero(), self.affine)
        keep = ((points[:, 0] - middle).abs() < 35) & (points[:, 1] < rear + 0.62 * (front - rear))
        if int(keep.sum()) < 15:
            return None
        points = points[keep]
        return torch.tensor([float(points[:, 0].median()), float(points[:, 1].median()), z_mm], dtype=torch.float64)


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
        if below.max() > 1.5 * area[k] and above.max() > 1.12 * area[k] and (lowest is None or area[k] < area[lowest]):
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


def spine_line(profile: Profile, step_mm: float = 12.0) -> Tensor | None:
    """The longest unbroken run (N, 3) of points within the spine, one every 12 mm upwards, smoothed; None below 100 mm."""
    if profile.empty:
        return None
    runs: list[list[Tensor]] = [[]]
    for z in np.arange(profile.z_mm[0] + 6, profile.z_mm[-1] - 6, step_mm):
        point = profile.spine_mm(float(z))
        last = runs[-1][-1] if runs[-1] else None
        if point is None or (last is not None and float((point - last)[:2].norm()) > 15):
            runs.append([] if point is None else [point])
        else:
            runs[-1].append(point)
    longest = max(runs, key=len)
    if len(longest) < 9:
        return None
    line = torch.stack(longest)
    line[:, :2] = torch.from_numpy(ndimage.gaussian_filter1d(line[:, :2].numpy(), 2.0, axis=0, mode="nearest"))
    return line


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


def hips(volume: MetaTensor, femora: MetaTensor, sides: tuple[int, int], lattice_mm: float = LATTICE_MM) -> Skeleton | None:
    """Pelvis (with all that is not thigh) and thighs, from a map of the femora.

    Args:
        volume: CT (1, I, J, K) in HU; what is bone and not femur is the pelvis's.
        femora: label map (1, I, J, K), on any grid.
        sides: its labels of the left and the right femur; the same twice: told apart by the body's middle.
        lattice_mm: of the distances.
    """
    where = ijk_to_mm((femora.as_tensor()[0] > 0).nonzero(), femora.affine) if sides[0] == sides[1] else ijk_to_mm(
        ((femora.as_tensor()[0] == sides[0]) | (femora.as_tensor()[0] == sides[1])).nonzero(), femora.affine
    )
    if len(where) == 0:
        return None
    low_mm, high_mm = where.amin(0) - 90.0, where.amax(0) + 90.0
    high_mm[2] += 60.0  # the iliac wings
    shape = tuple(int(n) for n in ((high_mm - low_mm) / lattice_mm).ceil())
    affine = grid_affine(lattice_mm, shape, (low_mm + high_mm) / 2)
    scan = resample(volume, affine, shape, outside=-1000.0)
    labels = resample(femora, affine, shape, mode="nearest", outside=0.0).as_tensor()[0].round()
    bone = scan.as_tensor()[0] > BONE_HU
    x = ijk_to_mm(torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij"), -1).reshape(-1, 3), affine)[:, 0]
    x = x.reshape(shape)
    either = (labels == sides[0]) | (labels == sides[1])
    if int(either.sum()) < 50:
        return None
    middle = float(x[either].min() + x[either].max()) / 2
    z = (affine[2, 3] + affine[2, 2] * torch.arange(shape[2], dtype=torch.float64)).expand(shape)
    rest = bone & ~torch.from_numpy(ndimage.binary_dilation(either.numpy()))
    masks, limbs = [], [Limb("pelvis")]
    for name, side, label in (("left thigh", -1, sides[0]), ("right thigh", 1, sides[1])):
        mask = (labels == label) & (((x - middle) * side > 0) if sides[0] == sides[1] else True)
        centre = head_centre(mask, affine, -side) if int(mask.sum()) > 50 else None
        if centre is None:
            continue
        # A map of the femora may end before the scan does: far below the head, what lies outside of it is thigh.
        thigh = ((x - float(centre[0])) * side > -12) & (z < float(centre[2]) - 40)
        masks.append(mask | (rest & thigh))
        rest = rest & ~thigh & (z > float(centre[2]) - 80)
        flexed, spread, turned = HIP
        limbs.append(Limb(name, 0, centre, (flexed, spread if side > 0 else (-spread[1], -spread[0]), turned)))
    if not masks:
        return None
    return Skeleton(tuple(limbs), Fields(torch.stack([rest, *masks]), affine))


def femora_by_rule(volume: MetaTensor, heads_mm: Tensor) -> MetaTensor:
    """A rough map of the femora (1, I, J, K), 1 where they are, of a patient whose femoral heads (2, 3) are known.

    A patient whose x runs to her right, either head first. What is bone and lies in the head's ball, or outside and below
    of it where no pelvis is.
    """
    affine, shape = standard_grid(volume, LATTICE_MM)
    scan = resample(volume, affine, shape, outside=-1000.0)
    bone = scan.as_tensor()[0] > BONE_HU
    voxels = bone.nonzero()
    points = ijk_to_mm(voxels, affine)
    femur = torch.zeros(len(points), dtype=torch.bool)
    middle = float(heads_mm[:, 0].mean())
    for head in heads_mm.double():
        away = points - head
        out, front, up = away[:, 0] * (1 if float(head[0]) > middle else -1), away[:, 1], away[:, 2]
        ball = away.norm(dim=1) < HEAD_MM
        neck_ = (out > 12) & (out < 40) & ((front + 8).abs() < 17) & (up > -30) & (up < 10)
        beside = (out > 24 + up.clamp_min(0)) & (up < 32)
        below = (up < -25) & (out > 2)
        femur |= (ball | neck_ | beside | below) & (up < 40)
    found = torch.zeros(shape, dtype=torch.float32)
    found[voxels[:, 0], voxels[:, 1], voxels[:, 2]] = femur.float()
    return make_volume(found[None], affine)


def head_centre(femur: Tensor, affine: Tensor, inward: int) -> Tensor | None:
    """The centre (3,) in mm of a femoral head: a sphere through the upper inner surface of a femur's mask (I, J, K).

    Args:
        femur: mask of one femur.
        affine: (4, 4) of its grid.
        inward: sign of the way along x to the body's middle.
    """
    shell = femur & ~torch.from_numpy(ndimage.binary_erosion(femur.numpy()))
    points = ijk_to_mm(shell.nonzero(), affine)
    if len(points) < 30:
        return None
    inner = points[(inward * points[:, 0]) >= (inward * points[:, 0]).max() - 14.0]
    inner = inner[inner[:, 2] > inner[:, 2].max() - 40.0]
    best = None
    for _ in range(6):
        a = torch.cat([2 * inner, torch.ones(len(inner), 1, dtype=torch.float64)], 1)
        answer = torch.linalg.lstsq(a, inner.square().sum(1, keepdim=True)).solution[:, 0]
        centre = answer[:3]
        radius = float((answer[3] + centre.square().sum()).clamp_min(1e-6).sqrt())
        off = ((points - centre).norm(dim=1) - radius).abs()
        near = points[(off < 3.0) & ((points - centre)[:, 0] * inward > -0.3 * radius)]
        if len(near) < 20 or not 12 < radius < 40:
            break
        best, inner = centre, near
    return best
