"""Hips: pelvis and thighs as parts, femoral heads as spheres, femora by rule."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from scipy import ndimage
from torch import Tensor

from ..core.geometry import grid_affine, ijk_to_mm
from ..images.volumes import make_volume, resample, standard_grid
from .cores import Fields
from .profile import BONE_HU
from .skeleton import Limb, Range, Skeleton

LATTICE_MM = 3.0
HEAD_MM = 24.5  # of the ball that a femoral head fills
HIP: tuple[Range, Range, Range] = ((-10.0, 40.0), (-20.0, 5.0), (-12.0, 12.0))  # of the right one: flexed, abducted, turned


def hips(volume: MetaTensor, femora: MetaTensor, sides: tuple[int, int], lattice_mm: float = LATTICE_MM) -> Skeleton | None:
    """Pelvis (with all that is not thigh) and thighs, from a map of the femora.

    Args:
        volume: CT (1, I, J, K) in HU; what is bone and not femur is the pelvis's.
        femora: label map (1, I, J, K), on any grid.
        sides: its labels of the left and the right femur; the same twice: told apart by the body's middle.
        lattice_mm: of the distances.
    """
    where = (
        ijk_to_mm((femora.as_tensor()[0] > 0).nonzero(), femora.affine)
        if sides[0] == sides[1]
        else ijk_to_mm(((femora.as_tensor()[0] == sides[0]) | (femora.as_tensor()[0] == sides[1])).nonzero(), femora.affine)
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
