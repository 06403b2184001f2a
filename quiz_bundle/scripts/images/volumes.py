"""Volumes: read an image file, resample it in world space, bring it to the network's grid.

A volume is a ``MetaTensor`` (1, I, J, K) float32 in HU whose ``affine`` (4, 4) float64 maps ijk to RAS mm.
Its ``meta`` holds name, sha256, filename_or_obj, original_shape, original_spacing, orientation, original_affine and
space; one that comes from DICOM has its ``series``, a standardised one its window instead. All but the series collates
in a batch.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from nibabel.orientations import inv_ornt_aff, io_orientation
from torch import Tensor
from torch.nn import functional

from ..core.errors import InputError, printable
from ..core.geometry import as_affine, centre_mm, spacing_of
from ..core.threads import free_threads
from .dicom.folder import is_dicom
from .dicom.series import load_series
from .file_tree import closed
from .hashes import image_sha256
from .image_files import IMAGE_ENDINGS, NIFTI_ENDINGS, read_itk, read_nifti
from .volume_checks import bad_axes, checked_volume, make_volume

AIR_HU = -1024.0
WINDOW_HU = (-600.0, 600.0)


def load_volume(
    path: str | Path, name: str | None = None, series_uid: str | None = None, labels: bool = False
) -> MetaTensor:
    """Read a NIfTI, MHA or NRRD file, or a folder of a DICOM series, as a volume (1, I, J, K) in HU, in its orientation.

    Args:
        path: the file or folder.
        name: what to call it in reports; the file's name without its ending, or the folder's, when left out.
        series_uid: which series to take of a DICOM folder that holds several.
        labels: it is a file with a mask or a label map, and no scan.

    Raises:
        InputError: the file is missing, may not be read, is damaged, not one 3-D image, has no usable position in space
            (none told, singular or sheared axes), is metres long, is a constant scan, or holds numbers that are not finite
            or not real; of a DICOM folder, see ``load_series``.
    """
    path = Path(path)
    ending = next((e for e in IMAGE_ENDINGS if path.name.lower().endswith(e)), None)
    try:
        if not path.is_dir():
            path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError) as error:
        expected = "an image file" if labels else "an image file or a DICOM folder"
        raise InputError(path, expected, "no such file", "check the path") from error
    except OSError as error:
        raise closed(path, path, error) from error
    if labels and path.is_dir():
        raise InputError(path, "the file of a mask or label map", "a folder", "give the file")
    if path.is_dir() or (ending is None and is_dicom(path)):
        return load_series(path, name, series_uid)
    if series_uid is not None:
        raise InputError(path, "a DICOM folder, since a series UID is given", "a file", "leave the series UID out")
    if ending is None:
        remedy = f"convert it to one of {', '.join(IMAGE_ENDINGS)}, or give the folder of a DICOM series"
        raise InputError(path, "a NIfTI, MHA or NRRD file", f"a file ending in '{path.suffix}'", remedy)
    try:
        digest = image_sha256(path)
        voxels, affine = (read_nifti if ending in NIFTI_ENDINGS else read_itk)(path)
        data = torch.from_numpy(voxels.astype(np.float32))  # in the order of the file, last axis slowest
    except InputError:
        raise
    except PermissionError as error:  # of a file with its voxels beside it
        raise closed(path, Path(error.filename), error) from error
    except Exception as error:  # readers raise anything from EOFError to RuntimeError on a damaged file
        text = re.sub(r"^.*?ITK ERROR: \w+\(\w+\): ", "", str(error).strip() or type(error).__name__, flags=re.DOTALL)
        if "determinant is 0" in text:
            raise bad_axes(path, "a singular affine") from error
        found = f"a damaged or truncated file ({text.splitlines()[0].replace(str(path), path.name)[:160]})"
        raise InputError(path, "a readable image", found, "export or copy it again") from error
    meta = {"name": name or printable(path.name[: -len(ending)]), "sha256": digest}
    return checked_volume(path, data, affine, meta, labels)


@free_threads()
def resample(
    volume: MetaTensor,
    affine: object,
    shape: Sequence[int],
    mode: str = "bilinear",
    outside: float = AIR_HU,
    limits: tuple[float, float] | None = None,
) -> MetaTensor:
    """Sample a volume (1, I, J, K) on another grid in the same world; geometry in float64, values in float32.

    Where the target is coarser the source is averaged over whole voxels first, so that nothing aliases; up to the
    outer faces of the source its edge values hold, beyond them ``outside``.

    Args:
        volume: the source.
        affine: (4, 4) ijk -> RAS mm of the target.
        shape: (I, J, K) of the target.
        mode: "bilinear" (trilinear in 3-D) or "nearest" (for labels; never averaged).
        outside: value beyond the source's field of view.
        limits: what the source's values are cut to before any averaging, so that one metal voxel cannot outweigh its
            neighbours; as they are when left out.
    """
    affine, source_affine = as_affine(affine), as_affine(volume.affine)
    data = volume.as_tensor()[None].float()
    to_source = torch.linalg.inv(source_affine) @ affine  # target ijk -> source ijk
    # What is read in the order of memory is read fast, and files have their last axis slowest.
    order = sorted(range(3), key=lambda axis: -data.stride(2 + axis))
    data = data.permute(0, 1, *(2 + axis for axis in order))
    to_source[:3] = to_source[order]
    size = torch.tensor(data.shape[2:], dtype=torch.float64)
    factor = torch.ones(3, dtype=torch.float64)
    if mode != "nearest":
        # A pooled voxel may be up to 1.15 target steps long; anything longer would blur.
        factor = (to_source[:3, :3].norm(dim=1) + 0.25).floor().clamp_min(1).minimum(size)
    pooled = _pool(data, [int(k) for k in factor], limits)
    # Source index s lies in the middle of pooled voxel (s - (k - 1) / 2) / k: the block shifts the origin by half.
    to_pooled = to_source.clone()
    to_pooled[:3] /= factor[:, None]
    to_pooled[:3, 3] -= (factor - 1) / 2 / factor
    far = size / factor - 0.5  # the source's own far faces in pooled voxels; the repeated edge lies beyond
    along = to_pooled[:3, :3].abs() > 1e-9
    straight = bool((along.sum(0) == 1).all() and (along.sum(1) == 1).all())
    sampler = _sample_straight if straight else _sample_oblique
    result = sampler(pooled, to_pooled, far, tuple(shape), mode, outside)
    return make_volume(result[None], affine, volume.meta)


def _sample_straight(
    data: Tensor, to_data: Tensor, far: Tensor, shape: tuple[int, ...], mode: str, outside: float
) -> Tensor:
    """Sample (1, 1, I, J, K) where the target's axes run along the source's: one axis after the other, quick."""
    axes = to_data[:3, :3].abs().argmax(0).tolist()  # source axis for each target axis
    result = data[0, 0].permute(axes)
    masks = []
    # The axis that shrinks most goes first: the others then have less to do.
    for target in sorted(range(3), key=lambda t: shape[t] / result.shape[t]):
        source, length = axes[target], result.shape[target]
        where = to_data[source, 3] + to_data[source, target] * torch.arange(shape[target], dtype=torch.float64)
        masks.append((target, ((where < -0.5 - 1e-9) | (where > far[source] + 1e-9)).nonzero()[:, 0].to(data.device)))
        where = where.clamp(0, length - 1)
        if mode == "nearest":
            result = result.index_select(target, where.round().long().to(data.device))
            continue
        lower = where.floor().clamp(max=max(length - 2, 0))
        weight = (where - lower).to(result).reshape([-1 if axis == target else 1 for axis in range(3)])
        lower = lower.long().to(data.device)
        upper = (lower + 1).clamp(max=length - 1)
        result = torch.lerp(result.index_select(target, lower), result.index_select(target, upper), weight)
    for target, rows in masks:
        result.index_fill_(target, rows, outside)
    return result.contiguous()


def _sample_oblique(data: Tensor, to_data: Tensor, far: Tensor, shape: tuple[int, ...], mode: str, outside: float) -> Tensor:
    """Sample (1, 1, I, J, K) anywhere, slab by slab to bound the memory of the point grid."""
    size = torch.tensor(data.shape[2:], dtype=torch.float64)
    to_grid, far = to_data.clone(), (far + 0.5) * 2 / size - 1
    to_grid[:3] *= 2 / size[:, None]
    to_grid[:3, 3] += 1 / size - 1
    result = torch.empty(shape, dtype=torch.float32, device=data.device)
    slab = max(1, 1_000_000 // (shape[1] * shape[2]))
    for start in range(0, shape[0], slab):
        where = _lattice(to_grid, range(start, min(start + slab, shape[0])), shape[1:])
        beyond = ((where < -1 - 1e-9) | (where > far + 1e-9)).any(-1).to(data.device)
        grid = where.flip(-1).float()[None].to(data.device)
        values = functional.grid_sample(data, grid, mode=mode, padding_mode="border", align_corners=False)[0, 0]
        result[start : start + slab] = values.masked_fill_(beyond, outside)
    return result


def _pool(data: Tensor, factor: list[int], limits: tuple[float, float] | None) -> Tensor:
    """Mean over blocks of whole voxels, cut to limits first; the far edge is repeated to fill its last block.

    Slab by slab, which stays in the processor's cache.
    """
    if factor == [1, 1, 1]:
        return data if limits is None else data.clamp(*limits)
    shape = [-(-n // k) for n, k in zip(data.shape[2:], factor, strict=True)]
    pooled = data.new_empty(1, 1, *shape)
    rows = max(1, 500_000 // (factor[0] * data.shape[3] * data.shape[4]))
    for start in range(0, shape[0], rows):
        slab = data[:, :, start * factor[0] : (start + rows) * factor[0]]
        slab = slab if limits is None else slab.clamp(*limits)
        missing = [-n % k for n, k in zip(slab.shape[2:], factor, strict=True)]
        if any(missing):
            slab = functional.pad(slab, [0, missing[2], 0, missing[1], 0, missing[0]], mode="replicate")
        pooled[:, :, start : start + rows] = functional.avg_pool3d(slab, factor)
    return pooled


def _lattice(matrix: Tensor, rows: range, shape: Sequence[int]) -> Tensor:
    """Lattice points (rows, J, K, 3) mapped by a (4, 4) matrix, built by broadcasting."""
    i, j, k = (torch.arange(r.start, r.stop, dtype=torch.float64) for r in (rows, range(shape[0]), range(shape[1])))
    out = matrix[:3, 3] + i[:, None, None, None] * matrix[:3, 0] + j[:, None, None] * matrix[:3, 1]
    return out + k[:, None] * matrix[:3, 2]


def to_orientation_ras(volume: MetaTensor) -> MetaTensor:
    """Reorder and flip the axes to those nearest to R, A, S; nothing is interpolated, oblique axes stay oblique."""
    order, affine = _ras_order(volume)
    axes = [int(np.flatnonzero(order[:, 0] == world)[0]) for world in range(3)]
    data = volume.as_tensor().permute(0, *(1 + axis for axis in axes))
    flipped = [1 + world for world, axis in enumerate(axes) if order[axis, 1] < 0]
    return make_volume(data.flip(flipped) if flipped else data, affine, volume.meta)


def _ras_order(volume: MetaTensor) -> tuple[np.ndarray, Tensor]:
    """World axis and sign of each voxel axis as nibabel's (3, 2) table, and the affine after reordering by it."""
    affine = as_affine(volume.affine)
    order = io_orientation(affine.numpy())
    return order, affine @ torch.from_numpy(inv_ornt_aff(order, tuple(volume.shape[1:])))


