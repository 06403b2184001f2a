"""Rigid maps in millimetres: the transform, its closed-form fit and its robust fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .geometry import apply_affine, as_affine, as_points

JUDGES = 600  # matches that hypotheses are scored on: enough to rank them; the polished fit takes all


def rotation_matrix(rotation_vector: Tensor) -> Tensor:
    """Rotation vectors (..., 3) in radians to matrices (..., 3, 3) (Rodrigues), differentiable at zero too."""
    x, y, z = rotation_vector.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.linalg.matrix_exp(skew)


def rotation_vector(matrix: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) to vectors (..., 3) in radians, angle in [0, pi]."""
    quaternion = _quaternion(matrix)
    axis = quaternion[..., 1:]
    sine = axis.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quaternion[..., :1])
    return torch.where(sine > 1e-12, axis / sine.clamp_min(1e-12) * angle, 2 * axis)


def _quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions (..., 4), real part first and not negative, of rotations (..., 3, 3) (Bar-Itzhack 2000)."""
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    k = torch.zeros(*m.shape[:-2], 4, 4, dtype=m.dtype, device=m.device)
    k[..., 0, 0] = trace
    k[..., 0, 1] = k[..., 1, 0] = m[..., 2, 1] - m[..., 1, 2]
    k[..., 0, 2] = k[..., 2, 0] = m[..., 0, 2] - m[..., 2, 0]
    k[..., 0, 3] = k[..., 3, 0] = m[..., 1, 0] - m[..., 0, 1]
    k[..., 1:, 1:] = m + m.transpose(-1, -2) - trace[..., None, None] * torch.eye(3, dtype=m.dtype, device=m.device)
    largest = torch.linalg.eigh(k).eigenvectors[..., -1]
    return torch.where(largest[..., :1] < 0, -largest, largest)


@dataclass(frozen=True)
class RigidTransform:
    """A rotation and a translation that map RAS mm points: ``q = R p + t``.

    Attributes:
        matrix: (4, 4) float64, RAS mm to RAS mm.
    """

    matrix: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", as_affine(self.matrix))
        rotation = self.matrix[:3, :3]
        error = (rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max()
        if not error < 1e-6 or rotation.det() < 0:
            raise ValueError("rigid transform: expected a proper rotation, found a matrix that scales, shears or mirrors.")

    @classmethod
    def identity(cls) -> RigidTransform:
        """The map that moves nothing."""
        return cls(torch.eye(4, dtype=torch.float64))

    @classmethod
    def from_parts(cls, rotation: Tensor, translation: Tensor) -> RigidTransform:
        """From a rotation (3, 3) and the translation (3,) in mm that follows it."""
        matrix = torch.eye(4, dtype=torch.float64)
        matrix[:3, :3], matrix[:3, 3] = rotation, translation
        return cls(matrix)

    @classmethod
    def about(cls, rotation_deg: object, translation_mm: object, centre_mm: object) -> RigidTransform:
        """Turn by a rotation vector (3,) in degrees about a centre (3,) in mm, then shift (3,) in mm."""
        rotation = rotation_matrix(torch.deg2rad(as_points(rotation_deg)))
        centre = as_points(centre_mm)
        return cls.from_parts(rotation, centre - rotation @ centre + as_points(translation_mm))

    def __call__(self, points_mm: object) -> Tensor:
        """Map RAS points (..., N, 3), float64."""
        return apply_affine(self.matrix, as_points(points_mm))

    def __matmul__(self, other: RigidTransform) -> RigidTransform:
        """Compose: ``(a @ b)(p) = a(b(p))``."""
        return RigidTransform(self.matrix @ other.matrix)

    def inverse(self) -> RigidTransform:
        """The map back."""
        rotation = self.matrix[:3, :3].T
        return RigidTransform.from_parts(rotation, -rotation @ self.matrix[:3, 3])

    @property
    def rotation_deg(self) -> Tensor:
        """Rotation vector (3,) in degrees, RAS."""
        return torch.rad2deg(rotation_vector(self.matrix[:3, :3]))

    def displacement_mm(self, point_mm: object) -> Tensor:
        """T(p) - p for points (..., 3) in mm."""
        point_mm = as_points(point_mm)
        return self(point_mm.reshape(-1, 3)).reshape(point_mm.shape) - point_mm


def fit_translation(source_mm: Tensor, target_mm: Tensor, weights: Tensor | None = None) -> Tensor:
    """The paper's mean displacement as matrices (..., 4, 4) with A = identity (eq. 5).

    Args:
        source_mm, target_mm: corresponding points (..., N, 3) in mm.
        weights: (..., N), not negative; equal when left out.
    """
    weights = _weights(source_mm, weights)
    shift = (weights[..., None] * (target_mm - source_mm)).sum(-2)
    eye = torch.eye(3, dtype=shift.dtype, device=shift.device).expand(*shift.shape[:-1], 3, 3)
    return _homogeneous(eye, shift)


def fit_rigid(source_mm: Tensor, target_mm: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted least-squares rigid maps (..., 4, 4), differentiable (Kabsch 1976, Umeyama 1991).

    Args:
        source_mm, target_mm: corresponding points (..., N, 3) in mm.
        weights: (..., N), not negative; equal when left out.

    Raises:
        ValueError: fewer than three points carry weight, or they lie on a line.
    """
    weights = _weights(source_mm, weights)
    source_mean = (weights[..., None] * source_mm).sum(-2, keepdim=True)
    target_mean = (weights[..., None] * target_mm).sum(-2, keepdim=True)
    source, target = source_mm - source_mean, target_mm - target_mean
    if (collinear(source, weights) | collinear(target, weights)).any():
        raise ValueError("rigid fit: expected three points or more that are not on a line, found fewer; give more matches.")
    u, _, vt = torch.linalg.svd((weights[..., None] * target).transpose(-1, -2) @ source)
    mirror = torch.ones_like(u[..., 0])
    mirror[..., 2] = torch.linalg.det(u @ vt).sign()
    rotation = (u * mirror[..., None, :]) @ vt
    shift = target_mean[..., 0, :] - (rotation @ source_mean.transpose(-1, -2))[..., 0]
    return _homogeneous(rotation, shift)


