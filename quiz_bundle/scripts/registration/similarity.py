"""How alike two images are: windowed and global normalised cross-correlation, batched and differentiable.

MONAI's ``LocalNormalizedCrossCorrelationLoss`` squares the correlation, which rates an inverted contrast as high as a
right one, and knows no field of view. Equation 4 of the paper does not square, and a small scan laid over a large one
leaves most of the large one without a partner, so both are written out here with a mask.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def windowed_ncc(
    a: Tensor,
    b: Tensor,
    mask: Tensor | None = None,
    *,
    window: int = 9,
    min_valid: float = 0.5,
    flat: float = 0.01,
) -> Tensor:
    """Mean over windows of the normalised cross-correlation within each window (eq. 4); range [-1, 1].

    The paper sums over the windows; the mean keeps the weight of the term the same for every image size and field of
    view. Half-precision images are worked on in float32.

    Args:
        a, b: images (B, C, I, J, K) on one grid.
        mask: (B, 1, I, J, K), true (1) where both images have a field of view; everywhere when left out. No gradient
            flows to it.
        window: odd edge length of the cubic window, voxels.
        min_valid: share of a window that has to lie in the mask (and in the grid) for the window to count, (0, 1].
        flat: standard deviation, as a share of the whole image's, below which a window counts as flat: its correlation
            fades to 0 instead of amplifying noise.

    Returns:
        (B,) values; 0 where no window counts. Scaling or shifting an image's values changes nothing, inverting turns
        the sign.

    Raises:
        ValueError: the images differ in shape, or the window is even.
    """
    if a.shape != b.shape or a.ndim != 5:
        raise ValueError(
            f"windowed NCC: expected two (B, C, I, J, K) of one shape, found {tuple(a.shape)} and {tuple(b.shape)}."
        )
    if window < 1 or window % 2 == 0:
        raise ValueError(f"windowed NCC: expected an odd window, found {window}.")
    a, b = _plain(a), _plain(b)
    mask = torch.ones_like(a[:, :1]) if mask is None else mask.detach().to(a)
    with torch.autocast(a.device.type, enabled=False):
        # Deviations from the image's mean: squares of small numbers keep their digits.
        a, b = (mask * (x - _mean(x, mask)) for x in (a, b))
        share = _window_mean(mask, window)
        norm = share.clamp_min(1e-6)
        mean_a, mean_b = _window_mean(a, window) / norm, _window_mean(b, window) / norm
        covariance = _window_mean(a * b, window) / norm - mean_a * mean_b
        variance_a = (
            (_window_mean(a * a, window) / norm - mean_a.square()).clamp_min(0) + flat**2 * _mean(a * a, mask) + 1e-12
        )
        variance_b = (
            (_window_mean(b * b, window) / norm - mean_b.square()).clamp_min(0) + flat**2 * _mean(b * b, mask) + 1e-12
        )
        counts = mask * (share >= min_valid).to(mask)
        values = counts * covariance / (variance_a.sqrt() * variance_b.sqrt())
        return values.flatten(1).sum(1) / (counts.flatten(1).sum(1) * a.shape[1]).clamp_min(1)


def global_ncc(a: Tensor, b: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted normalised cross-correlation of sampled values; range [-1, 1].

    Args:
        a, b: values (B, N) of two images at corresponding points.
        weights: (B, N), not negative, 0 for a sample outside a field of view; equal when left out.

    Returns:
        (B,) values; 0 where an image is constant or nothing has weight.

    Raises:
        ValueError: the samples differ in shape.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"global NCC: expected two (B, N) sets of values, found {tuple(a.shape)} and {tuple(b.shape)}.")
    a, b = _plain(a), _plain(b)
    weights = torch.ones_like(a) if weights is None else weights.to(a)
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-12)
    a = a - (weights * a).sum(1, keepdim=True)
    b = b - (weights * b).sum(1, keepdim=True)
    covariance, variance_a, variance_b = ((weights * product).sum(1) for product in (a * b, a * a, b * b))
    # The small number keeps the square root's slope finite on constant values.
    return covariance / ((variance_a + 1e-10).sqrt() * (variance_b + 1e-10).sqrt())


def normalised(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Values (S, N) less their weighted mean, over their norm (S, 1); and that. Weights (S, N) add up to 1 in each row."""
    values = values - (weights * values).sum(1, keepdim=True)
    norm = ((weights * values.square()).sum(1, keepdim=True) + 1e-10).sqrt()
    return values / norm, norm


def normal_equations(slopes: Tensor, values: Tensor, norm: Tensor, wanted: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """What Gauss and Newton need to raise the correlation of ``normalised`` values with wanted ones, row by row.

    Args:
        slopes: (S, N, D) of the values before they were normalised, by D parameters.
        values, norm: (S, N) and (S, 1) as ``normalised`` gives them.
        wanted: (S, N), normalised.
        weights: (S, N), adding up to 1 in each row.

    Returns:
        The normal matrix (S, D, D) and the right-hand side (S, D): the slopes of the correlation.
    """
    weights, values = weights[..., None], values[..., None]
    slopes = slopes - (weights * slopes).sum(1, keepdim=True)
    slopes = (slopes - values * (weights * values * slopes).sum(1, keepdim=True)) / norm[..., None]
    weighted = (weights * slopes).transpose(1, 2)
    return weighted @ slopes, (weighted @ (wanted[..., None] - values))[..., 0]


def _plain(x: Tensor) -> Tensor:
    """A tensor without metadata, in float32 at least."""
    x = x.as_subclass(Tensor)
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, C, I, J, K) within a mask (B, 1, I, J, K): (B, C, 1, 1, 1)."""
    count = mask.sum((2, 3, 4), keepdim=True).clamp_min(1)
    return (mask * x).sum((2, 3, 4), keepdim=True) / count


def _window_mean(x: Tensor, window: int) -> Tensor:
    """Mean over cubic windows, zeros beyond the grid; axis by axis, 3 n instead of n^3 additions a voxel."""
    x = functional.pad(x, [window // 2] * 6)  # avg_pool3d's own padding refuses images smaller than the window
    for axis in range(3):
        size = [1, 1, 1]
        size[axis] = window
        x = functional.avg_pool3d(x, size, stride=1)
    return x
