"""The body's outline in the phantom: skin, fascia and the cavity as distances known everywhere in a picture."""

from __future__ import annotations

import numpy as np
import torch

from .canvas import Canvas, look_up
from .shapes import smooth_line

# z, then the fascia's half width, front and back
TRUNK = (
    (-120, 140, 30, 85),
    (-90, 148, 42, 96),
    (-60, 152, 50, 102),
    (-20, 156, 60, 106),
    (20, 155, 66, 108),
    (60, 150, 72, 108),
    (90, 147, 76, 104),
    (120, 142, 80, 100),
    (150, 134, 82, 98),
    (190, 127, 84, 96),
    (230, 126, 88, 97),
    (270, 131, 94, 99),
    (320, 138, 98, 102),
    (380, 143, 98, 104),
    (440, 144, 88, 105),
    (480, 142, 62, 105),
    (510, 122, 40, 103),
    (535, 78, 24, 96),
    (560, 60, 18, 90),
    (620, 58, 16, 90),
)
# z, then the thigh's middle (x, y) and its fascia's radii
THIGH = (
    (-480, 100, -8, 48, 50),
    (-430, 100, -2, 50, 54),
    (-380, 99, 4, 52, 56),
    (-300, 96, 2, 55, 62),
    (-200, 92, 0, 63, 72),
    (-100, 88, -6, 72, 84),
    (-40, 86, -12, 75, 90),
    (-5, 84, -14, 66, 82),
    (40, 80, -16, 40, 55),
)


class Outline:
    """Skin, fascia and cavity as distances known everywhere in the picture."""

    def __init__(self, rng: np.random.Generator) -> None:
        fat = float(np.clip(rng.gamma(3.0, 0.33), 0.25, 2.4))
        self.front, self.side, self.back = (fat * v * rng.uniform(0.8, 1.25) + c for v, c in ((17, 5), (19, 6), (21, 7)))
        paunch = float(rng.uniform(-8, 14) + 16 * (fat - 0.8))
        hips = rng.uniform(-4, 8)
        self.flat = -(107 + 0.45 * self.back)  # the couch presses the back flat here
        square = rng.uniform(0.45, 0.65)
        self.wall = rng.uniform(11, 15)
        self.low, self.high = -480.0, 620.0
        z = np.arange(self.low, self.high + 1, 5.0)
        trunk, thigh = (smooth_line(np.asarray(rows, dtype=float), 8) for rows in (TRUNK, THIGH))
        a, front, back = (np.interp(z, trunk[:, 0], trunk[:, i]) for i in (1, 2, 3))
        middle = np.exp(-(((z - 140) / 85) ** 2))
        a = a + hips * np.exp(-(((z + 30) / 70) ** 2)) + 0.35 * paunch * middle
        front = front + paunch * middle
        fat_side = self.side * (1 + 0.5 * np.exp(-(((z + 30) / 80) ** 2)))
        fat_front = self.front * (0.8 + 0.5 * np.exp(-(((z - 60) / 60) ** 2)))
        fat_back = self.back * (0.75 + 0.6 * np.exp(-(((z + 10) / 70) ** 2)))
        self.front_at = (z, front)
        square = square - 0.3 / (1 + np.exp((125 - z) / 12))  # boxy at the hips, rounder above the iliac crests
        legs = [np.interp(z, thigh[:, 0], thigh[:, i]) for i in (1, 2, 3, 4)]
        fat_leg = (5 + 0.55 * (self.side - 4)) * (1 + np.clip((z + 250) / 400, -0.4, 0.6))
        rows = [a, front, back, fat_side, fat_front, fat_back, *legs, fat_leg, square]
        self.table = torch.from_numpy(np.stack(rows)).float()

    def ring(self, angle: np.ndarray, z: np.ndarray, inset: float) -> np.ndarray:
        """Points (n, 3) in mm, ``inset`` mm within the fascia, at angles (n,) from her right to her front (radians)."""
        nodes = np.linspace(self.low, self.high, self.table.shape[1])
        a, front, back, square = (np.interp(z, nodes, self.table[i].numpy()) for i in (0, 1, 2, -1))
        u, v = np.cos(angle), np.sin(angle)
        depth = np.where(v > 0, front + 18, back - 18)
        rho = (1 - square) + square * (u**4 + v**4) ** 0.25
        return np.stack([u * (a / rho - inset), v * (depth / rho - inset) - 18, z], -1)

    def extent(self) -> tuple[list[float], list[float]]:
        """Corners (3,), (3,) of a box in mm that holds the skin; endless along z."""
        a, front, back, fat_side, fat_front, fat_back, leg_x, leg_y, leg_a, leg_b, fat_leg, _ = self.table
        wide = float(torch.maximum(a + fat_side, leg_x + leg_a + fat_leg).max())
        ahead = float(torch.maximum(front + fat_front, leg_y + leg_b + fat_leg).max())
        return [-wide, self.flat, -1e6], [wide, ahead, 1e6]

    def fields(self, canvas: Canvas) -> None:
        """Write the distances (I, J, K) in mm: skin, fascia, inside (its negative), cavity, wall, rump, thigh."""
        x, y, z = canvas.xyz
        a, f, b, fat_a, fat_f, fat_b, leg_x, leg_y, leg_a, leg_b, fat_leg, square = look_up(
            self.table, (z,), (self.low,), (self.high,)
        )
        y0 = -18.0  # height of the middle the outline is seen from
        v = y - y0
        ahead = v > 0
        depth = torch.where(ahead, f + fat_f - y0, b + fat_b + y0)
        u2, v2 = (x / (a + fat_a)).square(), (v / depth).square()
        ring = u2 + v2
        rho = (1 - square) * ring.sqrt() + square * (u2 * u2 + v2 * v2).sqrt().sqrt()
        ray = (x * x + v * v).sqrt() * (1 - 1 / rho.clamp_min(0.05))
        fat = (u2 * fat_a + v2 * torch.where(ahead, fat_f, fat_b)) / ring.clamp_min(1e-4)
        trunk = torch.maximum(ray, -78 - z)
        across, along = (x.abs() - leg_x) / (leg_a + fat_leg), (y - leg_y) / (leg_b + fat_leg)
        thigh = ((across.square() + along.square()).sqrt() - 1) * (leg_a + fat_leg)
        thigh = torch.maximum(thigh, z - 35)
        rounding = (24 - (trunk - thigh).abs()).clamp_min_(0).square_() / 96
        skin = torch.minimum(trunk, thigh) - rounding
        fat = torch.where(z < -60, fat_leg, fat)
        fascia = skin + fat
        skin = torch.maximum(skin, self.flat - y)
        fascia = torch.maximum(fascia, self.flat + 9 - y)
        cleft = (x.square() + ((y - self.flat + 4) * 0.45).square()).sqrt() - 9
        skin = torch.where((z > -110) & (z < 20), torch.maximum(skin, -(cleft + (z - 0).clamp_min(0) * 0.5)), skin)
        cavity = torch.maximum(fascia + self.wall, -46 - z)
        canvas.fields.update(
            skin=skin,
            fascia=fascia,
            cavity=cavity,
            inside=-fascia,
            wall=torch.maximum(fascia + 1.5, -cavity - 1.0),
            rump=torch.maximum(fascia + 2.0, -(ray + fat + 44.0 + 0.12 * (z - 20).clamp(-60, 60))),
            thigh=torch.maximum(thigh + fat_leg + 5, fascia + 4),
        )
