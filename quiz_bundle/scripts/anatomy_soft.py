"""Soft tissue of the phantom: body outline, muscles, vessels and organs as painted layers.

All numbers are mm in the template frame of ``phantom_shapes`` (the patient's right is x > 0): an average adult woman, set by hand after
textbook proportions and pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .anatomy_bones import Wing, flip
from .phantom_shapes import Block, Canvas, Cone, Ellipsoid, Layer, look_up, smooth_line, tube

# z, then the fascia's half width, front and back
TRUNK = (
    (-120, 140, 30, 85), (-90, 148, 42, 96), (-60, 152, 50, 102), (-20, 156, 60, 106), (20, 155, 66, 108), (60, 150, 72, 108), (90, 147, 76, 104),
    (120, 142, 80, 100), (150, 134, 82, 98), (190, 127, 84, 96), (230, 126, 88, 98), (270, 131, 94, 104), (320, 138, 98, 112), (380, 143, 98, 120),
    (440, 142, 90, 126), (480, 132, 62, 124), (510, 96, 36, 114), (540, 62, 20, 100), (620, 58, 16, 96),
)  # fmt: skip
# z, then the thigh's middle (x, y) and its fascia's radii
THIGH = ((-480, 100, -8, 48, 50), (-430, 100, -2, 50, 54), (-380, 99, 4, 52, 56), (-300, 96, 2, 55, 62), (-200, 92, 0, 63, 72), (-100, 88, -6, 72, 84), (-40, 86, -12, 76, 90),
         (40, 86, -12, 76, 90))  # fmt: skip


class Outline:
    """Skin, fascia and cavity as distances known everywhere in the picture."""

    def __init__(self, rng: np.random.Generator) -> None:
        fat = float(np.clip(rng.gamma(3.0, 0.33), 0.25, 2.4))
        self.front, self.side, self.back = (fat * v * rng.uniform(0.8, 1.25) + c for v, c in ((17, 5), (19, 6), (21, 7)))
        paunch = float(rng.uniform(-8, 14) + 16 * (fat - 0.8))
        hips = rng.uniform(-4, 8)
        self.flat = -(112 + 0.55 * self.back)  # the couch presses the back flat here
        self.square = rng.uniform(0.45, 0.65)
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
        legs = [np.interp(z, thigh[:, 0], thigh[:, i]) for i in (1, 2, 3, 4)]
        fat_leg = (5 + 0.55 * (self.side - 4)) * (1 + np.clip((z + 250) / 400, -0.4, 0.6))
        rows = [a, front, back, fat_side, fat_front, fat_back, *legs, fat_leg]
        self.table = torch.from_numpy(np.stack(rows)).float()

    def fields(self, canvas: Canvas) -> None:
        """Write the distances (I, J, K) skin, fascia, cavity, wall (of the belly) and rump (gluteus maximus) in mm."""
        x, y, z = canvas.xyz
        a, f, b, fat_a, fat_f, fat_b, leg_x, leg_y, leg_a, leg_b, fat_leg = look_up(self.table, (z,), (self.low,), (self.high,))
        y0 = -18.0
        v = y - y0
        ahead = v > 0
        depth = torch.where(ahead, f + fat_f - y0, b + fat_b + y0)
        u2, v2 = (x / (a + fat_a)).square(), (v / depth).square()
        ring = u2 + v2
        rho = (1 - self.square) * ring.sqrt() + self.square * (u2 * u2 + v2 * v2).sqrt().sqrt()
        trunk = (x * x + v * v).sqrt() * (1 - 1 / rho.clamp_min(0.05))
        fat = (u2 * fat_a + v2 * torch.where(ahead, fat_f, fat_b)) / ring.clamp_min(1e-4)
        trunk = torch.maximum(trunk, -78 - z)
        across, along = (x.abs() - leg_x) / (leg_a + fat_leg), (y - leg_y) / (leg_b + fat_leg)
        thigh = ((across.square() + along.square()).sqrt() - 1) * (leg_a + fat_leg)
        thigh = torch.maximum(thigh, z - 10)
        rounding = (24 - (trunk - thigh).abs()).clamp_min_(0).square_() / 96
        skin = torch.minimum(trunk, thigh) - rounding
        fat = torch.where(z < -60, fat_leg, fat)
        fascia = skin + fat
        skin = torch.maximum(skin, self.flat - y)
        fascia = torch.maximum(fascia, self.flat + 9 - y)
        cleft = (x.square() + ((y - self.flat + 4) * 0.45).square()).sqrt() - 9
        skin = torch.where((z > -110) & (z < 20), torch.maximum(skin, -(cleft + (z - 0).clamp_min(0) * 0.5)), skin)
        cavity = torch.maximum(torch.maximum(fascia + self.wall, trunk), -46 - z)
        canvas.fields.update(
            skin=skin, fascia=fascia, cavity=cavity,
            wall=torch.maximum(fascia + 1.5, -cavity - 1.0),
            rump=torch.maximum(fascia + 2.0, -(fascia + 40.0)),
        )  # fmt: skip


def body(rng: np.random.Generator) -> list[Layer]:
    """Fat and the skin round it."""
    everywhere = Block((-400, -300, -1000), (400, 300, 1000))
    return [
        Layer([everywhere], 15, 10, clip=[("skin", 0.0)]),
        Layer([everywhere], float(rng.uniform(-112, -98)), 8, clip=[("skin", 2.0)]),
    ]


def muscles(rng: np.random.Generator, side: int, wing: tuple[np.ndarray, Tensor], tone: float) -> list[Layer]:
    """The muscles of one side; ``tone`` scales their thickness, 1 is average."""
    hu = float(rng.uniform(42, 62))

    def muscle(points: Sequence[Sequence[float]], radii: Sequence[float], squash: Sequence[float] = (1, 1, 1), steps: int = 2) -> Layer:
        rows = np.asarray(points, dtype=float)
        line = smooth_line(flip(rows + rng.normal(0, 1.5, rows.shape), side), steps)
        girth = np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, len(radii)), radii) * tone * rng.uniform(0.93, 1.07)
        return Layer(tube(line, list(girth), squash), hu + rng.normal(0, 4), 11, 2, clip=[("fascia", 1.5)], seam=1.3)

    def region(low: Sequence[float], high: Sequence[float], planes: Sequence[tuple] = ()) -> Block:
        x = sorted((side * low[0], side * high[0]))
        return Block((x[0], *low[1:]), (x[1], *high[1:]), planes)

    sheet, rim = wing
    return [
        Layer([region((0, -120, -20), (175, 160, 300), [(0, -0.41, -0.91, -97), (0.7, 0, -0.72, 18.5)])], hu, 11, clip=[("wall", 0)]),
        muscle([(62, -48, 118), (58, -42, 160), (52, -40, 240)], (14, 15, 10), (1.5, 0.9, 1)),
        muscle([(24, -100, 62), (30, -92, 110), (34, -82, 160), (35, -80, 240), (34, -90, 330), (30, -105, 420), (24, -95, 500)],
               (8, 17, 24, 25, 20, 16, 13), (1.25, 0.9, 1)),
        Layer([Wing(side, sheet, rim, (5.5, 17.0), 3.0)], hu + 2, 12, clip=[("fascia", 4.0)]),
        Layer([Wing(side, sheet, rim, (18.5, 60.0), 1.0)], hu, 12, clip=[("fascia", 3.0)]),
        muscle([(122, -10, 60), (136, -14, 30), (143, -16, 2)], (22, 22, 11), (0.9, 1.2, 1)),
        Layer([Wing(side, sheet, rim, (-15.0, -5.0), 5.0)], hu + 2, 11),
        muscle([(30, -22, 255), (42, -20, 200), (51, -10, 150), (60, 6, 105), (72, 22, 60), (82, 34, 20), (88, 30, -10), (106, -6, -58)],
               (9, 16, 20, 19.5, 18, 14.5, 12, 8)),
        muscle([(14, -76, 56), (50, -68, 46), (92, -46, 28), (138, -22, 6)], (8, 11, 9, 4), (1, 1, 1.2)),
        muscle([(53, -16, 32), (52, -6, 4), (49, -2, -26)], (8, 9.5, 7), (0.85, 2.4, 1)),
        muscle([(52, -18, -8), (60, -46, 2), (100, -36, -4), (136, -22, -8)], (8, 8, 7, 4)),
        muscle([(30, 28, -26), (58, 14, -34), (96, -16, -30), (132, -22, -20)], (10, 14, 10, 4)),
        muscle([(60, -48, -46), (96, -42, -46), (126, -30, -46)], (11, 13, 10), (1, 0.8, 1.6)),
        muscle([(32, 50, 2), (60, 36, -26), (100, 4, -74)], (9, 12, 8), (1, 0.8, 1)),
        muscle([(16, 36, -34), (44, 22, -70), (74, 18, -130), (98, 10, -220)], (8, 17, 16, 10)),
        muscle([(26, 8, -54), (58, -12, -110), (82, -16, -190), (92, -18, -290), (80, -14, -360)], (12, 29, 29, 18, 6)),
        muscle([(12, 24, -48), (28, 4, -110), (42, -16, -220), (58, -34, -350), (66, -20, -420)], (5, 9, 9, 7, 5)),
        muscle([(62, -38, -66), (80, -44, -120), (90, -46, -200), (84, -44, -300), (72, -42, -400)], (9, 22, 25, 20, 9)),
        muscle([(72, -40, -68), (104, -42, -140), (116, -38, -220), (122, -36, -320), (126, -34, -400)], (8, 17, 21, 17, 7)),
        muscle([(144, -2, -40), (150, 2, -100), (148, 10, -200), (138, 16, -300), (124, 20, -360)], (12, 21, 25, 19, 7), (0.9, 1.35, 1)),
        muscle([(120, 22, -64), (112, 26, -130), (102, 28, -220), (88, 24, -310), (80, 16, -365)], (11, 19, 23, 22, 11)),
        muscle([(106, 40, 36), (112, 50, 0), (118, 56, -60), (120, 58, -160), (112, 50, -280), (104, 44, -350)], (6, 10.5, 15, 17, 14, 6), (1.25, 0.9, 1)),
        muscle([(117, 52, 80), (116, 62, 40), (104, 66, -10), (80, 60, -90), (56, 40, -200), (44, 0, -310), (58, -14, -410)], (6, 9, 10.5, 10, 9.5, 9, 6)),
        muscle([(121, 46, 76), (136, 40, 40), (148, 26, -10), (156, 6, -80)], (7, 13, 13.5, 5), (0.9, 1.25, 1)),
        Layer([region((5, -160, -84), (185, 10, 112),
                      [(0.45, 0, 0.89, 103), (-0.6, 0, 0.8, 40), (0.5, 0.866, 0, 30), (-0.45, 0, -0.89, 40)])],
              hu - 3, 15, clip=[("rump", 0)], seam=1.5),
    ]  # fmt: skip


def vessels(rng: np.random.Generator, top: float) -> list[Layer]:
    """Aorta (left of the middle), vena cava (right), iliac and femoral vessels."""
    artery, vein = (130.0, 105.0) if rng.random() < 0.35 else (44.0, 40.0)
    fork = rng.normal(152, 6)
    grow = rng.uniform(0.85, 1.2)

    def vessel(points: Sequence[Sequence[float]], radii: Sequence[float], hu: float) -> Layer:
        line = smooth_line(np.asarray(points, dtype=float) + rng.normal(0, 1.5, (len(points), 3)), 3)
        girth = np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, len(radii)), radii) * grow
        return Layer(tube(line, list(girth)), hu + rng.normal(0, 3), 5, seam=1.0)

    layers = [vessel([(-4, 14, fork), (-9, 16, 200), (-10, 12, 250), (-8, 2, 310), (-16, -18, 370), (-22, -28, 430)], (8, 8.5, 9, 10, 11, 12), artery),
              vessel([(14, 8, fork - 12), (19, 10, 200), (22, 12, 260), (26, 24, 320)], (9.5, 10.5, 11, 12), vein)]  # fmt: skip
    for side in (1, -1):
        split = (side * 36, -6, 104)
        outer = [split, (side * 50, 10, 80), (side * 62, 34, 44), (side * 70, 54, 4), (side * 74, 52, -50), (side * 70, 32, -140), (side * 64, 4, -260)]
        layers += [
            vessel([(-3, 14, fork), (side * 18, 6, 130), split], (6, 5.5, 5), artery),
            vessel(outer, (5, 5, 4.8, 4.6, 4.2, 3.6, 3.2), artery),
            vessel([split, (side * 42, -34, 84), (side * 46, -46, 50)], (4, 3.6, 2.5), artery),
            vessel([(14, 8, fork - 12), (side * 20, -4, 126), (side * 34, -16, 100)], (7.5, 7, 6.5), vein),
            vessel(np.array([(side * 34, -16, 100), *outer[1:]]) + [-side * 7, -9, 0], (6, 6, 6, 6, 5, 4.2, 3.6), vein),
            vessel([(side * 34, -16, 100), (side * 40, -44, 80), (side * 43, -54, 50)], (5, 4.4, 3), vein),
        ]
    return layers
