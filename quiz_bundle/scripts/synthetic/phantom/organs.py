"""Organs of the phantom: bladder, womb, bowel with gas, and the organs of the trunk above.

All numbers are mm in the template frame of ``canvas`` (the patient's right is x > 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .canvas import Layer
from .shapes import Block, Cone, Ellipsoid, smooth_line, tube

CAVITY = (("cavity", 2.0),)


@dataclass
class Womb:
    """Where an applicator goes: cervix, fundus and introitus (3,) in mm of the template frame."""

    cervix: np.ndarray
    fundus: np.ndarray
    introitus: np.ndarray


def hollow(line: np.ndarray, radii: Sequence[float], wall: float, wall_hu: float, fill: float, grain: float) -> Layer:
    """A gut along a line (n, 3): ``wall`` mm of ``wall_hu`` round a content of ``fill`` HU."""
    return Layer(tube(line, list(radii)), fill, grain, 0, wall_hu, wall, clip=CAVITY, seam=0.6)


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
    radii = np.array([39, 28, 26]) * size * rng.uniform(0.92, 1.08, 3)
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
        Layer(
            tube([(0, -6, -52), (0, -14, -30)], (24, 40), (1, 1.15, 1)),
            48,
            10,
            cuts=tube([(0, -6, -56), (0, -14, -26)], (18, 37), (1, 1.15, 1)),
            keep=[Block((-60, -74, -60), (60, 34, -22))],
        ),
        Layer([Cone(cervix, introitus, 10, 8, (1.7, 0.8, 1))], 45, 9, seam=0.8),
        Layer([Cone((0, 20, -20), (0, 15, -66), 6, 6), Ellipsoid((0, 12, -54), (30, 17, 9))], 44, 9, 6),
        Layer([Ellipsoid(bladder, radii + 3)], urine, 4, 0, 38, 3.0, seam=1.2),
        Layer(
            tube(
                line,
                np.interp(np.linspace(0, 1, len(line)), [0, 0.3, 0.75, 1], np.array([15, 14, 22, 19]) * girth),
                (1.15, 1, 1),
            ),
            womb_hu,
            9,
            3,
            seam=1.0,
        ),
        Layer([Ellipsoid(cervix, (tumour * 1.1, tumour * 0.85, tumour * 0.9))], womb_hu - 4, 11, seam=0.8),
        Layer(tube(line[2:], [2] * (len(line) - 4) + [4, 4], (1.6, 1, 1)), womb_hu - 28, 5),
    ]
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
    points = np.array(
        [
            (0, -34, -72),
            (0, -44, -50),
            (1, -62, -26),
            (3, -70, 4),
            (-3, -70, 34),
            (-12, -54, 62),
            (-34, -32, 76),
            (-24, -6, 84),
            (-52, 14, 92),
            (-84, 10, 100),
            (-104, -2, 130),
            (-110, -22, 180),
            (-112, -30, 230),
            (-106, -20, 270),
        ],
        dtype=float,
    )
    points[2:9] += rng.normal(0, 4, (7, 3))
    line = smooth_line(points, 2)
    position = np.linspace(0, 1, len(line))
    girth = np.interp(
        position, np.linspace(0, 1, 14), np.array([9, 11, 16, 18 * wide, 16 * wide, 13, 13, 13, 13, 13, 14, 15, 15, 15])
    )
    girth = girth * (1 + 0.12 * np.sin(position * 120))
    inner = girth - 3.2
    layers = [
        Layer(tube(line[:4], girth[:4]), 48, 9, seam=1.0),
        hollow(line[3:], girth[3:], 3.2, 45, rng.uniform(-20, 35), 45),
    ]
    layers.append(Layer(tube(line[:4], [2.2] * 4), -20, 60))
    start = int(rng.integers(4, 7))
    stretches = [(start, start + int(rng.integers(2, 5)))] + [
        tuple(sorted(rng.integers(10, len(line) - 1, 2))) for _ in range(3)
    ]
    for a, b in stretches:
        if b > a:
            layers.append(gas(line[a : b + 1], inner[a : b + 1] * rng.uniform(0.6, 0.95), rng.uniform(0.1, 0.4)))
    return layers


def bowel(rng: np.random.Generator, front: tuple[np.ndarray, np.ndarray]) -> list[Layer]:
    """Caecum and ascending colon (right), transverse colon, and loops of small bowel."""
    layers: list[Layer] = []
    for _ in range(int(rng.integers(52, 64))):
        z = rng.uniform(50, 250)
        depth = np.interp(z, *front) - 26
        start = np.array([rng.uniform(-80, 80), rng.uniform(22 if z > 90 else 34, max(depth, 40)), z])
        walk = [start]
        heading = rng.normal(0, 1, 3)
        for _ in range(int(rng.integers(2, 5))):
            heading = heading + rng.normal(0, 0.8, 3)
            heading[1] *= 0.6
            step = walk[-1] + 22 * heading / np.linalg.norm(heading)
            walk.append(np.clip(step, [-95, 12, 46], [98, max(depth, 42), 262]))
        line = smooth_line(walk, 2)
        girth = rng.uniform(10, 14.5) * (1 + 0.1 * np.sin(np.arange(len(line)) * 2.1))
        layers.append(hollow(line, girth, 2.4, rng.uniform(45, 75), rng.uniform(5, 45), 14))
        if rng.random() < 0.22:
            layers.append(gas(line[1:4], (girth - 2.4)[1:4], 0.35))
    lift = rng.normal(0, 10)
    right = np.array(
        [
            (82, 36, 62),
            (92, 26, 88),
            (104, 8, 120),
            (108, -10, 165),
            (106, -14, 210 + lift),
            (90, 20, 236 + lift),
            (45, 52, 214 + lift),
            (-5, 60, 200 + lift),
            (-60, 48, 222 + lift),
            (-104, 0, 268),
        ],
        dtype=float,
    )
    right[:, 1] += np.where(right[:, 1] > 40, np.interp(right[:, 2], *front) - 86, 0)
    line = smooth_line(right + rng.normal(0, 4, right.shape), 3)
    girth = np.interp(np.linspace(0, 1, len(line)), [0, 0.15, 0.45, 1], [27, 27, 23, 18]) * rng.uniform(0.85, 1.1)
    girth = girth * (1 + 0.13 * np.sin(np.arange(len(line)) * 2.2))
    layers.append(hollow(line, girth, 3, 48, rng.uniform(-90, 10), 110))
    for _ in range(3):
        a = int(rng.integers(0, len(line) - 5))
        layers.append(gas(line[a : a + 5], (girth - 3)[a : a + 5] * 0.9, rng.uniform(0.25, 0.5)))
    return layers


def upper_organs(rng: np.random.Generator) -> list[Layer]:
    """Kidneys, liver, spleen, stomach; lungs, heart and windpipe."""
    layers: list[Layer] = []
    for side in (1, -1):
        kidney = np.array([side * 60, -38, 236 - 6 * side + rng.normal(0, 6)])
        contrast = rng.uniform(30, 45)
        layers += [
            Layer([Ellipsoid(kidney, (29, 25, 52), -0.2, side * 0.5)], contrast, 8, clip=CAVITY, seam=2.0),
            Layer([Ellipsoid(kidney + [-side * 14, 6, 0], (12, 9, 20))], -60, 15),
        ]
    liver = rng.uniform(50, 66)
    below = [("fascia", 18.0)]
    layers += [
        Layer(
            [Ellipsoid((68, -2, 312), (78, 90, 82), 0.15), Ellipsoid((0, 36, 330), (78, 46, 42))],
            liver,
            8,
            20,
            clip=below,
            seam=1.5,
        ),
        Layer([Ellipsoid((-92, -40, 318), (34, 44, 54), 0.3)], liver - 8, 7, clip=below, seam=1.5),
        Layer([Ellipsoid((-60, 26, 320), (44, 38, 54))], rng.uniform(5, 30), 25, 0, 42, 4.0, clip=below, seam=1.5),
        Layer([Ellipsoid((-60, 46, 332), (28, 14, 32))], -870, 10, clip=below),
    ]
    domes = {1: Ellipsoid((68, -2, 312), (84, 96, 88), 0.15), -1: Ellipsoid((-66, -4, 312), (80, 92, 74), 0.15)}
    for side in (1, -1):
        lung = Ellipsoid((side * 64, -16, 408), (62, 92, 122), 0, -side * 0.12)
        floor = Block((-200, -200, 326), (200, 200, 620))
        layers.append(Layer([lung], rng.uniform(-870, -800), 25, cuts=[domes[side]], keep=[floor], clip=[("fascia", 16.0)]))
    layers += [
        Layer([Cone((0, 0, 505), (0, 6, 410), 22, 32, (1, 1.3, 1))], -80, 15),
        Layer([Ellipsoid((-22, 28, 416), (56, 42, 52), 0.3, 0.4)], 42, 8),
        Layer(tube([(-14, -14, 440), (-2, 14, 472), (14, 18, 450)], (12, 13, 14)), 42, 5),
        Layer(tube([(0, -2, 530), (2, -10, 466)], (9, 8)), -950, 5),
        Layer(tube([(-2, -18, 530), (-4, -22, 440), (-12, -8, 380)], (7, 8, 8)), 38, 10),
    ]
    return layers