def collinear(centred: Tensor, weights: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Whether centred points (..., N, 3) fix no rotation: too few, all in one place or on one line; bool (...)."""
    if centred.shape[-2] < 3:
        return torch.ones(centred.shape[:-2], dtype=torch.bool, device=centred.device)
    spread = torch.linalg.svdvals(centred.detach() * weights[..., None].sqrt())
    return ~(spread[..., 1] > tolerance * spread[..., 0].clamp_min(1e-3))


def _weights(points: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        weights = torch.ones(points.shape[:-1], dtype=points.dtype, device=points.device)
    return weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)


def _homogeneous(rotation: Tensor, shift: Tensor) -> Tensor:
    top = torch.cat([rotation, shift[..., None]], -1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1
    return torch.cat([top, bottom], -2)


def fit_robust(
    source_mm: Tensor,
    target_mm: Tensor,
    weights: Tensor | None = None,
    *,
    threshold_mm: float = 15.0,
    hypotheses: int = 512,
    generator: torch.Generator | None = None,
) -> tuple[RigidTransform, Tensor]:
    """Rigid fit that survives wrong matches: consensus over random triples, then reweighted least squares.

    Args:
        source_mm, target_mm: corresponding points (N, 3) in mm, float64.
        weights: confidences (N,); triples are drawn and residuals weighed by them.
        threshold_mm: distance within which a match agrees with a hypothesis.
        hypotheses: number of random triples (RANSAC, Fischler & Bolles 1981, scored as in MSAC).
        generator: source of the draws; the same state gives the same fit.

    Returns:
        The transform and the inliers (N,), bool.

    Raises:
        ValueError: fewer than three points, or points on a line.
    """
    best = consensus(
        source_mm, target_mm, weights, threshold_mm=threshold_mm, hypotheses=hypotheses, generator=generator, keep=1
    )[0]
    return best, residual_mm(best, source_mm, target_mm) <= threshold_mm


def consensus(
    source_mm: Tensor,
    target_mm: Tensor,
    weights: Tensor | None = None,
    *,
    threshold_mm: float = 15.0,
    hypotheses: int = 512,
    generator: torch.Generator | None = None,
    keep: int = 1,
) -> list[RigidTransform]:
    """The best and mutually different rigid maps that parts of the matches agree on, best first; see ``fit_robust``.

    Args:
        keep: how many at most; two maps differ if they put the middle of the source points over ``2 * threshold_mm`` apart.

    Raises:
        ValueError: fewer than three points, or points on a line.
    """
    source, target = as_points(source_mm), as_points(target_mm)
    confidence = torch.ones(len(source), dtype=torch.float64) if weights is None else weights.to(torch.float64)
    fit_rigid(source, target)  # refuses too few points and points on a line
    # Drawn with replacement, many times as fast; a triple with one point twice is sorted out with those on a line.
    triples = torch.multinomial(confidence + 1e-9, 3 * hypotheses, replacement=True, generator=generator).reshape(-1, 3)
    a, b = source[triples], target[triples]
    sides_a, sides_b = ((triple - triple.roll(1, 1)).norm(dim=-1) for triple in (a, b))
    rigid_enough = ((sides_a - sides_b).abs() < 2 * threshold_mm).all(-1) & (sides_a > 2 * threshold_mm).all(-1)
    if rigid_enough.any():
        a, b = a[rigid_enough], b[rigid_enough]
    flat = torch.ones(a.shape[:2], dtype=a.dtype)
    solid = ~collinear(a - a.mean(1, keepdim=True), flat) & ~collinear(b - b.mean(1, keepdim=True), flat)
    maps = fit_rigid(a[solid], b[solid]) if solid.any() else torch.eye(4, dtype=torch.float64)[None]
    judges = torch.randperm(len(source), generator=generator)[:JUDGES]
    squared = (apply_affine(maps, source[judges]) - target[judges]).square().sum(-1)
    scores = (confidence[judges] * squared.clamp_max(threshold_mm**2)).sum(-1)
    middle = apply_affine(maps, source.mean(0, keepdim=True))[:, 0]
    chosen: list[int] = []
    for index in scores.argsort().tolist():
        if all((middle[index] - middle[other]).norm() > 2 * threshold_mm for other in chosen):
            chosen.append(index)
        if len(chosen) == keep:
            break
    return [polish(RigidTransform(maps[index]), source, target, confidence, threshold_mm) for index in chosen]


def polish(
    guess: RigidTransform, source_mm: Tensor, target_mm: Tensor, weights: Tensor, threshold_mm: float
) -> RigidTransform:
    """Reweighted least squares from a first guess, with Tukey's biweight; the guess itself where nothing supports it.

    Args:
        guess: the map to begin with.
        source_mm, target_mm: corresponding points (N, 3) in mm, float64.
        weights: confidences (N,).
        threshold_mm: distance at which a match loses all weight.
    """
    matrix = guess.matrix
    for shrink in (1.5, 1.0, 1.0, 1.0, 1.0):
        residual = (apply_affine(matrix, source_mm) - target_mm).norm(dim=-1)
        weight = weights * (1 - (residual / (shrink * threshold_mm)).square()).clamp_min(0).square()
        support = weight > 0
        if support.sum() < 3 or collinear(source_mm[support] - source_mm[support].mean(0), weight[support]):
            break
        matrix = fit_rigid(source_mm, target_mm, weight)
    return RigidTransform(matrix)


def residual_mm(transform: RigidTransform, source_mm: Tensor, target_mm: Tensor) -> Tensor:
    """Distances (N,) in mm between mapped source points and their targets."""
    return (transform(source_mm) - as_points(target_mm)).norm(dim=-1)


def angle_deg(a: RigidTransform, b: RigidTransform) -> float:
    """Angle in degrees between the rotations of two transforms."""
    return math.degrees(float(rotation_vector(a.matrix[:3, :3].T @ b.matrix[:3, :3]).norm()))
