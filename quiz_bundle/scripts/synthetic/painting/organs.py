"""What a label map of bones and muscles leaves open: the organs and vessels of a painted pelvis.

Everything is found from the labels (sacrum, pubis, psoas) and painted in place, in the frame of ``scene``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from .scene import PELVIS, PSOAS, SACRUM, SARTORIUS, SPINE, THIGH, Scene, dense, ellipsoid, smooth_noise, tube

GAS_HU = -950.0


@dataclass
class Marks:
    """Where the organs hang: points (3,) in mm of the scene.

    Attributes:
        symphysis: middle of the pubic symphysis.
        behind_pubis: how far back it reaches, mm along axis 1.
        tip: tip of the coccyx, or the lowest of the sacrum.
        promontory: front upper edge of the sacrum.
    """

    symphysis: np.ndarray
    behind_pubis: float
    tip: np.ndarray
    promontory: np.ndarray

    @property
    def middle(self) -> float:
        """The plane between left and right, mm along axis 0."""
        return float(self.promontory[0])


def fill_cavity(scene: Scene) -> None:
    """Paint what lies between the muscles of a pelvis; nothing if pelvis or sacrum are not labelled."""
    marks = find_marks(scene)
    if marks is None:
        return
    depth = cavity_depth(scene, marks)
    _fascia(scene, depth)
    _upper_organs(scene, marks)
    _vessels(scene, marks)
    bladder, radii = _bladder(scene, marks)
    _uterus(scene, bladder, radii)
    _rectum(scene, marks)
    _perineum(scene, marks)
    _colon(scene, marks, depth)
    _small_bowel(scene, marks, depth)


def find_marks(scene: Scene) -> Marks | None:
    """Find the marks in the labels; None without pelvis or sacrum."""
    sacrum, pelvis = (np.argwhere(scene.labels == label) * scene.spacing for label in (SACRUM, PELVIS))
    if len(sacrum) < 50 or len(pelvis) < 50:
        return None
    middle = sacrum[:, 0].mean()
    pubis = pelvis[(np.abs(pelvis[:, 0] - middle) < 22) & (pelvis[:, 1] > np.median(sacrum[:, 1]))]
    if len(pubis) < 20:  # nothing near the middle: the symphysis is open or off the map
        pubis = pelvis[pelvis[:, 2] <= np.quantile(pelvis[:, 2], 0.3)]
    high = sacrum[sacrum[:, 2] >= np.quantile(sacrum[:, 2], 0.8)]
    return Marks(
        symphysis=np.array([middle, pubis[:, 1].mean(), pubis[:, 2].mean()]),
        behind_pubis=float(np.quantile(pubis[:, 1], 0.1)),
        tip=sacrum[sacrum[:, 2] < sacrum[:, 2].min() + 8].mean(0),
        promontory=np.array([middle, np.quantile(high[:, 1], 0.97), high[:, 2].max()]),
    )


def cavity_depth(scene: Scene, marks: Marks) -> np.ndarray:
    """Depth in mm inside the abdominal and pelvic cavity on a grid of twice the spacing; 0 outside it.

    A voxel is inside if wall lies on all four sides of it in its axial slice and it is above the pelvic floor, a plane
    from the symphysis to the coccyx.
    """
    wall = (scene.labels > 0) & ~np.isin(scene.labels, THIGH)
    wall = functional.max_pool3d(torch.from_numpy(wall).float()[None, None], 2, ceil_mode=True)
    step = 2 * scene.spacing
    reach = max(1, round(20 / step))  # bridges the gaps between rectus and obliques
    enclosed = ~(wall[0, 0].numpy() > 0.5)
    for axis, window in ((1, (2 * reach + 1, 1, 1)), (0, (1, 2 * reach + 1, 1))):
        wide = functional.max_pool3d(wall, window, 1, [w // 2 for w in window])[0, 0].numpy() > 0.5
        enclosed &= np.logical_or.accumulate(wide, axis)
        enclosed &= np.flip(np.logical_or.accumulate(np.flip(wide, axis), axis), axis)
    y, z = np.arange(enclosed.shape[1]) * step, np.arange(enclosed.shape[2]) * step
    slope = (marks.symphysis[2] - marks.tip[2]) / max(marks.symphysis[1] - marks.tip[1], 20.0)
    floor = marks.tip[2] + slope * (y - marks.tip[1]) - 5
    enclosed &= (z[None, :] > floor[:, None])[None]
    enclosed = ndimage.binary_opening(enclosed, iterations=2)
    # The cavity goes on beyond the field of view: its faces are no walls.
    padded = np.pad(enclosed, ((0, 0), (0, 0), (8, 8)), mode="edge")
    return ndimage.distance_transform_edt(padded)[..., 8:-8].astype(np.float32) * step


def _fascia(scene: Scene, depth: np.ndarray) -> None:
    """Peritoneum as a faint line around the cavity; small vessels and strands in the fat inside."""
    fine = functional.interpolate(torch.from_numpy(depth)[None, None], scale_factor=2, mode="trilinear")[0, 0].numpy()
    fine = fine[tuple(slice(0, n) for n in scene.labels.shape)]
    line = np.exp(-(((fine - 4) / 2.0) ** 2)) * 0.45
    line[scene.taken] = 0
    scene.hu += line * (scene.muscle - scene.hu)
    first, second = (smooth_noise(scene.rng, scene.hu.shape, 13 / scene.spacing) for _ in range(2))
    # Two noises are zero together along thin lines: the branches of the mesenteric vessels.
    strands = np.exp(-((first**2 + second**2) / 0.22**2))
    scene.hu += strands * np.clip((fine - 5) / 6, 0, 1) * scene.rng.uniform(60, 150)


def _bowel_loop(scene: Scene, points_mm: np.ndarray, radii: np.ndarray, colon: bool) -> None:
    """A tube with a wall and what is in it: fluid, stool, contrast, and gas in the front part of some."""
    rng = scene.rng
    stroke = tube(scene, points_mm, radii)
    grain = scene.grain[stroke.box]
    wall_mm, wall = rng.uniform(1.5, 3.5), scene.tissue(35, 90)
    kind = rng.rand()
    content, texture = scene.tissue(0, 35), 6.0
    if kind < (0.1 if colon else 0.2):
        content = rng.uniform(120, 450)  # oral contrast
    elif colon and kind < 0.75:
        content, texture = scene.tissue(-60, 40), rng.uniform(30, 110)  # stool, full of small bubbles
    value = content + texture * grain
    if texture > 20:
        value = np.where(grain < -1.3, -400.0, value)
    if rng.rand() < (0.65 if colon else 0.35):
        level = rng.uniform(-0.6, 0.7) * radii.mean()
        value += np.clip((stroke.height - level) / scene.spacing + 0.5, 0, 1) * (GAS_HU - value)
    scene.lay(stroke, wall + scene.inner(stroke, wall_mm) * (value - wall))


def _colon(scene: Scene, marks: Marks, depth: np.ndarray) -> None:
    """Descending colon on the left; caecum and ascending colon on the right."""
    rng, step = scene.rng, 2 * scene.spacing
    x = np.arange(depth.shape[0]) * step
    for side in (-1, 1):
        radius = rng.uniform(13, 22) if side > 0 else rng.uniform(10, 18)
        centres = []
        for z in np.arange(marks.promontory[2] - rng.uniform(10, 40), depth.shape[2] * step + 10, 4.0):
            slab = depth[:, :, int(np.clip(round(z / step), 0, depth.shape[2] - 1))]
            i, j = np.nonzero((slab > 0.8 * radius) & (side * (x - marks.middle) > 30)[:, None])
            if len(i):
                best = np.argsort(side * i - 0.7 * j)[-5:]  # far out and to the back
                centres.append([i[best].mean() * step, j[best].mean() * step, z])
        if len(centres) > 4:
            line = ndimage.gaussian_filter1d(np.array(centres), 3.0, axis=0)
            haustra = 1 + 0.16 * np.sin(np.arange(len(line)) * 4 / rng.uniform(4, 7))
            _bowel_loop(scene, line, radius * haustra, colon=True)


def _small_bowel(scene: Scene, marks: Marks, depth: np.ndarray) -> None:
    """Loops that wander through the cavity and turn where it ends; now and then the colon's transverse part."""
    rng, step = scene.rng, 2 * scene.spacing
    starts = np.argwhere(depth > 12) * step
    starts = starts[starts[:, 2] > marks.symphysis[2] + 25]
    if len(starts) == 0:
        return
    for _ in range(int(np.clip(len(starts) * step**3 / 60_000, 3, 55) * rng.uniform(0.5, 1.2))):
        point, heading = starts[rng.randint(len(starts))], rng.standard_normal(3)
        line = [point]
        for _ in range(rng.randint(25, 90)):
            heading = heading / np.linalg.norm(heading) + rng.normal(0, 0.35, 3)
            for _ in range(4):
                ahead = point + 4 * heading / np.linalg.norm(heading)
                index = np.round(ahead / step).astype(int)
                if (index >= 0).all() and (index < depth.shape).all() and depth[tuple(index)] > 9:
                    point = ahead
                    line.append(point)
                    break
                heading = rng.standard_normal(3)
        smooth = ndimage.gaussian_filter1d(np.array(line, dtype=float), 1.5, axis=0, mode="nearest")
        radii = rng.uniform(7, 13) * (1 + 0.15 * np.sin(np.arange(len(line)) / 3.0 + rng.uniform(0, 6)))
        _bowel_loop(scene, smooth, radii, colon=rng.rand() < 0.15)


