"""Soft tissue of the phantom: fat, skin, muscles and vessels as painted layers.

All numbers are mm in the template frame of ``canvas`` (the patient's right is x > 0): an average adult woman,
set by hand after textbook proportions and pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from .bones import Wing, flip
from .canvas import Layer
from .shapes import Block, Cone, smooth_line, tube


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

    def muscle(
        points: Sequence[Sequence[float]], radii: Sequence[float], squash: Sequence[float] = (1, 1, 1), steps: int = 1
    ) -> Layer:
        rows = np.asarray(points, dtype=float)
        line = smooth_line(flip(rows + rng.normal(0, 1.5, rows.shape), side), steps)
        girth = (
            np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, len(radii)), radii) * tone * rng.uniform(0.93, 1.07)
        )
        return Layer(tube(line, list(girth), squash), hu + rng.normal(0, 4), 11, 2, clip=[("fascia", 1.5)], seam=1.3)

    def region(low: Sequence[float], high: Sequence[float], planes: Sequence[tuple] = ()) -> Block:
        x = sorted((side * low[0], side * high[0]))
        return Block((x[0], *low[1:]), (x[1], *high[1:]), planes)

    sheet, rim = wing
    return [
        Layer(
            [region((0, -120, -20), (185, 160, 300), [(0, -0.41, -0.91, -97), (0.7, 0, -0.72, 18.5), (0, -1, 0, 62)])],
            hu,
            11,
            clip=[("wall", 0)],
        ),
        Layer([region((0, -130, 300), (200, 200, 520))], hu, 16, clip=[("fascia", 1.5), ("inside", -16.0)]),
        *(
            Layer(
                [region((58, -70, 95), (175, 160, 300))],
                -40,
                10,
                clip=[("wall", 0), ("fascia", 1.5 + d), ("inside", -3.0 - d)],
            )
            for d in (3.6, 8.2)
        ),
        Layer([region((-4, 20, 10), (3, 160, 300))], -60, 10, clip=[("wall", 0)]),
        Layer([region((60, 30, 60), (64, 160, 300))], -60, 10, clip=[("wall", 0)]),
        Layer(
            [region((14, -130, -470), (190, 90, 20), [(-0.5, 0.5, 0.707, -25), (-0.1, -0.35, 0.93, -32)])],
            hu - 4,
            14,
            clip=[("thigh", 0)],
        ),
        muscle([(72, -50, 122), (66, -46, 160), (58, -42, 240)], (15, 15, 10), (1.6, 0.85, 1)),
        muscle(
            [
                (22, -100, 62),
                (29, -92, 110),
                (34, -82, 160),
                (35, -80, 240),
                (34, -83, 330),
                (30, -84, 420),
                (24, -82, 500),
            ],
            (11, 22, 26, 27, 22, 17, 13),
            (1.4, 0.95, 1),
        ),
        muscle(
            [(13, -98, 70), (15, -76, 105), (15, -64, 150), (15, -62, 240), (13, -68, 330)],
            (8, 15, 13, 12, 9),
            (0.9, 1.2, 1),
        ),
        muscle(
            [(96, -70, 132), (92, -74, 180), (96, -78, 250), (104, -78, 330), (116, -56, 420)],
            (9, 9, 9, 8, 9),
            (2.2, 0.7, 1),
        ),
        Layer([Wing(side, sheet, rim, (5.5, 17.0), 3.0)], hu + 2, 12, clip=[("fascia", 4.0)]),
        Layer([Wing(side, sheet, rim, (18.5, 60.0), 1.0)], hu, 12, clip=[("fascia", 3.0)]),
        muscle([(122, -10, 60), (136, -14, 30), (143, -16, 2)], (22, 22, 11), (0.9, 1.2, 1)),
        Layer([Wing(side, sheet, rim, (-15.0, -5.0), 5.0)], hu + 2, 11),
        muscle(
            [
                (30, -22, 255),
                (42, -20, 200),
                (51, -10, 150),
                (60, 6, 105),
                (72, 22, 60),
                (82, 34, 20),
                (88, 30, -10),
                (106, -6, -58),
            ],
            (9, 16, 20, 20, 20, 17, 15, 9),
        ),
        muscle([(14, -76, 56), (50, -68, 46), (92, -46, 28), (138, -22, 6)], (8, 11, 9, 4), (1, 1, 1.2)),
        muscle([(53, -16, 32), (52, -6, 4), (49, -2, -26)], (9, 11, 8), (0.9, 2.4, 1)),
        muscle([(52, -18, -8), (60, -46, 2), (100, -36, -4), (136, -22, -8)], (8, 8, 7, 4)),
        muscle([(30, 28, -26), (58, 14, -34), (96, -16, -30), (132, -22, -20)], (10, 14, 10, 4)),
        muscle([(60, -48, -46), (96, -42, -46), (126, -30, -46)], (11, 13, 10), (1, 0.8, 1.6)),
        muscle([(32, 50, 2), (60, 36, -26), (100, 4, -74)], (9, 12, 8), (1, 0.8, 1)),
        muscle([(16, 36, -34), (44, 22, -70), (74, 18, -130), (98, 10, -220)], (8, 17, 16, 10)),
        muscle([(26, 8, -54), (58, -12, -110), (82, -16, -190), (92, -18, -290), (80, -14, -360)], (12, 29, 29, 18, 6)),
        muscle([(12, 24, -48), (28, 4, -110), (42, -16, -220), (58, -34, -350), (66, -20, -420)], (5, 9, 9, 7, 5)),
        muscle([(62, -38, -66), (80, -44, -120), (90, -46, -200), (84, -44, -300), (72, -42, -400)], (9, 22, 25, 20, 9)),
        muscle([(72, -40, -68), (104, -42, -140), (116, -38, -220), (122, -36, -320), (126, -34, -400)], (8, 17, 21, 17, 7)),
        muscle(
            [(144, -2, -40), (150, 2, -100), (148, 10, -200), (138, 16, -300), (124, 20, -360)],
            (12, 21, 25, 19, 7),
            (0.9, 1.35, 1),
        ),
        muscle([(120, 22, -64), (112, 26, -130), (102, 28, -220), (88, 24, -310), (80, 16, -365)], (11, 19, 23, 22, 11)),
        muscle(
            [(106, 40, 36), (112, 50, 0), (118, 56, -60), (120, 58, -160), (112, 50, -280), (104, 44, -350)],
            (7, 13, 16.5, 17, 14, 6),
            (1.25, 0.9, 1),
        ),
        muscle(
            [
                (117, 52, 80),
                (116, 62, 40),
                (104, 66, -10),
                (80, 60, -90),
                (56, 40, -200),
                (44, 0, -310),
                (58, -14, -410),
            ],
            (6, 10, 11.5, 10.5, 9.5, 9, 6),
        ),
        muscle([(121, 46, 76), (136, 40, 40), (148, 26, -10), (156, 6, -80)], (8, 15, 15, 6), (0.95, 1.3, 1)),
        Layer(
            [
                region(
                    (5, -160, -84),
                    (185, 10, 112),
                    [(0.45, 0, 0.89, 103), (-0.6, 0, 0.8, 40), (0.5, 0.866, 0, 30), (-0.45, 0, -0.89, 40)],
                )
            ],
            hu - 3,
            15,
            clip=[("rump", 0)],
            seam=1.5,
        ),
    ]


def vessels(rng: np.random.Generator) -> list[Layer]:
    """Aorta (left of the middle), vena cava (right), iliac and femoral vessels."""
    artery, vein = (130.0, 105.0) if rng.random() < 0.35 else (44.0, 40.0)
    fork = rng.normal(152, 6)
    grow = rng.uniform(0.85, 1.2)

    def vessel(points: Sequence[Sequence[float]], radii: Sequence[float], hu: float) -> Layer:
        line = smooth_line(np.asarray(points, dtype=float) + rng.normal(0, 1.5, (len(points), 3)), 2)
        girth = np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, len(radii)), radii) * grow
        return Layer(tube(line, list(girth)), hu + rng.normal(0, 3), 5, seam=1.0)

    layers = [
        vessel(
            [(-4, 14, fork), (-9, 16, 200), (-10, 12, 250), (-8, 2, 310), (-16, -18, 370), (-22, -28, 430)],
            (8, 8.5, 9, 10, 11, 12),
            artery,
        ),
        vessel([(14, 8, fork - 12), (19, 10, 200), (22, 12, 260), (26, 24, 320)], (9.5, 10.5, 11, 12), vein),
    ]
    for side in (1, -1):
        split = (side * 36, -6, 104)
        outer = [
            split,
            (side * 50, 10, 80),
            (side * 62, 34, 44),
            (side * 70, 54, 4),
            (side * 74, 52, -50),
            (side * 70, 32, -140),
            (side * 64, 4, -260),
        ]
        layers += [
            vessel([(-3, 14, fork), (side * 18, 6, 130), split], (6, 5.5, 5), artery),
            vessel(outer, (5, 5, 4.8, 4.6, 4.2, 3.6, 3.2), artery),
            vessel([split, (side * 42, -34, 84), (side * 46, -46, 50)], (4, 3.6, 2.5), artery),
            vessel([(14, 8, fork - 12), (side * 20, -4, 126), (side * 34, -16, 100)], (7.5, 7, 6.5), vein),
            vessel(np.array([(side * 34, -16, 100), *outer[1:]]) + [-side * 7, -9, 0], (6, 6, 6, 6, 5, 4.2, 3.6), vein),
            vessel([(side * 34, -16, 100), (side * 40, -44, 80), (side * 43, -54, 50)], (5, 4.4, 3), vein),
        ]
    for _ in range(26):  # small vessels and strands in the fat of the belly and the pelvis
        start = np.array([rng.uniform(-60, 60), rng.uniform(-45, 45), rng.uniform(-20, 220)])
        ends = start + rng.normal(0, 1, 3) * [22, 14, 24]
        layers.append(
            Layer([Cone(start, ends, rng.uniform(1.6, 2.8), rng.uniform(1, 2))], artery - 14, 5, clip=[("cavity", 4.0)])
        )
    return layers
