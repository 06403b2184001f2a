"""Bones of the phantom above the pelvis: spine and rib cage, mm in the template frame of ``canvas``."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .bones import PROMONTORY
from .canvas import Layer
from .shapes import Cone, Drum, Ellipsoid, tube

# centres of L5 .. T1 as (y, z)
SPINE = (
    (-24, 124),
    (-14, 160),
    (-9, 197),
    (-11, 233),
    (-17, 268),
    (-24, 300),
    (-31, 330),
    (-37, 359),
    (-42, 387),
    (-46, 414),
    (-48, 440),
    (-48, 465),
    (-46, 489),
    (-42, 512),
    (-37, 534),
)


def vertebra(rng: np.random.Generator, index: int, centre: np.ndarray, tip: float, height: float, density: float) -> Layer:
    """One vertebra; ``index`` counts from L5 (0) upwards, T12 is 5; ``tip`` is the forward lean in radians."""
    lumbar = index < 5
    size = 1.0 if lumbar else max(0.62, 0.93 - 0.035 * (index - 5))
    c, s = math.cos(tip), math.sin(tip)

    def at(x: float, y: float, z: float) -> np.ndarray:
        return centre + np.array([x, c * y - s * z, s * y + c * z]) * size + rng.normal(0, 0.6, 3)

    back = -17.0
    parts = [Drum(tuple(centre), (24 * size, 17 * size), height, -tip, 2.0)]
    for side in (1, -1):
        parts += [
            Cone(at(side * 14, back + 4, 5), at(side * 16, back - 14, 4), 5 * size, 5 * size),
            Cone(at(side * 16, back - 14, 2), at(side * 3, back - 28, -6), 5.5 * size, 4 * size),
            Ellipsoid(at(side * 17, back - 19, -13), (6 * size, 7 * size, 10 * size)),
            Cone(
                at(side * 16, back - 12, 4),
                at(side * (40 if lumbar else 28), back - (17 if lumbar else 28), 6),
                5 * size,
                3 * size,
            ),
        ]
    drop = -8 if lumbar else -22
    parts.append(
        Cone(at(0, back - 28, -6), at(0, back - 54, drop - 4), 3.6 * size, 3.8 * size, (1, 1, 2.4 if lumbar else 1.3))
    )
    return Layer(parts, density, 35, 4, density + 480, 1.4)


def spine(rng: np.random.Generator, density: float) -> tuple[list[Layer], np.ndarray]:
    """Vertebrae, discs and the dural sac up to T1, and the curve (n, 3) of vertebral centres."""
    line = np.array([(0, y, z) for y, z in SPINE], dtype=float)
    line[:, 1] += rng.normal(0, 2.5) * np.linspace(0, 1, len(line)) + rng.normal(0, 1, len(line))
    line[:, 0] += rng.normal(0, 3) * np.sin(np.linspace(0, 3, len(line))) + rng.normal(0, 0.5, len(line))
    low = np.array(PROMONTORY) + [0, -7, -2]
    chain = np.concatenate([low[None], line])
    layers: list[Layer] = []
    lean = rng.normal(0, 0.05)
    for i, centre in enumerate(line):
        ahead, behind = chain[min(i + 2, len(chain) - 1)], chain[i]
        tip = math.atan2(-(ahead[1] - behind[1]), ahead[2] - behind[2])
        tip = tip * 0.9 - (0.12 + lean if i == 0 else 0)
        gap = np.linalg.norm(ahead - centre)
        height = float(gap) * (0.74 if i < 6 else 0.82)
        layers.append(vertebra(rng, i, centre, -tip, height, density + rng.normal(0, 12)))
        disc = (centre + behind) / 2 if i else (centre + low) / 2 + [0, 2, -1]
        size = 1.0 if i < 5 else max(0.62, 0.95 - 0.035 * (i - 5))
        layers.append(Layer([Drum(tuple(disc), (24 * size, 17 * size), float(gap) * 0.27, tip if i else tip - 0.2)], 85, 10))
    sac = chain[: len(layers) // 2 + 1] + [0, -26, 0]
    sac[0] = sac[0] + [0, 2, 0]
    layers.append(Layer(tube(sac, [8.5] * len(sac), (1.15, 0.9, 1)), 28, 8))
    return layers, chain


def ribs(rng: np.random.Generator, ring: Callable, chain: np.ndarray, density: float) -> list[Layer]:
    """Ribs, breastbone, collar bones and shoulder blades.

    Args:
        rng: source of the draws.
        ring: points (n, 3) within the fascia at angles and heights (``Outline.ring``).
        chain: curve (n, 3) of the spine as ``spine`` gives it; entry 6 is T12.
        density: HU of the marrow.
    """
    layers: list[Layer] = []
    for level, centre in enumerate(chain[6:]):
        reach = (0.25, 0.45)[level] if level < 2 else 1.0
        drop = np.interp(level, [0, 2, 8, 11], [30, 62, 52, 30])
        for side in (1, -1):
            t = np.linspace(0, reach, 9)
            course = ring(np.radians(-70 + 128 * t), centre[2] - 4 - drop * t + rng.normal(0, 1), 9.0) * [side, 1, 1]
            line = np.concatenate([centre[None] + [side * 20, -22, 0], course])
            layers.append(Layer(tube(line, [5.0] * len(line), (0.8, 0.8, 1.3)), density - 40, 20, 0, density + 420, 1.6))
            if reach == 1.0:
                front = ring(np.radians(np.array([82.0])), np.array([max(centre[2] - drop + 15, 330)]), 11.0)[0] * [
                    side,
                    1,
                    1,
                ]
                layers.append(Layer([Cone(line[-1], front, 5, 5)], 95, 15))
    plate = ring(np.full(3, np.pi / 2), np.array([330.0, 400, 470]), 11.0)
    layers.append(Layer(tube(plate, (14, 16, 24), (1.1, 0.35, 1)), density - 20, 20, 2, density + 380, 1.5))
    for side in (1, -1):
        layers += [
            Layer(
                tube([plate[2] + [side * 22, 0, 6], (side * 76, 12, 496), (side * 112, -18, 506)], (8, 6, 6)),
                density,
                20,
                0,
                density + 700,
                2.0,
            ),
            Layer([Ellipsoid((side * 92, -86, 430), (44, 5, 66), 0.1, side * 0.45)], density, 20, 0, density + 500, 1.6),
        ]
    return layers
