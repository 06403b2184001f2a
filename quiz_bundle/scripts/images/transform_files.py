"""Rigid maps that other programs wrote: ITK transform files and 4 x 4 matrices as text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.errors import InputError
from ..core.geometry import apply_affine, centre_mm, matrix_ras_to_lps
from ..core.rigid import RigidTransform
from .dicom.folder import is_dicom
from .dicom.registrations import read_registration
from .file_tree import closed
from .hashes import file_sha256

WANTED = "a rigid map: an ITK transform (.tfm), a DICOM Spatial Registration or a 4 x 4 matrix as text"
REMEDY = "export the rigid registration again, and name the file itself"
LEAST_SCALE = 1e-3  # by which a map may stretch and still count as rigid: 0.3 mm over 300 mm
ITK, DICOM, TEXT = "ITK transform", "DICOM Spatial Registration", "4 x 4 matrix"
HEADER = "#Insight Transform File"
LARGEST = 1_000_000  # bytes; what is longer holds no rigid map


@dataclass(frozen=True)
class GivenMap:
    """A map that somebody else made.

    Attributes:
        fixed_to_moving: RAS mm.
        kind: what the file is.
        name, sha256: of the file.
    """

    fixed_to_moving: RigidTransform
    kind: str
    name: str
    sha256: str


def read_given_map(path: str | Path, fixed: MetaTensor, moving: MetaTensor) -> GivenMap:
    """Read a rigid map between two scans, whichever of the three kinds of file it is in.

    Args:
        path: of the file.
        fixed, moving: the scans, for their frames of reference and the middle of the fixed one.

    Raises:
        InputError: no such file, none of these kinds, not rigid, not one map, or not between these two scans.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, WANTED, "a folder" if path.is_dir() else "no such file", REMEDY)
    try:
        if is_dicom(path):
            kind, matrix = DICOM, read_registration(path, fixed.meta.get("series"), moving.meta.get("series"))
        else:
            text = _text_of(path)
            is_itk = text.lstrip().startswith(HEADER)
            kind, matrix = (ITK, matrix_of_itk(text, path)) if is_itk else (TEXT, matrix_of_text(text, path))
        digest = file_sha256(path)
    except OSError as error:
        raise closed(path, path, error) from error
    middle = centre_mm(fixed.affine, fixed.shape[1:])
    return GivenMap(nearest_rigid(matrix, middle, path), kind, path.name, digest)


def nearest_rigid(matrix: Tensor, centre_mm: Tensor, subject: object) -> RigidTransform:
    """An affine map (4, 4) that is rigid but for rounding, as the rigid one that agrees with it at a point (3,), in mm.

    Raises:
        InputError: it mirrors, or stretches somewhere by more than 0.1 %.
    """
    if not torch.isfinite(matrix).all():
        raise InputError(subject, WANTED, "numbers that are not finite", REMEDY)
    left, scales, right = torch.linalg.svd(matrix[:3, :3])
    rotation = left @ right
    if rotation.det() < 0:
        raise InputError(subject, WANTED, "one that swaps left and right", REMEDY)
    stretch = float((scales - 1).abs().max())
    if stretch > LEAST_SCALE:
        raise InputError(subject, WANTED, f"one that scales or shears by {100 * stretch:.1f} %", REMEDY)
    there = apply_affine(matrix, centre_mm[None])[0]
    return RigidTransform.from_parts(rotation, there - rotation @ centre_mm)


def matrix_of_text(text: str, subject: object) -> Tensor:
    """The 4 x 4 matrix of a text: a row a line, numbers parted by blanks or commas; what follows a # is a comment.

    Returns:
        (4, 4) float64, fixed to moving, RAS mm.

    Raises:
        InputError: other rows, no numbers, or a last row that is not 0 0 0 1.
    """
    lines = [re.split(r"[\s,;]+", line.strip(" \t[](),;")) for line in (raw.partition("#")[0] for raw in text.splitlines())]
    lines = [line for line in lines if line != [""]]
    try:
        rows = [[float(word) for word in line] for line in lines]
    except ValueError:
        raise InputError(subject, WANTED, "text that is none of them", REMEDY) from None
    if [len(row) for row in rows] != [4] * 4:
        lengths = {len(row) for row in rows}
        of = f" of {lengths.pop()}" if len(lengths) == 1 else ""
        remedy = "write four rows of four numbers, fixed to moving, RAS mm, the last one 0 0 0 1"
        raise InputError(subject, "4 rows of 4 numbers", f"{len(rows)} rows{of}", remedy)
    if max(abs(a - b) for a, b in zip(rows[3], (0, 0, 0, 1), strict=True)) > 1e-6:
        found = " ".join(f"{value:g}" for value in rows[3])
        remedy = "the translation is the last column; transpose the matrix if it stands in the last row"
        raise InputError(subject, "0 0 0 1 as the last row", found, remedy)
    return torch.tensor(rows, dtype=torch.float64)