def _bladder(scene: Scene, marks: Marks) -> tuple[np.ndarray, np.ndarray]:
    """Bladder of any filling behind the pubis; its centre and radii (3,) in mm."""
    rng = scene.rng
    radii = np.array([1.15, 0.9, 0.85]) * rng.uniform(20, 40) * rng.uniform(0.85, 1.15, 3)
    centre = np.array([marks.middle, marks.behind_pubis, marks.symphysis[2]])
    centre += [rng.uniform(-5, 5), -radii[1] - rng.uniform(0, 5), radii[2] * rng.uniform(0.5, 1.0) + 5]
    stroke = ellipsoid(scene, centre, radii, rng.uniform(-0.3, 0.3), rough=1.0)
    wall = scene.tissue(25, 60)
    value = scene.tissue(-3, 18) + 3 * scene.grain[stroke.box]
    if rng.rand() < 0.15:  # contrast that has sunk to the back
        level = rng.uniform(-0.6, 1.0) * radii[1]
        value += np.clip(0.5 - (stroke.height - level) / 6, 0, 1) * rng.uniform(150, 500)
    scene.lay(stroke, wall + scene.inner(stroke, rng.uniform(2, 4.5)) * (value - wall), lock=True)
    return centre, radii


def _uterus(scene: Scene, bladder: np.ndarray, radii: np.ndarray) -> None:
    """Uterus behind and above the bladder, cervix and vagina below it, ovaries beside it; missing in some."""
    rng = scene.rng
    if rng.rand() < 0.15:
        return
    size, value = rng.uniform(0.6, 1.25), scene.tissue(45, 110)
    body = bladder + [rng.uniform(-12, 12), -radii[1] * 0.75 - 12, radii[2] * 0.75 + 8]
    stroke = ellipsoid(scene, body, size * np.array([24, 32, 21]), rng.uniform(-0.7, 0.5))
    lining = scene.inner(stroke, 15 * size, 4.0) * rng.uniform(-45, 10)
    scene.lay(stroke, value + lining + 7 * scene.grain[stroke.box], lock=True)
    cervix = bladder + [0, -radii[1] - 9, -4]
    stroke = tube(scene, np.linspace(cervix + [0, 6, -35], body, 12), np.full(12, 13.0 * size**0.5))
    scene.lay(stroke, value - 8 + 6 * scene.grain[stroke.box], lock=True)
    for side in (-1, 1):
        ovary = body + [side * rng.uniform(28, 42), rng.uniform(-12, 8), rng.uniform(-8, 12)]
        scene.lay(ellipsoid(scene, ovary, rng.uniform(8, 15, 3)), scene.tissue(15, 50))


