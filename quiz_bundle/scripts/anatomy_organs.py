"""Organs of the phantom: bladder, womb, bowel with gas, and the organs of the trunk above.

All numbers are mm in the template frame of ``phantom_shapes`` (the patient's right is x > 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .phantom_shapes import Block, Cone, Ellipsoid, Layer, smooth_line, tube

CAVITY = (("cavity", 2.0),)


@dataclass
class Womb:
    """Where an applicator goes: cervix, fundus and introitus (3,) in mm of the template frame."""

    cervix: np.ndarray
    fundus: np.ndarray
    introitus: np.ndarray


def hollow(line: np.ndarray, radii: Sequence[float], wall: float, wall_hu: float, fill: Sequence[Layer]) -> list[Layer]:
    """A gut along a line (n, 3): its wall, then what is in it."""
    return [Layer(tube(line, list(radii)), wall_hu, 8, 1, clip=CAVITY, seam=0.6), *fill]


def gas(line: np.ndarray, radii: Sequence[float], rise: float, hu: float = -880.0) -> Layer:
    """Gas in a lumen, floated ``rise`` of the radius to the front."""
    parts = [
        Cone(a + [0, rise * ra, 0], b + [0, rise * rb, 0], ra * (1 - rise), rb * (1 - rise))
        for a, b, ra, rb in zip(line[:-1], line[1:], radii[:-1], radii[1:], strict=True)
    ]
    return Layer(parts, hu, 10, clip=CAVITY)


def pelvic_organs(rng: np.random.Generator) -> tuple[list[Layer], Womb]:
    """Pelvic floor, bladder, vagina, womb, ovaries, and where the womb is."""
    size = rng.uniform(0.85, 1.15)
    bladder = np.array([rng.normal(0, 3), 12.0, 12.0])
    radii = np.array([36, 25, 23]) * size * rng.uniform(0.92, 1.08, 3)
    urine = rng.uniform(0, 14)
    tilt = rng.uniform(-8, 8)
    anteverted = rng.random() < 0.75
    cervix = np.array([rng.normal(0, 3), -27, 8.0]) + rng.normal(0, 2, 3)
    swing = rng.uniform(0.5, 1.15) if anteverted else rng.uniform(-0.5, 0.2)
    length = rng.uniform(46, 64)
    axis = np.array([np.sin(np.radians(tilt)), np.sin(swing), np.cos(swing)])
    fundus = cervix + [0, 4, 4] + length * axis / np.linalg.norm(axis)
    bend = (cervix + fundus) / 2 + [0, -4 if anteverted else 2, 4]
    girth = rng.uniform(0.8, 1.2)
    introitus = np.array([0, 4.0, -74])
    tumour = rng.uniform(13, 21)
    womb_hu = rng.uniform(50, 75)
    line = smooth_line([cervix, bend, fundus], 4)
    layers = [
        Layer(tube([(0, -6, -52), (0, -14, -30)], (24, 40), (1, 1.15, 1)), 48, 10, cuts=tube([(0, -6, -56), (0, -14, -26)], (18, 37), (1, 1.15, 1)),
              keep=[Block((-60, -74, -60), (60, 34, -22))]),
        Layer([Cone(cervix, introitus, 10, 8, (1.7, 0.8, 1))], 45, 9, seam=0.8),
        Layer([Cone((0, 24, -22), (2, 16, -66), 5, 5)], 42, 6),
        Layer([Ellipsoid(bladder, radii + 3)], 38, 7, seam=1.2),
        Layer([Ellipsoid(bladder, radii)], urine, 4),
        Layer(tube(line, np.interp(np.linspace(0, 1, len(line)), [0, 0.3, 0.75, 1], np.array([15, 14, 22, 19]) * girth), (1.15, 1, 1)), womb_hu, 9, 3, seam=1.0),
        Layer([Ellipsoid(cervix, (tumour * 1.1, tumour * 0.85, tumour * 0.9))], womb_hu - 4, 11, seam=0.8),
        Layer(tube(line[2:], [2] * (len(line) - 4) + [4, 4], (1.6, 1, 1)), womb_hu - 28, 5),
    ]  # fmt: skip
    for side in (1, -1):
        ovary = np.array([side * rng.uniform(34, 46), rng.uniform(-26, -6), rng.uniform(44, 60)])
        layers += [
            Layer([Cone(fundus - [0, 4, 10], ovary, 5, 3)], 30, 10),
            Layer([Ellipsoid(ovary, rng.uniform((9, 7, 10), (15, 11, 16)))], rng.uniform(18, 45), 8, seam=0.8),
        ]
    return layers, Womb(cervix, fundus, introitus)


def rectum(rng: np.random.Generator) -> list[Layer]:
    """Anal canal, rectum, and the sigmoid that leaves to the left and becomes the descending colon."""
    wide = rng.uniform(0.75, 1.3)
    points = np.array([(0, -34, -72), (0, -44, -50), (1, -62, -26), (3, -70, 4), (-3, -70, 34), (-12, -54, 62), (-34, -32, 76), (-24, -6, 84), (-52, 14, 92),
                       (-84, 10, 100), (-104, -2, 130), (-110, -22, 180), (-112, -30, 230), (-106, -20, 270)], dtype=float)  # fmt: skip
    points[2:9] += rng.normal(0, 4, (7, 3))
    line = smooth_line(points, 3)
    position = np.linspace(0, 1, len(line))
    girth = np.interp(position, np.linspace(0, 1, 14), np.array([9, 11, 16, 18 * wide, 16 * wide, 13, 13, 13, 13, 13, 14, 15, 15, 15]))
    girth = girth * (1 + 0.12 * np.sin(position * 120))
    inner = girth - 3.2
    layers = hollow(line[3:], girth[3:], 3.2, 45, [Layer(tube(line[5:], inner[5:]), rng.uniform(-20, 35), 55, clip=CAVITY)])
    layers.insert(0, Layer(tube(line[:5], girth[:5]), 48, 9, seam=1.0))
    layers.append(Layer(tube(line[:6], [2.2] * 6), -20, 60))
    start = int(rng.integers(7, 10))
    stretches = [(start, start + int(rng.integers(2, 5)))] + [tuple(sorted(rng.integers(14, len(line) - 1, 2))) for _ in range(3)]
    for a, b in stretches:
        if b > a:
            layers.append(gas(line[a : b + 1], inner[a : b + 1] * rng.uniform(0.6, 0.95), rng.uniform(0.1, 0.4)))
    return layers


def bowel(rng: np.random.Generator, front: tuple[np.ndarray, np.ndarray], top: float) -> list[Layer]:
    """Caecum and ascending colon (right), transverse colon, and loops of small bowel."""
    layers: list[Layer] = []
    for _ in range(int(rng.integers(34, 46))):
        z = rng.uniform(50, min(top, 235))
        depth = np.interp(z, *front) - 26
        start = np.array([rng.uniform(-80, 80), rng.uniform(18 if z > 90 else 34, max(depth, 40)), z])
        walk = [start]
        heading = rng.normal(0, 1, 3)
        for _ in range(int(rng.integers(3, 6))):
            heading = heading + rng.normal(0, 0.8, 3)
            heading[1] *= 0.6
            step = walk[-1] + 15 * heading / np.linalg.norm(heading)
            walk.append(np.clip(step, [-95, 12, 46], [95, max(depth, 42), 245]))
        line = smooth_line(walk, 2)
        girth = rng.uniform(9.5, 14) * (1 + 0.1 * np.sin(np.arange(len(line)) * 2.1))
        content = Layer(tube(line, girth - 2.4), rng.uniform(5, 45), 14, clip=CAVITY)
        fill = [content, gas(line[1:4], (girth - 2.4)[1:4], 0.35)] if rng.random() < 0.22 else [content]
        layers += hollow(line, girth, 2.4, rng.uniform(45, 75), fill)
    lift = rng.normal(0, 10)
    right = np.array([(82, 36, 62), (92, 26, 88), (104, 8, 120), (108, -10, 165), (106, -14, 210 + lift), (90, 20, 236 + lift), (45, 52, 214 + lift), (-5, 60, 200 + lift),
                      (-60, 48, 222 + lift), (-104, 0, 268)], dtype=float)  # fmt: skip
    right[:, 1] += np.where(right[:, 1] > 40, np.interp(right[:, 2], *front) - 86, 0)
    line = smooth_line(right + rng.normal(0, 4, right.shape), 4)
    girth = np.interp(np.linspace(0, 1, len(line)), [0, 0.15, 0.45, 1], [25, 25, 21, 17]) * rng.uniform(0.85, 1.1)
    girth = girth * (1 + 0.13 * np.sin(np.arange(len(line)) * 2.2))
    stool = Layer(tube(line, girth - 3), rng.uniform(-90, 10), 110, clip=CAVITY)
    layers += hollow(line, girth, 3, 48, [stool])
    for _ in range(3):
        a = int(rng.integers(0, len(line) - 5))
        layers.append(gas(line[a : a + 5], (girth - 3)[a : a + 5] * 0.9, rng.uniform(0.25, 0.5)))
    return layers


def upper_organs(rng: np.random.Generator, top: float) -> list[Layer]:
    """Kidneys, liver, spleen, stomach; lungs and heart where the picture reaches so far."""
    layers: list[Layer] = []
    for side in (1, -1):
        kidney = np.array([side * 60, -38, 236 - 6 * side + rng.normal(0, 6)])
        contrast = rng.uniform(30, 45)
        layers += [
            Layer([Ellipsoid(kidney, (29, 25, 52), -0.2, side * 0.5)], contrast, 8, clip=CAVITY, seam=2.0),
            Layer([Ellipsoid(kidney + [-side * 14, 6, 0], (12, 9, 20))], -60, 15),
        ]
    if top < 230:
        return layers
    liver = rng.uniform(50, 66)
    dome = Ellipsoid((30, -10, 372), (136, 110, 62))
    under = [("fascia", 24.0)]
    layers += [
        Layer([Ellipsoid((70, 8, 318), (76, 86, 78), 0.25)], liver, 8, 20, clip=under, seam=1.5),
        Layer([Ellipsoid((0, 40, 336), (80, 44, 40))], liver, 8, clip=under, seam=1.5),
        Layer([Ellipsoid((-96, -48, 318), (32, 42, 56), 0.3)], liver - 8, 7, clip=under, seam=1.5),
        Layer([Ellipsoid((-62, 26, 318), (42, 36, 52))], 40, 9, clip=under, seam=1.5),
        Layer([Ellipsoid((-62, 24, 318), (37, 31, 47))], 15, 25, clip=under),
        Layer([Ellipsoid((-62, 44, 330), (28, 14, 34))], -870, 10, clip=under),
    ]
    if top < 310:
        return layers
    for side in (1, -1):
        lung = Ellipsoid((side * 66, -22, 404), (66, 100, 128), 0, -side * 0.12)
        layers.append(Layer([lung], -840, 25, cuts=[dome] if side > 0 else [Ellipsoid((-40, -10, 352), (126, 110, 60))], clip=[("fascia", 20.0)]))
    layers += [
        Layer([Cone((0, -2, 505), (0, 4, 400), 24, 34, (1, 1.3, 1))], -80, 15),
        Layer([Ellipsoid((-22, 26, 408), (58, 44, 56), 0.3, 0.4)], 42, 8),
        Layer(tube([(-14, -20, 440), (-2, 12, 470), (14, 16, 450)], (13, 13, 14)), 42, 5),
        Layer(tube([(0, -4, 530), (2, -14, 462)], (9, 9)), -950, 5),
    ]
    return layers
