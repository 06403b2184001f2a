"""The position resetter: from answers to a rigid map to the search image laid on the reference, all differentiable.

Everything is averaged and fitted in millimetres. A volume's own units ([-1, 1] across its field of view) would turn one
shift into different numbers for images of different size, and a rotation into a shear.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..core.geometry import apply_affine, as_affine, ijk_to_grid, lattice_ijk, sample
from ..core.rigid import collinear, fit_rigid, fit_translation, rotation_matrix


class RigidResetter(nn.Module):
    """Fits one rigid map to a set of answers, so that a loss on the moved image reaches every answer and its weight.

    Args:
        mode: ``"translation"``, the paper's mean displacement (eq. 5, A = identity), or ``"rigid"``, the weighted
            least-squares rotation and translation.
        robust_steps: number of reweighting steps after the first fit; 0 is plain least squares. Each step weighs a
            match by ``(1 + (residual / scale)^2)^-2`` (Geman & McClure 1987), and the scale halves from step to step
            down to ``scale_mm`` (graduated non-convexity, Blake & Zisserman 1987), so that wrong matches lose their say
            smoothly.
        scale_mm: residual at which a match keeps a quarter of its weight in the last step.

    Raises:
        ValueError: an unknown mode, or steps or a scale that make no sense.
    """

    def __init__(self, mode: str = "rigid", robust_steps: int = 0, scale_mm: float = 10.0) -> None:
        super().__init__()
        if mode not in ("translation", "rigid"):
            raise ValueError(f"resetter mode: expected 'translation' or 'rigid', found {mode!r}.")
        if robust_steps < 0 or scale_mm <= 0:
            raise ValueError(f"resetter: expected robust_steps >= 0 and scale_mm > 0, found {robust_steps} and {scale_mm}.")
        self.mode, self.robust_steps, self.scale_mm = mode, robust_steps, scale_mm

    def forward(self, queries_mm: Tensor, answers_mm: Tensor, weights: Tensor | None = None) -> Tensor:
        """Fit the maps from the queries' side to the answers' side.

        Args:
            queries_mm: points asked about (B, Q, 3), RAS mm.
            answers_mm: the answers (B, Q, 3), RAS mm.
            weights: (B, Q), not negative; equal when left out. A row of zeros gives the identity.

        Returns:
            Matrices (B, 4, 4), float64, RAS mm to RAS mm. Their gradient is exact (first derivatives only) and finite:
            where the points fix no rotation (all in one place or on a line) the map is the mean displacement alone.
        """
        queries_mm, answers_mm = (x.as_subclass(Tensor).double() for x in (queries_mm, answers_mm))
        weights = torch.ones_like(queries_mm[..., 0]) if weights is None else weights.as_subclass(Tensor).double()
        fit = fit_translation if self.mode == "translation" else fit_rigid_smooth
        # float64 also under AMP: half a millimetre in a metre is the last digit of a half-precision number.
        with torch.autocast(queries_mm.device.type, enabled=False):
            matrices = fit(queries_mm, answers_mm, weights)
            for step in reversed(range(self.robust_steps)):
                squared = (apply_affine(matrices, queries_mm) - answers_mm).square().sum(-1)
                scale = self.scale_mm * 2**step
                matrices = fit(queries_mm, answers_mm, weights / (1 + squared / scale**2).square())
        return matrices

    def extra_repr(self) -> str:
        """The options, for print(module)."""
        return f"mode={self.mode!r}, robust_steps={self.robust_steps}, scale_mm={self.scale_mm}"


def fit_rigid_smooth(source_mm: Tensor, target_mm: Tensor, weights: Tensor) -> Tensor:
    """Weighted least-squares rigid maps like ``rigid.fit_rigid``, with a gradient that stays finite.

    The derivative of a singular value decomposition divides by differences of singular values and is NaN for a point
    cloud that is equally wide along two axes, such as a regular grid of queries, although the rotation itself is well
    defined there. So the decomposition is taken without gradient, and one Newton step at the optimum, which moves
    nothing, carries the derivative: by the implicit function theorem it is exact, and it divides by sums of singular
    values only, which vanish where the points really fix no rotation. There the rotation is the identity with no
    gradient; close to it the gradient is large, so clip it in training. Answers that are not finite spoil only the map
    of their own row.

    Args:
        source_mm, target_mm: corresponding points (B, N, 3), mm, float64.
        weights: (B, N), not negative.

    Returns:
        (B, 4, 4) matrices. Second derivatives are not those of the fit.
    """
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)
    source_mean, target_mean = ((weights[..., None] * x).sum(-2, keepdim=True) for x in (source_mm, target_mm))
    source, target = source_mm - source_mean, target_mm - target_mean
    covariance = (weights[..., None] * target).transpose(-1, -2) @ source
    eye = torch.eye(3, dtype=source.dtype, device=source.device).expand_as(covariance)
    with torch.no_grad():
        solid = (source + target).isfinite().all(-1).all(-1) & weights.isfinite().all(-1)
        # A little stricter than fit_rigid, which raises: rounding must not decide between the two.
        for points in (source, target):
            solid = solid & ~collinear(points.nan_to_num(0, 0, 0), weights.nan_to_num(0, 0, 0), tolerance=2e-6)
        rotation = eye.clone()
        if solid.any():
            rotation[solid] = fit_rigid(source_mm[solid], target_mm[solid], weights[solid])[..., :3, :3]
        stretch = torch.where(solid[:, None, None], rotation.transpose(-1, -2) @ covariance, eye)  # symmetric here
        stiffness = (
            stretch.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None] * eye - (stretch + stretch.transpose(-1, -2)) / 2
        )
        # Mirrored or nearly collinear answers leave an axis about which the fit is indifferent: no gradient along it.
        inverse = torch.linalg.pinv(stiffness, rtol=1e-6, hermitian=True) * solid[..., None, None]
    pull = rotation.transpose(-1, -2) @ covariance
    pull = pull - pull.transpose(-1, -2)
    pull = torch.stack([pull[..., 2, 1], pull[..., 0, 2], pull[..., 1, 0]], -1)
    rotation = rotation @ rotation_matrix((inverse @ pull[..., None])[..., 0])
    shift = target_mean[..., 0, :] - (rotation @ source_mean.transpose(-1, -2))[..., 0]
    matrices = torch.zeros(*shift.shape[:-1], 4, 4, dtype=shift.dtype, device=shift.device)
    matrices[..., 3, 3] = 1
    matrices[..., :3, :3], matrices[..., :3, 3] = rotation, shift
    return matrices


def reset(
    search: Tensor, search_affine: Tensor, reference_shape: Sequence[int], reference_affine: Tensor, matrix: Tensor
) -> Tensor:
    """Lay search images on the reference grid, differentiable in the images and the maps (the paper's grid sampling).

    Args:
        search: (B, C, I, J, K), air at 0.
        search_affine: (B, 4, 4) or (4, 4), ijk to RAS mm.
        reference_shape: (I, J, K) of the result.
        reference_affine: (B, 4, 4) or (4, 4), ijk to RAS mm.
        matrix: (B, 4, 4) or (4, 4), maps reference points to search points, RAS mm.

    Returns:
        (B, C, I, J, K) of the reference shape, trilinear, 0 outside the search image.
    """
    search = search.as_subclass(Tensor)
    where_grid = _positions_grid(search.shape[2:], search_affine, reference_shape, reference_affine, matrix)
    where_grid = where_grid.to(search.device).expand(len(search), -1, -1)
    return sample(search, where_grid).unflatten(-1, tuple(reference_shape))


def covered(
    search_shape: Sequence[int],
    search_affine: Tensor,
    reference_shape: Sequence[int],
    reference_affine: Tensor,
    matrix: Tensor,
) -> Tensor:
    """Where the reset search image has a field of view on the reference grid; bool (B, 1, I, J, K); see ``reset``."""
    where_grid = _positions_grid(search_shape, search_affine, reference_shape, reference_affine, matrix.detach())
    return (where_grid.abs() <= 1).all(-1).unflatten(-1, tuple(reference_shape))[:, None]


def _positions_grid(
    search_shape: Sequence[int],
    search_affine: Tensor,
    reference_shape: Sequence[int],
    reference_affine: Tensor,
    matrix: Tensor,
) -> Tensor:
    """Where each reference voxel falls in the search image's grid frame (B or 1, I * J * K, 3), float64."""
    matrix = matrix.as_subclass(Tensor).double()
    to_search_ijk = torch.linalg.inv(as_affine(search_affine)).to(matrix) @ matrix @ as_affine(reference_affine).to(matrix)
    lattice = lattice_ijk(reference_shape).to(matrix.device)
    return ijk_to_grid(apply_affine(to_search_ijk.reshape(-1, 4, 4), lattice), search_shape)