def _rectum(scene: Scene, marks: Marks) -> None:
    """Rectum in front of the sacrum, on as sigmoid colon into the left iliac fossa, down as anal canal."""
    rng, h = scene.rng, scene.spacing
    middle, tip, promontory = marks.middle, marks.tip, marks.promontory
    near = (scene.labels == SACRUM)[max(0, int((middle - 15) / h)) : int((middle + 15) / h) + 1].any(0)
    radius, line = rng.uniform(12, 20), []
    for z in np.arange(tip[2] - 5, tip[2] + 0.75 * max(promontory[2] - tip[2], 10), 4.0):
        front = np.flatnonzero(near[:, int(np.clip(z / h, 0, near.shape[1] - 1))])
        y = (front[-1] * h if len(front) else tip[1]) + radius + 6
        line.append([middle + 5 * np.sin(z / 25), y, z])
    line = np.array(line)
    anus = np.array([middle, tip[1] + 4, tip[2] - 52])
    canal = tube(scene, np.linspace(anus, line[0] - [0, 0, 4], 12), np.full(12, 11.5), rough=1.0)
    scene.lay(canal, scene.muscle + 5, lock=True)
    left = promontory + [-rng.uniform(55, 80), rng.uniform(5, 35), -rng.uniform(5, 40)]
    swing = promontory + [rng.uniform(-10, 30), rng.uniform(10, 35), -rng.uniform(25, 55)]
    t = np.linspace(0, 1, 30)[1:, None]
    sigmoid = (1 - t) ** 2 * line[-1] + 2 * t * (1 - t) * swing + t**2 * left
    _bowel_loop(scene, sigmoid, np.full(len(sigmoid), rng.uniform(9, 14)), colon=True)
    fullness = radius * (1 + 0.2 * np.sin(np.arange(len(line)) / 3 + rng.uniform(0, 6)))
    _bowel_loop(scene, ndimage.gaussian_filter1d(line, 2.0, axis=0, mode="nearest"), fullness, colon=True)


