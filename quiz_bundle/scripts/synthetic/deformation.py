"""Smooth random deformation in closed form, with an inverse to machine precision."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Swell:
    """A factor that falls off from a middle to 1, as a Gaussian: organs move more than what lies about them.

    Attributes:
        middle_mm: (3,), mm.
        factor: at the middle.
        reach_mm: the Gaussian's standard deviation.
    """

    middle_mm: Tensor
    factor: float
    reach_mm: float

    def __call__(self, points_mm: Tensor) -> Tensor:
        """Factors (..., 1) at points (..., 3) in mm."""
        apart = ((points_mm - self.middle_mm.to(points_mm)) / self.reach_mm).square().sum(-1, keepdim=True)
        return 1 + (self.factor - 1) * torch.exp(-apart / 2)


class SmoothDeformation:
    """A random displacement field that can be evaluated exactly anywhere.

    ``u(x) = rms * sqrt(2 / K) * sum_k a_k cos(w_k . x + phi_k)``, random Fourier features of a Gaussian process with
    correlation ``exp(-r^2 / (2 L^2))`` (Rahimi & Recht 2007). No lattice, so no interpolation error.

    Args:
        rms_mm: root mean square displacement along each axis, in mm.
        correlation_mm: correlation length L in mm.
        random: source of the draws.
        features: number K of waves.
        swell: where and how far the field is larger; everywhere alike when left out.
    """

    def __init__(
        self,
        rms_mm: float,
        correlation_mm: float,
        random: np.random.RandomState,
        features: int = 32,
        swell: Swell | None = None,
    ) -> None:
        amplitudes = random.normal(size=(features, 3))
        amplitudes *= rms_mm * math.sqrt(2.0) / np.linalg.norm(amplitudes, axis=0)
        self.waves = torch.as_tensor(random.normal(size=(features, 3)) / correlation_mm)
        self.phases = torch.as_tensor(random.uniform(0, 2 * math.pi, features))
        self.amplitudes = torch.as_tensor(amplitudes)
        self.swell = swell

    def displacement(self, points_mm: Tensor) -> Tensor:
        """Displacement (..., 3) in mm at points (..., 3) in mm, in the points' dtype."""
        angle = points_mm @ self.waves.T.to(points_mm) + self.phases.to(points_mm)
        field = torch.cos(angle) @ self.amplitudes.to(points_mm)
        return field if self.swell is None else field * self.swell(points_mm)

    def forward(self, points_mm: Tensor) -> Tensor:
        """Map x to x + u(x) for points (..., 3) in mm."""
        return points_mm + self.displacement(points_mm)

    def inverse(self, points_mm: Tensor, tolerance_mm: float = 1e-9, steps: int = 200) -> Tensor:
        """The x with x + u(x) = y, by fixed-point iteration, float64.

        Raises:
            ValueError: the field folds, so that the iteration does not settle.
        """
        target = points_mm.to(torch.float64)
        x = target
        for _ in range(steps):
            following = target - self.displacement(x)
            change = float((following - x).abs().max()) if x.numel() else 0.0
            x = following
            if change < tolerance_mm:
                return x
        raise ValueError("deformation: expected a field without folds, found one that cannot be inverted; lower rms_mm.")
