"""Dictionary transforms that change a pair and keep its volumes and its points in mm true to each other.

There are two kinds. A **grid** transform (MONAI's RandFlipd, RandRotate90d, RandRotated, RandZoomd, RandAffined;
RandAxisSwapd here) lays other voxels over the same world and says so in the volume's affine: points in mm stay as they
are, and the network, which sees voxels only, sees another pose. A **content** transform (RandSmoothDeformd,
RandWorldScaled) moves the anatomy within the world under an unchanged grid: the points move with it. RandIntensityd
moves nothing.

For use in a config, all after ``Standardised`` (which would turn flips and swaps back), with ``padding_mode: "zeros"``
(MONAI's default mirrors the anatomy at the border), and not ``lazy``. **Give each image a RandAffined of its own**:
with both keys in one, MONAI 1.6.1 writes a wrong affine to the second image when the two differ in shape. RandRotated,
RandZoomd and RandFlipd share one draw between both keys correctly.

What stays rigid: flips, swaps and rotations of the grid (the mm frame does not change), and one scale shared by both
images. Scaling one image alone, a scale that differs between axes (also RandAffined's ``scale_range`` with more than
one number, and shear), and a deformation leave no exact rigid map between the two; the points stay exact.

Truth that is not held in points (a transform, a label map under another key) does not follow a content transform.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import permutations

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import ensure_tuple
from torch import Tensor

from ..core.geometry import as_affine, as_points, centre_mm, ijk_to_grid, lattice_ijk, sample
from ..images.volumes import make_volume
from ..synthetic.deformation import SmoothDeformation

SWAPS = tuple(axes for axes in permutations(range(3)) if axes != (0, 1, 2))
TURNS = ((1, 2, 0), (2, 0, 1))  # the swaps that do not mirror


class RandAxisSwapd(RandomizableTransform, MapTransform):
    """Permute the voxel axes of all keys alike, affines included (the paper's axis swaps); points in mm stay valid.

    Args:
        keys: volumes (1, I, J, K); all get the same order of axes.
        prob: probability of a swap; the order is drawn evenly from those that change something.
        keep_handedness: draw only the two cyclic orders. The other three show the network mirrored anatomy.
        allow_missing_keys: let keys be absent.
    """

    def __init__(
        self, keys: KeysCollection, prob: float = 0.1, keep_handedness: bool = False, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.orders = TURNS if keep_handedness else SWAPS
        self.order = (0, 1, 2)

    def randomize(self, data: object = None) -> None:
        """Draw whether to swap and the new order of axes."""
        super().randomize(None)
        self.order = self.orders[self.R.randint(len(self.orders))] if self._do_transform else (0, 1, 2)

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Swap the axes of every key of a pair."""
        pair = dict(data)
        self.randomize()
        if self._do_transform:
            for key in self.key_iterator(pair):
                affine = as_affine(pair[key].affine)[:, [*self.order, 3]]
                swapped = pair[key].as_tensor().permute(0, *(1 + axis for axis in self.order)).contiguous()
                pair[key] = make_volume(swapped, affine, pair[key].meta)
        return pair


class _RandContentd(RandomizableTransform, MapTransform):
    """Base of the transforms that move content: volumes are resampled on their own grid and their points follow.

    Args:
        keys: volumes (1, I, J, K).
        points_keys: keys of the points (N, 3) in mm that live in each volume, in the order of ``keys``;
            ``<key>_points`` when left out. Rows of NaN (no answer) stay.
        prob: probability of a change.
        outside: value where the new content comes from beyond the field of view; 0 is air after ``Standardised``.
        allow_missing_keys: let volumes or points be absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        points_keys: KeysCollection | None,
        prob: float,
        outside: float,
        allow_missing_keys: bool,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.points_keys = tuple(f"{key}_points" for key in self.keys) if points_keys is None else ensure_tuple(points_keys)
        if len(self.points_keys) != len(self.keys):
            raise ValueError(f"points_keys: expected one for each of {self.keys}, found {self.points_keys}.")
        self.outside = outside

    def move(
        self, pair: dict, key: Hashable, points_key: Hashable, pull_mm: Tensor, push: Callable[[Tensor], Tensor]
    ) -> None:
        """Let ``new(x) = old(x + pull_mm(x))`` and move the points by ``push``, the inverse of ``x + pull_mm(x)``."""
        volume = pair[key]
        shape, affine = tuple(volume.shape[1:]), as_affine(volume.affine)
        to_ijk = torch.linalg.inv(affine)[:3, :3].to(pull_mm)
        where_grid = ijk_to_grid(lattice_ijk(shape, pull_mm.dtype) + pull_mm @ to_ijk.T, shape)
        moved = sample(volume.as_tensor().float()[None] - self.outside, where_grid[None])[0] + self.outside
        pair[key] = make_volume(moved.reshape(volume.shape), affine, volume.meta)
        if points_key in pair:
            points = as_points(pair[points_key]).clone()
            answered = points.isfinite().all(-1)
            points[answered] = push(points[answered])
            pair[points_key] = points
        elif not self.allow_missing_keys:
            raise KeyError(
                f"{type(self).__name__}: expected the points of {key!r} under {points_key!r}, found only "
                f"{sorted(map(str, pair))}; name them in points_keys or set allow_missing_keys."
            )


class RandSmoothDeformd(_RandContentd):
    """Deform the anatomy of a volume by a smooth random field; its points follow to 1e-9 mm.

    Each key has its own coin and field. The field is exact at every voxel and point: see ``SmoothDeformation``.

    Args:
        keys: volumes (1, I, J, K), usually the moving one alone.
        points_keys, prob, outside, allow_missing_keys: see the module's content transforms; ``<key>_points`` by
            default.
        rms_mm: range of the root mean square displacement along each axis.
        correlation_mm: range of the correlation length.

    Raises:
        ValueError: the displacement could exceed a fifth of the correlation length, where the field may fold.
    """

    def __init__(
        self,
        keys: KeysCollection = ("moving",),
        points_keys: KeysCollection | None = None,
        prob: float = 0.1,
        rms_mm: Sequence[float] = (0.0, 4.0),
        correlation_mm: Sequence[float] = (40.0, 60.0),
        outside: float = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, points_keys, prob, outside, allow_missing_keys)
        if max(rms_mm) > 0.2 * min(correlation_mm):
            raise ValueError(
                f"smooth deformation: expected rms_mm up to 0.2 x correlation_mm, found {rms_mm} and {correlation_mm}."
            )
        self.rms_mm, self.correlation_mm = tuple(rms_mm), tuple(correlation_mm)

    def randomize(self, data: object = None) -> None:
        """Draw whether to deform, and the field."""
        super().randomize(None)
        if self._do_transform:
            self.field = SmoothDeformation(self.R.uniform(*self.rms_mm), self.R.uniform(*self.correlation_mm), self.R)

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Deform every key of a pair by a field of its own."""
        pair = dict(data)
        for key, points_key in self.key_iterator(pair, self.points_keys):
            self.randomize()
            if self._do_transform:
                pull_mm = lattice_displacement(self.field, as_affine(pair[key].affine), pair[key].shape[1:])
                self.move(pair, key, points_key, pull_mm, self.field.inverse)
        return pair


class RandWorldScaled(_RandContentd):
    """Make the anatomy of all keys larger or smaller by one factor, each about its own centre (the paper's scaling).

    The grid and its spacing stay, so the network sees larger or smaller anatomy, and stages that count on its spacing
    still hold. One factor for both images keeps a rigid map rigid; with one key only, the pair is related by a
    similarity.

    Args:
        keys: volumes (1, I, J, K).
        points_keys, prob, outside, allow_missing_keys: see the module's content transforms; ``<key>_points`` by
            default.
        factor: range of the factor; above 1 is larger.
    """

    def __init__(
        self,
        keys: KeysCollection = ("fixed", "moving"),
        points_keys: KeysCollection | None = None,
        prob: float = 0.1,
        factor: Sequence[float] = (0.9, 1.1),
        outside: float = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, points_keys, prob, outside, allow_missing_keys)
        if min(factor) <= 0:
            raise ValueError(f"world scaling: expected factors above 0, found {factor}.")
        self.factor_range, self.factor = tuple(factor), 1.0

    def randomize(self, data: object = None) -> None:
        """Draw whether to scale, and the factor."""
        super().randomize(None)
        self.factor = self.R.uniform(*self.factor_range) if self._do_transform else 1.0

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Scale every key of a pair by the same factor."""
        pair = dict(data)
        self.randomize()
        if self._do_transform:
            for key, points_key in self.key_iterator(pair, self.points_keys):
                shape, affine = tuple(pair[key].shape[1:]), as_affine(pair[key].affine)
                centre = centre_mm(affine, shape)
                from_centre_ijk = lattice_ijk(shape, torch.float32) - (torch.tensor(shape) - 1) / 2
                pull_mm = (1 / self.factor - 1) * from_centre_ijk @ affine[:3, :3].T.float()
                self.move(pair, key, points_key, pull_mm, lambda p, c=centre: c + self.factor * (p - c))
        return pair


class RandIntensityd(RandomizableTransform, MapTransform):
    """Change the look of volumes: gamma, scale, offset, noise; each key has its own coin and draws.

    Values are clamped to the window, taken to [0, 1], changed in the order above, clamped again and taken back.

    Args:
        keys: volumes (1, I, J, K).
        prob: probability of a change for each key.
        window: values that stand for 0 and 1: (0, 1) after ``Standardised``, HU before.
        gamma: range of the exponent (below 1 brightens).
        scale: range of the factor, about the lower end of the window.
        offset: range of the shift, as a share of the window's width.
        noise: range of the standard deviation of independent Gaussian noise, as a share of the window's width.
        allow_missing_keys: let keys be absent.
    """

    def __init__(
        self,
        keys: KeysCollection = ("fixed", "moving"),
        prob: float = 0.1,
        window: Sequence[float] = (0.0, 1.0),
        gamma: Sequence[float] = (0.8, 1.25),
        scale: Sequence[float] = (0.9, 1.1),
        offset: Sequence[float] = (-0.05, 0.05),
        noise: Sequence[float] = (0.0, 0.03),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if not window[0] < window[1]:
            raise ValueError(f"intensity: expected a window (low, high), found {window}.")
        self.window, self.ranges = tuple(window), (tuple(gamma), tuple(scale), tuple(offset), tuple(noise))
        self.drawn = (1.0, 1.0, 0.0, 0.0)

    def randomize(self, data: object = None) -> None:
        """Draw whether to change, and gamma, scale, offset and noise."""
        super().randomize(None)
        if self._do_transform:
            self.drawn = tuple(self.R.uniform(*bounds) for bounds in self.ranges)

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Change every key of a pair by draws of its own."""
        pair = dict(data)
        for key in self.key_iterator(pair):
            self.randomize()
            if self._do_transform:
                pair[key] = self._change(pair[key])
        return pair

    def _change(self, volume: MetaTensor) -> MetaTensor:
        gamma, scale, offset, noise = self.drawn
        low, high = self.window
        values = ((volume.as_tensor().float() - low) / (high - low)).clamp(0, 1).pow(gamma) * scale + offset
        if noise > 0:
            values = values + noise * torch.as_tensor(self.R.standard_normal(tuple(volume.shape))).to(values)
        return make_volume(values.clamp(0, 1) * (high - low) + low, volume.affine, volume.meta)


def lattice_displacement(field: SmoothDeformation, affine: Tensor, shape: Sequence[int]) -> Tensor:
    """A field's displacement (I * J * K, 3) in mm, float32, at all voxels of a volume, last axis fastest.

    On a lattice the phase w . x + phi is a sum of one term an axis, so that the angle-sum rule turns all cosines into
    one matrix product: the same numbers as ``field.displacement`` (1e-4 mm), twenty times faster.
    """
    waves_ijk = field.waves @ affine[:3, :3]
    phase = field.phases + field.waves @ affine[:3, 3]
    i, j, k = (torch.arange(n, dtype=torch.float64)[:, None] * waves_ijk[:, axis] for axis, n in enumerate(shape))
    plane = (i[:, None] + j + phase).reshape(-1, len(phase))
    left = torch.cat([plane.cos(), plane.sin()], 1).float()
    right = torch.cat([k.cos(), -k.sin()], 1)[..., None] * torch.cat([field.amplitudes, field.amplitudes])
    return (left @ right.permute(1, 0, 2).flatten(1).float()).reshape(-1, 3)