def _perineum(scene: Scene, marks: Marks) -> None:
    """Soft tissue in the middle under the pubic arch, and the pelvic floor from symphysis to coccyx."""
    rng, start, end = scene.rng, marks.symphysis, marks.tip
    stroke = ellipsoid(scene, start + [0, -22, -38], np.array([rng.uniform(12, 20), 30.0, 24.0]), 0.3, rough=4.0)
    scene.lay(stroke, scene.muscle - 12 + 8 * scene.grain[stroke.box])
    stroke = ellipsoid(scene, start + [0, 30, -60], np.array([rng.uniform(18, 30), 30.0, 40.0]), 0.2, rough=6.0)
    patches = np.clip(scene.grain[stroke.box] * 0.5 + rng.uniform(0.1, 0.6), 0, 1)
    scene.lay(stroke, scene.fat + patches * (scene.muscle - 15 - scene.fat))
    arc = np.sin(np.linspace(0, np.pi, 14))
    for side in (-1, 1):
        sling = np.linspace(start + [side * 12, -12, -16], end + [side * 6, 8, -8], 14)
        sling += np.stack([side * 16 * arc, 0 * arc, -10 * arc], 1)
        scene.lay(tube(scene, sling, np.full(14, rng.uniform(3.5, 5.5))), scene.muscle)