def matrix_of_itk(text: str, subject: object) -> Tensor:
    """The matrix of an ITK transform file (text form): fixed to moving points, as ITK and 3D Slicer resample with it.

    Returns:
        (4, 4) float64, RAS mm; affine, to be made rigid by ``nearest_rigid``.

    Raises:
        InputError: damaged, of a kind that is not rigid, or several transforms that no composite joins.
    """
    maps, composite = [], False
    for name, parameters, fixed in _entries(text, subject):
        if name == "CompositeTransform":
            composite = True
            continue
        if name not in PARAMETERS:
            raise InputError(subject, f"one of {', '.join(PARAMETERS)}", name, REMEDY)
        if len(parameters) != PARAMETERS[name]:
            found = f"{len(parameters)} of them"
            raise InputError(subject, f"{PARAMETERS[name]} parameters of {name}", found, REMEDY)
        maps.append(_homogeneous(name, parameters, fixed))
    if len(maps) != 1:
        raise InputError(subject, "one transform" + (" in the composite" if composite else ""), str(len(maps)), REMEDY)
    return matrix_ras_to_lps(maps[0])


def _entries(text: str, subject: object) -> list[tuple[str, list[float], list[float]]]:
    """Name without dimensions, parameters and fixed parameters of each transform in an ITK transform file."""
    entries: list[tuple[str, list[float], list[float]]] = []
    try:
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Transform":
                name, *rest = value.strip().split("_")
                if rest[1:] != ["3", "3"]:
                    raise InputError(subject, "a transform between 3-D points", value.strip() or "none", REMEDY)
                entries.append((name, [], []))
            elif key.strip() in ("Parameters", "FixedParameters"):
                entries[-1][1 if key.strip() == "Parameters" else 2].extend(map(float, value.split()))
    except (ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(subject, "an ITK transform file", "a damaged one", REMEDY) from error
    return entries


def _homogeneous(name: str, parameters: Sequence[float], fixed: Sequence[float]) -> Tensor:
    """``q = A (p - c) + c + t`` as a matrix, LPS mm (Insight Toolkit, itkMatrixOffsetTransformBase)."""
    linear, shift = LINEAR[name](parameters, fixed)
    centre = torch.tensor([*fixed[:3], 0.0, 0.0, 0.0][:3], dtype=torch.float64)
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = linear
    matrix[:3, 3] = torch.tensor(shift, dtype=torch.float64) + centre - linear @ centre
    return matrix


def _about(axis: int, angle: float) -> Tensor:
    """The turn by an angle in radians about one axis."""
    c, s, (i, j) = math.cos(angle), math.sin(angle), ((1, 2), (2, 0), (0, 1))[axis]
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def _of_euler(p: Sequence[float], fixed: Sequence[float]) -> tuple[Tensor, Sequence[float]]:
    x, y, z = (_about(axis, angle) for axis, angle in enumerate(p[:3]))
    return z @ y @ x if len(fixed) > 3 and fixed[3] else z @ x @ y, p[3:]  # the fourth one is ComputeZYX


def _of_quaternion(x: float, y: float, z: float, w: float) -> Tensor:
    """The turn of a quaternion with its real part last; of any length but 0."""
    x, y, z, w = (value / math.hypot(x, y, z, w) for value in (x, y, z, w))
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.tensor(rows, dtype=torch.float64)


def _of_versor(x: float, y: float, z: float) -> Tensor:
    return _of_quaternion(x, y, z, math.sqrt(max(0.0, 1 - x * x - y * y - z * z)))


def _of_affine(p: Sequence[float], _: Sequence[float]) -> tuple[Tensor, Sequence[float]]:
    return torch.tensor(p[:9], dtype=torch.float64).reshape(3, 3), p[9:]


STILL = torch.eye(3, dtype=torch.float64)
LINEAR: dict[str, Callable[[Sequence[float], Sequence[float]], tuple[Tensor, Sequence[float]]]] = {
    "Euler3DTransform": _of_euler,
    "VersorRigid3DTransform": lambda p, _: (_of_versor(*p[:3]), p[3:]),
    "VersorTransform": lambda p, _: (_of_versor(*p), [0.0] * 3),
    "QuaternionRigidTransform": lambda p, _: (_of_quaternion(*p[:4]), p[4:]),
    "Similarity3DTransform": lambda p, _: (_of_versor(*p[:3]) * p[6], p[3:6]),
    "AffineTransform": _of_affine,
    "MatrixOffsetTransformBase": _of_affine,
    "Rigid3DTransform": _of_affine,
    "TranslationTransform": lambda p, _: (STILL, p),
    "IdentityTransform": lambda *_: (STILL, [0.0] * 3),
}
PARAMETERS = dict(zip(LINEAR, (6, 6, 3, 7, 7, 12, 12, 12, 3, 0), strict=True))


def _text_of(path: Path) -> str:
    content = path.read_bytes()[: LARGEST + 1]
    try:
        if len(content) > LARGEST:
            raise ValueError("too long")
        return content.decode("utf-8-sig")
    except ValueError:  # HDF5 and MATLAB forms of ITK's transforms among them
        remedy = "save it as .tfm (text) in 3D Slicer or ITK"
        raise InputError(path, WANTED, "a file that is no text", remedy) from None
