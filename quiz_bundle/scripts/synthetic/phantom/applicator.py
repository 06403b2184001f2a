"""A brachytherapy applicator in the phantom: tandem, ring or ovoids, packing, and the streaks of its metal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .canvas import Canvas, Layer, Patch
from .shapes import Cone, Ellipsoid, smooth_line, tube


@dataclass
class Applicator:
    """Tissues foreign to the patient, in her axes after soft-tissue motion (mm).

    Attributes:
        layers: what is painted.
        metal: the metal parts, whose distance makes the streaks.
        centre: (3,) where the streaks come from.
        streak: strength of the streaks in HU.
        phase: turn of the streaks in radians.
        tandem: (N, 3), the line along the middle of the tandem, from below the cervix to its tip.
    """

    layers: list[Layer]
    metal: list[Cone]
    centre: np.ndarray
    streak: float
    phase: float
    tandem: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, cervix: Tensor, fundus: Tensor, introitus: Tensor) -> Applicator:
        """Lay an applicator through the cervix (3,) to the fundus (3,); its shaft leaves at the introitus (3,)."""
        c, f, o = (np.asarray(v, dtype=float) for v in (cervix, fundus, introitus))
        tip = c + (f - c) * rng.uniform(0.75, 0.95)
        below = c + (o - c) / np.linalg.norm(o - c) * 12
        away = o + (o - c) / np.linalg.norm(o - c) * 60
        metal_hu = rng.uniform(2300, 3071)
        line = smooth_line([below, c, (c + tip) / 2, tip], 4)
        metal = [*tube(line, [2.2] * len(line)), Cone(below, away, 3.0, 3.0)]
        packing = Layer([Ellipsoid(below + [0, 0, -6], (27, 17, 14))], rng.uniform(-60, 160), 40)
        if rng.random() < 0.5:
            angles = np.linspace(0, 2 * np.pi, 17)
            radius = rng.uniform(13, 17)
            ring = below + np.stack(
                [radius * np.cos(angles), radius * np.sin(angles) * 0.9, 0.25 * radius * np.sin(angles)], -1
            )
            caps = [Layer(tube(ring, [5.5] * 17), 120, 10)]
            metal += tube(ring, [2.0] * 17)
        else:
            spots = [below + [s * rng.uniform(15, 19), 0, -2] for s in (1, -1)]
            caps = [Layer([Ellipsoid(p, (10, 13, 11))], 140, 10) for p in spots]
            for p in spots:
                metal += [
                    Cone(p - [0, 0, 4], p + [0, 0, 6], 2.2, 2.2),
                    Cone(p - [0, 0, 4], away + (p - below) * 0.3, 2.4, 2.4),
                ]
        layers = [packing, *caps, Layer(metal, metal_hu, 0)]
        return cls(layers, metal, below, float(rng.uniform(60, 220)), float(rng.uniform(0, np.pi)), np.asarray(line))

    def paint(self, hu: Tensor, xyz: Tensor, edge: float, step: float, streaks: bool) -> None:
        """Paint on HU (I, J, K) at coordinates (3, I, J, K), in place."""
        canvas = Canvas(xyz, hu, torch.zeros(()).expand(hu.shape), edge, step=step)
        if streaks:
            x, y, z = xyz[0] - self.centre[0], xyz[1] - self.centre[1], xyz[2] - self.centre[2]
            radius = (x * x + y * y).sqrt()
            angle = torch.atan2(y, x) - self.phase
            fan = 0.6 * (2 * angle).cos() + 0.3 * (7 * angle).cos() + 0.25 * (13 * angle + 1).cos()
            fade = (-radius / 45).exp() * torch.sigmoid((16 - z.abs()) / 3)
            hu += self.streak * fan * fade * (hu > -500)
        for layer in self.layers:
            layer.paint(canvas)

    def distance(self, xyz: Tensor) -> Tensor:
        """Distance in mm (N,) of coordinates (3, N) to the applicator or its packing, negative inside."""
        grid = xyz[:, :, None, None]
        canvas = Canvas(grid, torch.zeros(grid.shape[1:]), torch.zeros(grid.shape[1:]), 1.0)
        patch = Patch(canvas, (slice(None), slice(None), slice(None)))
        near = [part.distance(patch) for layer in self.layers for part in layer.parts]
        return torch.stack(near).amin(0)[:, 0, 0]