def standard_grid(volume: MetaTensor, spacing: float) -> tuple[Tensor, tuple[int, int, int]]:
    """Affine and shape of the isotropic grid that covers a volume's field of view about the same centre.

    Its axes are the volume's own, in the order and direction nearest to RAS.
    """
    order, affine = _ras_order(volume)
    shape = [volume.shape[1:][int(np.flatnonzero(order[:, 0] == world)[0])] for world in range(3)]
    lengths = spacing_of(affine)
    extent = lengths * torch.tensor(shape, dtype=torch.float64)
    new_shape = tuple(int(n) for n in (extent / spacing - 1e-6).ceil().clamp_min(1))
    new_affine = affine.clone()
    new_affine[:3, :3] = affine[:3, :3] / lengths * spacing
    middle = (torch.tensor(new_shape, dtype=torch.float64) - 1) / 2
    new_affine[:3, 3] = centre_mm(affine, shape) - new_affine[:3, :3] @ middle
    return new_affine, new_shape


def coarser(volume: MetaTensor, spacing: float, outside: float = 0.0) -> MetaTensor:
    """A volume on the ``standard_grid`` of ``spacing`` mm; what that adds beyond the field reads ``outside``."""
    return resample(volume, *standard_grid(volume, spacing), outside=outside)


def standardise(volume: MetaTensor, spacing: float, window: tuple[float, float] = WINDOW_HU) -> MetaTensor:
    """Bring a volume in HU to the network's form: axes nearest to RAS, isotropic spacing (mm), values in [0, 1].

    The field of view is kept: same centre, outer faces covered; what is added is air (0). Oblique axes stay oblique:
    the affine says so, and no rotation blurs the voxels.
    """
    low, high = window
    affine, shape = standard_grid(volume, spacing)
    result = resample(volume, affine, shape, outside=low, limits=window)
    scaled = result.as_tensor().sub_(low).div_(high - low)
    meta = {key: value for key, value in volume.meta.items() if key != "series"}  # it would not collate
    return make_volume(scaled, affine, {**meta, "window": (float(low), float(high))})


class Standardised(MapTransform):
    """Dictionary form of ``standardise``; takes volumes or paths."""

    def __init__(
        self,
        keys: KeysCollection,
        spacing: float = 3.0,
        window: Sequence[float] = WINDOW_HU,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spacing, self.window = float(spacing), (float(window[0]), float(window[1]))

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return a copy of the dictionary with the keys' volumes standardised."""
        result = dict(data)
        for key in self.key_iterator(result):
            volume = result[key] if isinstance(result[key], Tensor) else load_volume(result[key])
            result[key] = standardise(volume, self.spacing, self.window)
        return result
