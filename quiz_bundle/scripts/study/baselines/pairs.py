"""From a datalist's pair to what the networks train on: both images on one grid, from a start that is far or near."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.engines import PrepareBatch
from monai.transforms import Randomizable, Transform
from torch import Tensor

from ...core.errors import InputError
from ...core.geometry import centre_mm, inside, mm_to_ijk
from ...core.rigid import RigidTransform, fit_rigid, fit_translation
from ...images.landmarks import read_landmarks
from ...images.transform_files import read_given_map
from ...images.volumes import load_volume
from .common_grid import SHAPE, SPACING_MM, on_grid, prepare_fixed, prepare_moving

STARTS = ("centres", "near")


def with_both_starts(items: Iterable[Mapping]) -> list[dict]:
    """Each pair once from either start, for validation; its ``draw`` number decides how near the near one is."""
    return [{**item, "start": start, "draw": number} for number, item in enumerate(items) for start in STARTS]


class LoadDensed(Transform):
    """Load a pair and its landmarks and do all that does not hang on the start; what it returns can be cached.

    Args:
        spacing: of the common grid, mm.
    """

    def __init__(self, spacing: float = SPACING_MM) -> None:
        self.spacing = float(spacing)
        # The sessions of a patient follow each other and share the large image: it is read and kept once.
        self._fixed = lru_cache(maxsize=4)(lambda path: self._read(path, prepare_fixed))

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return the prepared ``fixed`` and ``moving``, ``fixed_points`` and ``moving_points`` (N, 3) mm, and the rest.

        An item's ``transform_file``, a first registration's map, is read as ``placed``.

        Raises:
            InputError: the item is no pair of files.
        """
        if "fixed" not in data:
            raise InputError("datalist", "pairs with landmarks", "volumes without a partner", "give --datalist pairs.json")
        fixed, fixed_file = self._fixed(data["fixed"])
        moving, moving_file = self._read(data["moving"], prepare_moving)
        points = read_landmarks(data["landmarks"], fixed_file, moving_file)
        loaded = {"fixed": fixed, "moving": moving, "fixed_points": points.fixed_mm, "moving_points": points.moving_mm}
        if "transform_file" in data:
            loaded["placed"] = read_given_map(data["transform_file"], fixed, moving).fixed_to_moving
        return {**{key: data[key] for key in ("start", "draw") if key in data}, **loaded}

    def _read(self, path: str, prepare: object) -> tuple[MetaTensor, Tensor]:
        """A prepared volume, and the affine of the file, in whose voxels landmarks may be."""
        volume = load_volume(path)
        return prepare(volume, self.spacing), volume.meta["original_affine"]


class FromStartd(Randomizable, Transform):
    """Lay a pair on its common grid from a start: aligned field centres, or near the truth as after a first registration.

    The truth of a pair is the rigid map through its landmarks; the near start is off by a random turn and shift, whose
    size is drawn too: a first registration may have been good or poor. Where one was made (``placed``), that is the near
    start.

    Args:
        shape: of the grid, voxels.
        near: chance of a near start, for items that do not name their ``start``.
        turn_deg, shift_mm: standard deviations of its error about and along each axis, at most.
    """

    def __init__(
        self, shape: Sequence[int] = SHAPE, near: float = 1.0, turn_deg: float = 3.0, shift_mm: float = 6.0
    ) -> None:
        self.shape = tuple(shape)
        self.near, self.turn_deg, self.shift_mm = near, turn_deg, shift_mm

    def __call__(self, data: Mapping[Hashable, object]) -> dict[str, object]:
        """Return the pair on its grid and its landmarks in voxels.

        ``image`` is the moving one (1, I, J, K), ``fixed`` likewise, ``fields`` (2, I, J, K); ``points`` and ``targets``
        (N, 3) are the landmarks, targets NaN where one of both images does not show them; ``spacing`` in mm; ``start`` is
        a name.
        """
        random = np.random.RandomState(data["draw"]) if "draw" in data else self.R
        name = data.get("start") or STARTS[int(random.uniform() < self.near)]
        fixed, moving = data["fixed"], data["moving"]
        start = self._near(data, random) if name == "near" else centres(fixed, moving)
        pair = on_grid(fixed, moving, start, self.shape)
        ends = data["fixed_points"], data["moving_points"]
        seen = [inside(p, v.affine, v.shape[1:]) for p, v in zip(ends, (fixed, moving), strict=True)]
        targets = mm_to_ijk(start.inverse()(ends[1]), pair.affine)
        return {
            "image": pair.moving,
            "fixed": pair.fixed,
            "fields": pair.fields,
            "points": mm_to_ijk(ends[0], pair.affine).float(),
            "targets": targets.where((seen[0] & seen[1])[:, None], torch.nan).float(),
            "spacing": float(pair.affine[:3, 0].norm()),
            "start": name,
        }

    def _near(self, data: Mapping[Hashable, object], random: np.random.RandomState) -> RigidTransform:
        if "placed" in data:
            return data["placed"]
        ends = data["fixed_points"], data["moving_points"]
        try:
            truth = RigidTransform(fit_rigid(*ends))
        except ValueError:  # too few landmarks to tell a turn
            truth = RigidTransform(fit_translation(*ends))
        size, turn, shift = random.uniform(), random.normal(size=3), random.normal(size=3)
        return truth @ RigidTransform.about(size * self.turn_deg * turn, size * self.shift_mm * shift, ends[0].mean(0))


def centres(fixed: MetaTensor, moving: MetaTensor) -> RigidTransform:
    """Lay the centres of the two fields on each other."""
    offset = centre_mm(moving.affine, moving.shape[1:]) - centre_mm(fixed.affine, fixed.shape[1:])
    return RigidTransform.from_parts(torch.eye(3, dtype=torch.float64), offset)


class Truth(NamedTuple):
    """What loss and validation compare with; see ``FromStartd``. The loss looks at the first two only.

    Attributes:
        fixed: (B, 1, I, J, K).
        fields: (B, 2, I, J, K).
        points, targets: (B, N, 3), voxels.
        spacing: (B,), mm.
        start: B names.
    """

    fixed: Tensor
    fields: Tensor
    points: Tensor | None = None
    targets: Tensor | None = None
    spacing: Tensor | None = None
    start: Sequence[str] = ()


class PrepareDense(PrepareBatch):
    """Hands MONAI's engines the moving image as input, the fixed one as the network's further argument, and the truth."""

    def __call__(self, batchdata: dict, device: object = None, non_blocking: bool = False, **options: object) -> tuple:
        """Return image, truth, the network's further arguments (fixed,), and no keywords."""
        ready = {k: v.to(device, non_blocking=non_blocking) for k, v in batchdata.items() if isinstance(v, Tensor)}
        truth = Truth(**{name: ready.get(name, batchdata[name]) for name in Truth._fields})
        return ready["image"], truth, (truth.fixed,), {}
