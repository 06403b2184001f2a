"""Bones of the phantom from the knee to the sacrum as painted layers.

All numbers are mm in the template frame of ``canvas``; they describe an average adult woman and were set by
hand after textbook proportions and pictures. Every seed moves the control points a little, each side by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .canvas import Layer, Patch, look_up
from .shapes import Cone, Drum, Ellipsoid, smooth_line, tube

HIP = (86.0, 0.0, 0.0)
HEAD_RADIUS = 22.5
SYMPHYSIS = (0.0, 42.0, -15.0)
ASIS_YZ = (46.0, 83.0)  # just within the corner of the wing's outline
# (x, y, z) on the middle of the iliac wing, and its outline seen from the side as (y, z)
WING = (
    (60, -80, 125),
    (72, -58, 138),
    (100, -40, 141),
    (122, -14, 143),
    (128, 5, 138),
    (47, -82, 112),
    (62, -60, 120),
    (84, -35, 120),
    (110, -8, 120),
    (124, 15, 120),
    (38, -92, 95),
    (52, -70, 100),
    (62, -45, 100),
    (84, -15, 100),
    (106, 20, 100),
    (119, 46, 100),
    (38, -90, 80),
    (50, -68, 80),
    (60, -45, 80),
    (76, -15, 80),
    (95, 15, 80),
    (115, 47, 84),
    (58, -55, 60),
    (66, -35, 60),
    (78, -8, 60),
    (92, 16, 60),
    (104, 40, 62),
    (68, -33, 40),
    (77, -12, 40),
    (88, 8, 40),
    (98, 34, 42),
    (74, -25, 20),
    (84, 0, 20),
    (92, 22, 20),
)
OUTLINE = (
    (51, 84),
    (44, 104),
    (24, 127),
    (-6, 143),
    (-36, 143),
    (-60, 131),
    (-78, 113),
    (-92, 92),
    (-90, 78),
    (-76, 66),
    (-56, 57),
    (-46, 47),
    (-38, 32),
    (-34, 14),
    (0, 8),
    (30, 14),
    (41, 36),
    (43, 46),
    (39, 56),
    (43, 70),
)
# the front upper edge of S1
PROMONTORY = (0.0, -21.0, 106.0)
SACRUM = ((0, -36, 97), (0, -58, 75), (0, -78, 52), (0, -88, 30), (0, -91, 10), (0, -86, -7), (0, -76, -22))


def flip(points: Sequence[Sequence[float]], side: int) -> np.ndarray:
    """Points (n, 3) of the right side (x > 0) for side +1 (right) or -1 (left)."""
    return np.asarray(points, dtype=float) * [side, 1, 1]


class Wing:
    """The iliac wing: a bent plate x = f(y, z) with an outline in (y, z), thick at crest, hip and sacroiliac joint.

    With a ``slab`` (two offsets in mm from the plate's middle, outwards) it is instead the muscle on the plate
    between them, ``trim`` mm short of the rim.
    """

    def __init__(
        self, side: int, sheet: np.ndarray, rim: Tensor, slab: tuple[float, float] | None = None, trim: float = 0.0
    ) -> None:
        self.side, self.sheet, self.rim, self.slab, self.trim = side, sheet, rim, slab, trim
        reach = max(map(abs, slab)) if slab else 8.0
        a, b = 30 - reach, 132 + reach
        self.low = [min(side * a, side * b), -97.0 - 20 * bool(slab), 4.0]
        self.high = [max(side * a, side * b), 56.0, 148.0]

    def distance(self, patch: Patch) -> Tensor:
        """Signed distance in mm."""
        middle, slope_y, slope_z = bent_sheet(self.sheet, patch.y, patch.z)
        across = (patch.x * self.side - middle) / (1 + slope_y.square() + slope_z.square()).sqrt()
        (edge,) = look_up(self.rim, (patch.y, patch.z), RIM_LOW, RIM_HIGH)
        if self.slab:
            inner, outer = self.slab
            return torch.maximum((across - (inner + outer) / 2).abs() - (outer - inner) / 2, edge + self.trim)
        thick = 3.2 + 3.8 * (edge.clamp(-30, 0) / 7).exp()
        thick = thick + 6.5 * torch.sigmoid((-46 - patch.y) / 9) + 6 * torch.sigmoid((38 - patch.z) / 7)
        flat = across.abs() - thick
        flat, edge = flat + 3, edge + 3  # a rounded rim
        return (flat.clamp_min(0).square() + edge.clamp_min(0).square()).sqrt() + torch.maximum(flat, edge).clamp_max(0) - 3


def bent_sheet(sheet: np.ndarray, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Height x = f(y, z) of a cubic sheet with coefficients (9,), and its slopes along y and z; mm."""
    y, z = y / 100, z / 100
    c = [float(v) for v in sheet]
    height = c[0] + c[1] * y + c[2] * z + c[3] * y * y + c[4] * y * z + c[5] * z * z
    height = height + y * (c[6] * y * y + c[7] * y * z + c[8] * z * z)
    slope_y = c[1] + 2 * c[3] * y + c[4] * z + 3 * c[6] * y * y + 2 * c[7] * y * z + c[8] * z * z
    slope_z = c[2] + c[4] * y + 2 * c[5] * z + c[7] * y * y + 2 * c[8] * y * z
    return height, slope_y / 100, slope_z / 100


def asis(side: int, sheet: np.ndarray) -> tuple[float, float, float]:
    """The anterior superior iliac spine (3,) of one side, mm."""
    y, z = ASIS_YZ
    return side * float(bent_sheet(sheet, torch.tensor(y), torch.tensor(z))[0]), y, z


RIM_LOW, RIM_HIGH = (-112.0, -6.0), (72.0, 162.0)


def outline_distance(outline: np.ndarray) -> Tensor:
    """Signed distance (1, n_y, n_z) in mm to a closed polygon of (y, z) points, every 2 mm from RIM_LOW to RIM_HIGH."""
    axes = [np.arange(a, b + 1e-6, 2.0) for a, b in zip(RIM_LOW, RIM_HIGH, strict=True)]
    p = np.stack(np.meshgrid(*axes, indexing="ij"), -1)[:, :, None]
    a, b = outline, np.roll(outline, -1, 0)
    ab, ap = b - a, p - a
    t = np.clip((ap * ab).sum(-1) / (ab**2).sum(-1), 0, 1)
    nearest = np.linalg.norm(ap - t[..., None] * ab, axis=-1).min(-1)
    crosses = (a[:, 1] > p[..., 1]) != (b[:, 1] > p[..., 1])
    rise = np.where(ab[:, 1] == 0, 1e-9, ab[:, 1])
    left = p[..., 0] < a[:, 0] + ap[..., 1] / rise * ab[:, 0]
    within = (crosses & left).sum(-1) % 2 == 1
    return torch.from_numpy(np.where(within, -nearest, nearest))[None].float()


def draw_wing(rng: np.random.Generator, side: int) -> tuple[np.ndarray, Tensor]:
    """Plate coefficients (9,) and rim table of one iliac wing."""
    x, y, z = (np.asarray(WING, dtype=float) + rng.normal(0, 1.2, (len(WING), 3))).T
    y, z = y / 100, z / 100
    basis = np.stack([np.ones_like(y), y, z, y * y, y * z, z * z, y**3, y * y * z, y * z * z], -1)
    sheet = np.linalg.lstsq(basis, x, rcond=None)[0]
    outline = smooth_line(
        np.asarray((*OUTLINE, OUTLINE[0])) + np.r_[rng.normal(0, 1.2, (len(OUTLINE), 2)), np.zeros((1, 2))], 3
    )[:-1]
    return sheet, outline_distance(outline)


def pelvis(rng: np.random.Generator, side: int, wing: tuple[np.ndarray, Tensor], density: float) -> list[Layer]:
    """One hip bone: ilium, acetabulum, ischium and pubis."""

    def at(*points: Sequence[float], sigma: float = 1.0) -> np.ndarray:
        return flip(np.asarray(points, dtype=float) + rng.normal(0, sigma, (len(points), 3)), side)

    head = flip([HIP], side)[0]
    parts = [
        Wing(side, *wing),
        Ellipsoid(head + [-2 * side, -1, 4], (33, 33, 33)),
        *tube(at((70, 22, 12), (42, 41, 6), (15, 45, -8)), (11, 7.5, 7.5)),
        *tube(at((9.5, 44, -8), (9.5, 38, -26)), (7.2, 6.8)),
        *tube(at((10, 38, -28), (26, 16, -46), (46, -18, -62)), (6, 5.5, 8)),
        *tube(at((73, -24, -8), (66, -32, -32), (52, -30, -58)), (15, 13, 12.5)),
        *tube(at((62, -38, 12), (49, -52, 10)), (9, 3)),
    ]
    cuts = [Ellipsoid(head, (HEAD_RADIUS + 2.6,) * 3), Opening(side, head)]
    return [Layer(parts, density, 45, 9, density + 820, 2.2, cuts)]


class Opening:
    """The mouth of the acetabulum: all near the joint's centre beyond a plane that faces out, forward and down."""

    def __init__(self, side: int, head: np.ndarray) -> None:
        self.side, self.head = side, head
        self.low, self.high = list(head - 40), list(head + 40)

    def distance(self, patch: Patch) -> Tensor:
        """Signed distance in mm."""
        x, y, z = (patch.x - self.head[0]) * self.side, patch.y - self.head[1], patch.z - self.head[2]
        beyond = 9 - (0.80 * x + 0.30 * y - 0.52 * z)
        return torch.maximum(beyond, (x * x + y * y + z * z).sqrt() - 38)


def femur(rng: np.random.Generator, side: int, density: float) -> list[Layer]:
    """One femur to the knee, with tibia and patella below."""
    head = flip([HIP], side)[0]
    lean = rng.normal(0, 6)

    def at(*points: Sequence[float]) -> np.ndarray:
        return flip(np.asarray(points, dtype=float) + rng.normal(0, 0.8, (len(points), 3)) + [0, lean * 0.3, 0], side)

    top = [
        Ellipsoid(head, (HEAD_RADIUS,) * 3),
        *tube([head, *at((117, -9, -16), (130, -12, -34))], (15, 13.5, 17)),
        *tube(at((141, -20, 0), (143, -20, -22), (134, -12, -48)), (8.5, 14, 14)),
        *tube(at((124, -14, -50), (113, -27, -62)), (12, 7)),
        *tube(at((131, -10, -45), (128, -4, -90)), (16, 13.5)),
    ]
    middle = at((128, -5, -84), (123, 8, -180), (112, 8, -290), (102, 0, -360))
    shaft = tube(middle, (13.5, 13, 14, 20))
    knee = at(
        (92, 0, -372),
        (92, -12, -392),
        (112, 0, -372),
        (114, -12, -392),
        (102, 0, -412),
        (102, -4, -470),
        (102, 40, -380),
    )
    condyles = [
        *tube([middle[-1], knee[0], knee[1]], (18, 20, 17)),
        *tube([middle[-1], knee[2], knee[3]], (18, 20, 17)),
    ]
    return [
        Layer([*shaft], -20, 25, 0, density + 1050, 5.5),
        Layer(top, density + 30, 40, 10, density + 800, 1.9),
        Layer(condyles, density, 40, 8, density + 700, 1.8),
        Layer(
            tube([knee[4], knee[4] - [0, 0, 25], knee[5]], (27, 22, 13), (1.25, 0.9, 1)),
            density - 40,
            35,
            6,
            density + 800,
            2.5,
        ),
        Layer([Ellipsoid(knee[6], (21, 8, 21))], density + 40, 30, 0, density + 800, 2.0),
    ]


def sacrum(rng: np.random.Generator, density: float) -> list[Layer]:
    """Sacrum with wings, canal and foramina, and the coccyx."""
    p = np.asarray(SACRUM, dtype=float) + rng.normal(0, 1.2, (len(SACRUM), 3)) * [0.6, 1, 1]
    body: list = tube(p[:5], (13, 12, 9.5, 7.5, 6), (1.45, 0.95, 1.0))
    body += [Drum((0, p[0][1], p[0][2]), (25, 16), 25, -0.72, 1.5)]
    masses: list[Cone | Ellipsoid] = []
    for side in (1, -1):
        rows = flip(
            [
                (34, -44, 96),
                (50, -56, 96),
                (34, -58, 76),
                (47, -66, 77),
                (30, -78, 52),
                (36, -80, 50),
                (20, -88, 32),
                (24, -88, 30),
            ],
            side,
        )
        rows = rows + rng.normal(0, 1.2, rows.shape)
        masses += [
            Cone(rows[i], rows[i + 1], ra, rb, (1, 1, 1.1))
            for i, ra, rb in ((0, 14, 11), (2, 13, 11), (4, 11, 9), (6, 8, 6))
        ]
        masses += [Cone(p[i], rows[2 * i], r, r) for i, r in ((0, 14), (1, 11), (2, 9), (3, 7))]
    crest = tube(p[:4] + [0, -24, -6] * np.array([[1], [0.9], [0.7], [0.5]]), (5, 4.5, 4, 3), (1, 1, 1.5))
    arch = [Cone(p[i] + [s * 20, -15, -4], p[i] + [0, -23 + 2 * i, -6], 4, 4) for i in (0, 1) for s in (1, -1)]
    holes: list[Cone] = []
    for i in (0, 1, 2):
        middle = (p[i] + p[i + 1]) / 2
        out = 23 - 2.5 * i
        holes += [Cone(middle + [s * out, 14, 6], middle + [s * (out + 3), -20, -10], 3.8 - 0.4 * i, 3.4) for s in (1, -1)]
    canal = tube(p[:4] + [0, -17, -3] * np.array([[1.0], [0.95], [0.75], [0.7]]), (8, 6, 4, 2), (1.3, 0.8, 1))
    discs = [
        Drum(
            (p[i] + p[i + 1]) / 2,
            (15 - 3 * i, 9 - 2 * i),
            2.5,
            -math.atan2(p[i][1] - p[i + 1][1], p[i][2] - p[i + 1][2]),
        )
        for i in (0, 1)
    ]
    coccyx = [Ellipsoid(p[5], (9, 4.5, 7)), Ellipsoid(p[6], (5, 4, 7)), Cone(p[5], p[6], 3.5, 3)]
    return [
        Layer([*body, *masses, *crest, *arch], density - 20, 40, 7, density + 600, 1.7, [*holes]),
        Layer(canal, 15, 15),
        *(Layer([disc], 70, 15) for disc in discs),
        Layer(coccyx, density, 25, 2, density + 450, 1.5),
    ]
