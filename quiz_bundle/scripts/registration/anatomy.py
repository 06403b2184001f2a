"""Stage 7: how alike two scans are once the body may bend: one patient twice, or two of them."""

from __future__ import annotations

import math

from monai.data import MetaTensor
from torch import Tensor

from ..core.geometry import inside
from ..core.rigid import RigidTransform
from .agreement import patches_at, values_at
from .warp import Warp

SOFT = 0.35, 0.75  # standardised values of soft tissue, where noise shows
LEAST_VOXELS, MOST_VOXELS = 100, 250_000  # of soft tissue that tell the noise; along each axis of what is looked at
LEAST_SEEN = 0.5  # of a patch that lies in both fields
LEAST_SIGNAL = 0.25  # share of a patch's variance that counts as anatomy however noisy the scan


def noise_variance(volume: MetaTensor) -> float:
    """Variance of the noise in a standardised volume (1, I, J, K), by its second differences within soft tissue.

    A second difference of white noise has six times its variance; the median of its size does not see edges. Neighbours
    share what a scanner's kernel has smeared, so differences over two voxels count too, freed of what anatomy adds to
    them: about what it adds from two voxels to three.
    """
    one, two, three = (_roughness(volume, lag) for lag in (1, 2, 3))
    return max(one, 2 * two - three)


def _roughness(volume: MetaTensor, lag: int) -> float:
    """Variance that second differences over ``lag`` voxels would have of white noise; of the three axes the least.

    Across thick slices anatomy itself jumps.
    """
    values = volume.as_tensor()[0]
    apart = max(1, math.ceil(math.sqrt(values.numel() / MOST_VOXELS)))  # lines that are looked at: some will do
    found = []
    for axis in range(3):
        some = values.movedim(axis, 0)[:, ::apart, ::apart]
        if len(some) <= 2 * lag:
            continue
        middle = some[lag:-lag]
        soft = (middle > SOFT[0]) & (middle < SOFT[1])
        jumps = (some[2 * lag :][soft] - 2 * middle[soft] + some[: -2 * lag][soft]).abs()
        if len(jumps) >= LEAST_VOXELS:
            found.append(float(1.4826 * jumps.median()) ** 2 / 6)  # 1.4826: a Gaussian's standard deviation over the median
    return min(found, default=0.0)


def likeness(
    start: RigidTransform, warped: Warp, fixed: MetaTensor, moving: MetaTensor, noise: tuple[float, float]
) -> float:
    """Median correlation within the patches of a warp, free of what noise takes from it.

    The correlation that two noisy pictures of one thing would have without their noise (Spearman 1904, correction for
    attenuation). Each patch counts by its contrast. One patient's body fits itself to the detail once the smooth part of
    a deformation is followed; another patient's does not, least of all where soft tissue is.

    Args:
        start: fixed to moving, RAS mm, that the warp began at.
        warped: patches of the moving body.
        fixed, moving: standardised volumes.
        noise: variance of each one's noise.

    Returns:
        The median, at most 1; NaN where no patch lies in both fields.
    """
    patches = patches_at(warped.moving_mm)
    points = patches.reshape(-1, 3)
    backward = start.inverse()
    shift = warped.fixed_mm - backward(warped.moving_mm)
    places = (backward(points).reshape(patches.shape) + shift[:, None]).reshape(-1, 3)
    both = inside(places, fixed.affine, fixed.shape[1:]) & inside(points, moving.affine, moving.shape[1:])
    seen = both.reshape(patches.shape[:2]).float()
    keep = seen.mean(1) >= LEAST_SEEN
    if not keep.any():
        return math.nan
    weight = seen[keep] / seen[keep].sum(1, keepdim=True)
    values = [values_at(volume, at).reshape(seen.shape)[keep] for volume, at in ((fixed, places), (moving, points))]
    centred = [each - (each * weight).sum(1, keepdim=True) for each in values]
    variances = [(each.square() * weight).sum(1) for each in centred]
    covariance = (centred[0] * centred[1] * weight).sum(1)
    clean = [(each - less).clamp_min(LEAST_SIGNAL * each) for each, less in zip(variances, noise, strict=True)]
    correlations = covariance / ((clean[0] * clean[1]).sqrt() + 1e-6)
    counts = (variances[0] * variances[1]) ** 0.25
    return min(1.0, _median(correlations, counts))


def _median(values: Tensor, weights: Tensor) -> float:
    """Weighted median of values (P,)."""
    order = values.argsort()
    share = weights[order].cumsum(0) / weights.sum()
    return float(values[order][int((share < 0.5).sum())])