def _vessels(scene: Scene, marks: Marks) -> None:
    """Aorta and cava, the iliac vessels along the inner edge of psoas, the femoral vessels under sartorius."""
    rng, h, middle = scene.rng, scene.spacing, marks.middle
    arterial = scene.tissue(35, 65) if rng.rand() < 0.5 else rng.uniform(90, 320)
    venous = scene.tissue(30, 60) if arterial < 80 else rng.uniform(40, arterial)
    fork = marks.promontory[2] + rng.uniform(15, 40)
    spine, trunk = (scene.labels == SPINE).any(0), []
    for z in np.arange(fork, scene.hu.shape[2] * h, 6.0):
        front = np.flatnonzero(spine[:, min(int(z / h), spine.shape[1] - 1)])
        if len(front):
            trunk.append([middle, front[-1] * h + 10, z])
    ahead = trunk[0][1] if trunk else marks.promontory[1] + 12
    for offset, radius, value in ((-11, rng.uniform(7, 10), arterial), (13, rng.uniform(8, 12), venous)):
        if len(trunk) > 1:
            line = dense(ndimage.gaussian_filter1d(np.array(trunk), 1.5, axis=0, mode="nearest") + [offset, 0, 0])
            scene.lay(tube(scene, line, np.full(len(line), radius), rough=0.5), value, lock=True)
    for side in (-1, 1):
        path = _vessel_path(scene, side, [np.array([middle + side * 8, ahead, fork])], middle)
        if len(path) < 3:
            continue
        line = ndimage.gaussian_filter1d(dense(np.array(path)), 5.0, axis=0, mode="nearest")
        for shift, radius, value in (((side * 3, 4, 0), 4.5, arterial), ((-side * 6, -6, 0), 6.0, venous)):
            taper = np.linspace(1.15, 0.8, len(line)) * radius * rng.uniform(0.85, 1.15)
            scene.lay(tube(scene, line + np.array(shift), taper, rough=0.3), value, lock=True)


def _vessel_path(scene: Scene, side: int, path: list[np.ndarray], middle: float) -> list[np.ndarray]:
    """Carry a path on from the fork of the aorta along psoas and then sartorius of one side; points in mm."""
    for label, rows, inward, forward in ((PSOAS, 7, 8.0, 6.0), (SARTORIUS, 6, 14.0, -14.0)):
        voxels = np.argwhere(scene.labels == label) * scene.spacing
        voxels = voxels[side * (voxels[:, 0] - middle) > 0]
        if len(voxels) < 50:
            continue
        high = path[-1][2] - 25
        for z in np.linspace(high, max(voxels[:, 2].min(), high - 170), rows):
            here = voxels[np.abs(voxels[:, 2] - z) < 4]
            if len(here) > 5:
                edge = here[:, 0].min() if side > 0 else here[:, 0].max()
                x = edge if label == PSOAS else here[:, 0].mean()
                path.append(np.array([x - side * inward, here[:, 1].mean() + forward, z]))
    return path


def _upper_organs(scene: Scene, marks: Marks) -> None:
    """Kidneys and liver where the field of view reaches far enough up."""
    rng = scene.rng
    top = scene.hu.shape[2] * scene.spacing
    kidney = scene.tissue(25, 45) if rng.rand() < 0.5 else rng.uniform(90, 220)
    for side in (-1, 1):
        centre = marks.promontory + [side * rng.uniform(58, 70), -22, rng.uniform(120, 145)]
        stroke = ellipsoid(scene, centre, np.array([27, 26, 54]) * rng.uniform(0.85, 1.1))
        if centre[2] < top + 45:
            hilum = scene.inner(stroke, 16, 5.0) * 0.7
            scene.lay(stroke, kidney + hilum * (scene.fat - kidney), lock=True)
    centre = marks.promontory + [rng.uniform(60, 75), 45, rng.uniform(190, 215)]
    if centre[2] < top + 75:
        stroke = ellipsoid(scene, centre, np.array([75, 85, 80]), rough=3.0)
        scene.lay(stroke, scene.tissue(40, 120) + 5 * scene.grain[stroke.box], lock=True)
