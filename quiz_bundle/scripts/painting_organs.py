"""What a label map of bones and muscles leaves open: the organs and vessels of a painted pelvis.

Everything is found from the labels (sacrum, pubis, psoas) on an isotropic RAS grid and painted in place. Lengths are in mm of
that grid, its first voxel centre being 0; axis 0 runs to the right, 1 to the front, 2 to the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.random import RandomState
from scipy import ndimage
from torch.nn import functional

PELVIS, FEMUR, SACRUM, SPINE, PSOAS, SARTORIUS = 1, 2, 3, 4, 13, 18
THIGH = (14, 15, 16, 17, 18, 19, 20, 21, 22, 23)
GAS_HU = -950.0


def smooth_noise(rng: RandomState, shape: Sequence[int], cell: float) -> np.ndarray:
    """Smooth noise (I, J, K) float32 of unit variance whose bumps are about ``cell`` voxels wide."""
    step = max(cell / 2, 1.0)
    small = [int(np.ceil(n / step)) + 3 for n in shape]
    knots = ndimage.gaussian_filter(rng.standard_normal(small).astype(np.float32), cell / 2 / step, mode="wrap")
    knots /= max(float(knots.std()), 1e-6)
    size = [round(n * step) for n in small]
    grown = functional.interpolate(torch.from_numpy(knots)[None, None], size=size, mode="trilinear")[0, 0].numpy()
    start = [rng.randint(0, have - want + 1) for have, want in zip(size, shape, strict=True)]
    return np.ascontiguousarray(grown[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))])


@dataclass
class Scene:
    """A painting in progress on an isotropic RAS grid.

    Attributes:
        hu: the picture (I, J, K), painted in place.
        labels: bones and muscles (I, J, K) uint8.
        body: inside the skin (I, J, K) bool.
        spacing: mm.
        rng: the generator of all draws.
        muscle: mean HU of muscle; ``fat`` likewise.
        grain: noise of unit variance (I, J, K) that belongs to the anatomy.
        wild: whether grey values are free of what tissue looks like.
        taken: voxels (I, J, K) that no organ may paint over.
    """

    hu: np.ndarray
    labels: np.ndarray
    body: np.ndarray
    spacing: float
    rng: RandomState
    muscle: float
    fat: float
    grain: np.ndarray
    wild: bool = False
    taken: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.taken = (self.labels > 0) | ~self.body

    def tissue(self, low: float, high: float) -> float:
        """Draw an HU value; a wild painting may draw any."""
        return float(self.rng.uniform(-150, 350) if self.wild else self.rng.uniform(low, high))

    def lay(self, box: tuple[slice, ...], distance: np.ndarray, value: np.ndarray | float, lock: bool = False) -> None:
        """Paint where a signed distance (mm, negative inside) is below zero, with a soft edge, on free voxels."""
        share = np.clip(0.5 - distance / self.spacing, 0, 1)
        share[self.taken[box]] = 0
        view = self.hu[box]
        view += share * (value - view)
        if lock:
            self.taken[box] |= share > 0.5


def fill_cavity(scene: Scene) -> None:
    """Paint bowel, rectum, bladder, uterus, vessels and what else lies between the muscles of a pelvis."""
    marks = _landmarks(scene)
    if marks is None:
        return
    depth = _cavity_depth(scene, marks)
    _fascia(scene, depth)
    _upper_organs(scene, marks)
    _vessels(scene, marks)
    _bladder(scene, marks)
    _uterus(scene, marks)
    _rectum(scene, marks)
    _perineum(scene, marks)
    _bowel(scene, marks, depth)


def _landmarks(scene: Scene) -> dict[str, np.ndarray] | None:
    """Middle plane, symphysis, tip of the coccyx and promontory in mm; None without pelvis or sacrum."""
    h = scene.spacing
    sacrum = np.argwhere(scene.labels == SACRUM) * h
    pelvis = np.argwhere(scene.labels == PELVIS) * h
    if len(sacrum) < 50 or len(pelvis) < 50:
        return None
    middle = sacrum[:, 0].mean()
    central = pelvis[np.abs(pelvis[:, 0] - middle) < 22]
    front = pelvis[pelvis[:, 1] > np.quantile(pelvis[:, 1], 0.5)]
    central = central[central[:, 1] > np.median(sacrum[:, 1])] if len(central) else central
    pubis = central if len(central) > 20 else front[front[:, 2] < np.quantile(front[:, 2], 0.3)]
    tip = sacrum[sacrum[:, 2] < sacrum[:, 2].min() + 8].mean(0)
    high = sacrum[(sacrum[:, 2] > np.quantile(sacrum[:, 2], 0.8)) & (np.abs(sacrum[:, 0] - middle) < 20)]
    high = high if len(high) else sacrum
    promontory = np.array([middle, np.quantile(high[:, 1], 0.97), high[:, 2].max()])
    symphysis = np.array([middle, pubis[:, 1].mean(), pubis[:, 2].mean()])
    back = np.quantile(pubis[:, 1], 0.1)
    return {"symphysis": symphysis, "pubis_back": np.array(back), "tip": tip, "promontory": promontory}


def _cavity_depth(scene: Scene, marks: dict[str, np.ndarray]) -> np.ndarray:
    """Depth in mm inside the abdominal and pelvic cavity on a grid of twice the spacing; 0 outside it.

    A voxel is inside if wall lies on all four sides of it in its axial slice and it is above the pelvic floor, a plane
    from the symphysis to the coccyx.
    """
    wall = (scene.labels > 0) & ~np.isin(scene.labels, THIGH)
    wall = functional.max_pool3d(torch.from_numpy(wall).float()[None, None], 2, ceil_mode=True)
    step = 2 * scene.spacing
    reach = max(1, round(20 / step))
    enclosed = np.ones(wall.shape[2:], dtype=bool)
    for axis, window in ((1, (2 * reach + 1, 1, 1)), (0, (1, 2 * reach + 1, 1))):
        wide = functional.max_pool3d(wall, window, 1, [w // 2 for w in window])[0, 0].numpy() > 0.5
        enclosed &= np.logical_or.accumulate(wide, axis)
        enclosed &= np.flip(np.logical_or.accumulate(np.flip(wide, axis), axis), axis)
    y, z = np.arange(enclosed.shape[1]) * step, np.arange(enclosed.shape[2]) * step
    start, end = marks["symphysis"], marks["tip"]
    slope = (start[2] - end[2]) / max(start[1] - end[1], 20.0)
    floor = end[2] + slope * (y - end[1]) - 5
    enclosed &= (z[None, :] > floor[:, None])[None]
    enclosed &= ~(wall[0, 0].numpy() > 0.5)
    enclosed = ndimage.binary_opening(enclosed, iterations=2)
    # The cavity goes on beyond the field of view: its faces are no walls.
    padded = np.pad(enclosed, ((0, 0), (0, 0), (8, 8)), mode="edge")
    depth = ndimage.distance_transform_edt(padded)[..., 8:-8].astype(np.float32) * step
    return depth


def _fine(scene: Scene, coarse: np.ndarray) -> np.ndarray:
    """A field on the grid of twice the spacing brought to the scene's (I, J, K)."""
    grown = functional.interpolate(torch.from_numpy(coarse)[None, None], scale_factor=2, mode="trilinear")[0, 0]
    return grown.numpy()[tuple(slice(0, n) for n in scene.labels.shape)]


def _fascia(scene: Scene, depth: np.ndarray) -> None:
    """Peritoneum as a faint line around the cavity; small vessels and strands in the fat inside."""
    fine = _fine(scene, depth)
    h = scene.spacing
    line = np.exp(-(((fine - 4) / 2.0) ** 2)) * 0.45
    line[scene.taken] = 0
    scene.hu += line * (scene.muscle - scene.hu)
    inside = np.clip((fine - 5) / 6, 0, 1)
    first, second = (smooth_noise(scene.rng, scene.hu.shape, 13 / h) for _ in range(2))
    # Two noises are zero together along thin lines: the branches of the mesenteric vessels.
    strands = np.exp(-((first / 0.22) ** 2) - (second / 0.22) ** 2)
    scene.hu += strands * inside * scene.rng.uniform(60, 150)


def _tube(
    scene: Scene, points: np.ndarray, radii: np.ndarray, rough: float = 1.5
) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray] | None:
    """Signed distance (mm) to a tube of balls in its box, and the height (mm to the front) above its centre line."""
    h, shape = scene.spacing, scene.hu.shape
    reach = radii[:, None] + rough + 3
    low = np.floor((points - reach).min(0) / h).astype(int).clip(0)
    high = np.minimum(np.ceil((points + reach).max(0) / h).astype(int) + 1, shape)
    if (high <= low).any():
        return None
    size = tuple(high - low)
    distance = np.full(size, 99.0, dtype=np.float32)
    height = np.zeros(size, dtype=np.float32)
    for point, radius in zip(points, radii, strict=True):
        span = radius + rough + 2.5
        a = np.maximum(np.floor((point - span) / h).astype(int), low) - low
        b = np.minimum(np.ceil((point + span) / h).astype(int) + 1, high) - low
        if (b <= a).any():
            continue
        x, y, z = (((np.arange(a[i], b[i]) + low[i]) * h - point[i]).astype(np.float32) for i in range(3))
        away = np.sqrt((x**2)[:, None, None] + (y**2)[None, :, None] + (z**2)[None, None]) - np.float32(radius)
        part = tuple(slice(i, j) for i, j in zip(a, b, strict=True))
        nearer = away < distance[part]
        distance[part] = np.where(nearer, away, distance[part])
        height[part] = np.where(nearer, y[None, :, None], height[part])
    box = tuple(slice(i, j) for i, j in zip(low, high, strict=True))
    distance += rough * scene.grain[box]
    return box, distance, height


def _bowel_loop(scene: Scene, points: np.ndarray, radii: np.ndarray, colon: bool) -> None:
    """A tube with a wall and what is in it: fluid, stool, contrast, and gas in the front part of some."""
    rng = scene.rng
    tube = _tube(scene, points, radii)
    if tube is None:
        return
    box, distance, height = tube
    wall_mm, wall = rng.uniform(1.5, 3.5), scene.tissue(35, 90)
    kind = rng.rand()
    content = scene.tissue(0, 35)
    texture = 6.0
    if kind < (0.1 if colon else 0.2):
        content = rng.uniform(120, 450)  # oral contrast
    elif colon and kind < 0.75:
        content, texture = scene.tissue(-60, 40), rng.uniform(30, 110)  # stool, full of small bubbles
    value = content + texture * scene.grain[box]
    if colon and texture > 20:
        value = np.where(scene.grain[box] < -1.3, -400.0, value)
    if rng.rand() < (0.65 if colon else 0.35):
        level = rng.uniform(-0.6, 0.7) * radii.mean()
        value += np.clip((height - level) / scene.spacing + 0.5, 0, 1) * (GAS_HU - value)
    lumen = np.clip(0.5 - (distance + wall_mm) / scene.spacing, 0, 1)
    scene.lay(box, distance, wall + lumen * (value - wall))


def _bowel(scene: Scene, marks: dict[str, np.ndarray], depth: np.ndarray) -> None:
    """Colon along both flanks and small bowel loops that wander through the cavity."""
    rng, step = scene.rng, 2 * scene.spacing

    def room(point: np.ndarray) -> float:
        index = np.round(point / step).astype(int)
        inside = (index >= 0).all() and (index < depth.shape).all()
        return float(depth[tuple(index)]) if inside else 0.0

    middle, top = marks["promontory"][0], depth.shape[2] * step
    for side in (-1, 1):  # left: descending colon; right: caecum and ascending colon
        centre, radius = [], rng.uniform(13, 22) if side > 0 else rng.uniform(10, 18)
        low = marks["promontory"][2] - rng.uniform(10, 40)
        for z in np.arange(low, top + 10, 4.0):
            k = min(int(round(z / step)), depth.shape[2] - 1)
            x = np.arange(depth.shape[0]) * step
            deep = (depth[:, :, k] > radius * 0.8) & ((side * (x - middle)) > 30)[:, None]
            if not deep.any():
                continue
            i, j = np.nonzero(deep)
            score = side * i * 1.0 - 0.7 * j  # far out and to the back
            best = np.argsort(score)[-5:]
            centre.append([i[best].mean() * step, j[best].mean() * step, z])
        if len(centre) > 4:
            line = ndimage.gaussian_filter1d(np.array(centre), 3.0, axis=0)
            haustra = 1 + 0.16 * np.sin(np.arange(len(line)) * 4 / rng.uniform(4, 7))
            _bowel_loop(scene, line, radius * haustra, colon=True)
    candidates = np.argwhere(depth > 12) * step
    candidates = candidates[candidates[:, 2] > marks["symphysis"][2] + 35]
    if len(candidates) == 0:
        return
    count = int(np.clip(len(candidates) * step**3 / 90_000, 3, 45) * rng.uniform(0.6, 1.2))
    for _ in range(count):
        point = candidates[rng.randint(len(candidates))].astype(float)
        heading = rng.normal(size=3)
        line = [point]
        for _ in range(rng.randint(25, 90)):
            heading = heading / np.linalg.norm(heading) + rng.normal(0, 0.35, 3)
            for _ in range(4):
                ahead = point + 4 * heading / np.linalg.norm(heading)
                if room(ahead) > 9:
                    point = ahead
                    line.append(point)
                    break
                heading = rng.normal(size=3)
        line = ndimage.gaussian_filter1d(np.array(line), 1.5, axis=0, mode="nearest")
        radii = rng.uniform(7, 13) * (1 + 0.15 * np.sin(np.arange(len(line)) / 3.0 + rng.uniform(0, 6)))
        _bowel_loop(scene, line, radii, colon=rng.rand() < 0.15)


def _ellipsoid(
    scene: Scene, centre: np.ndarray, radii: np.ndarray, tilt: float = 0.0, rough: float = 2.0
) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray] | None:
    """Signed distance (mm) to an ellipsoid turned by ``tilt`` (radians) about the right axis, and the height over it."""
    h, shape = scene.spacing, scene.hu.shape
    reach = radii.max() + rough + 4
    low = np.floor((centre - reach) / h).astype(int).clip(0)
    high = np.minimum(np.ceil((centre + reach) / h).astype(int) + 1, shape)
    if (high <= low).any():
        return None
    x, y, z = np.meshgrid(
        *((np.arange(low[i], high[i]) * h - centre[i]).astype(np.float32) for i in range(3)), indexing="ij", sparse=True
    )
    along, up = np.cos(tilt) * y + np.sin(tilt) * z, np.cos(tilt) * z - np.sin(tilt) * y
    box = tuple(slice(i, j) for i, j in zip(low, high, strict=True))
    scaled = np.sqrt((x / radii[0]) ** 2 + (along / radii[1]) ** 2 + (up / radii[2]) ** 2)
    distance = ((scaled - 1) * radii.mean()).astype(np.float32) + rough * scene.grain[box]
    return box, distance, np.broadcast_to(y, distance.shape)


def _bladder(scene: Scene, marks: dict[str, np.ndarray]) -> None:
    rng = scene.rng
    radii = np.array([1.15, 0.9, 0.85]) * rng.uniform(20, 40) * rng.uniform(0.85, 1.15, 3)
    centre = np.array([marks["symphysis"][0], float(marks["pubis_back"]), marks["symphysis"][2]])
    centre += [rng.uniform(-5, 5), -radii[1] - rng.uniform(0, 5), radii[2] * rng.uniform(0.5, 1.0) + 5]
    shape = _ellipsoid(scene, centre, radii, rng.uniform(-0.3, 0.3), rough=1.0)
    if shape is None:
        return
    box, distance, height = shape
    wall = scene.tissue(25, 60)
    value = scene.tissue(-3, 18) + 3 * scene.grain[box]
    if rng.rand() < 0.15:  # contrast that has sunk to the back
        value += np.clip(0.5 - (height - rng.uniform(-0.6, 1.0) * radii[1]) / 6, 0, 1) * rng.uniform(150, 500)
    inner = np.clip(0.5 - (distance + rng.uniform(2, 4.5)) / scene.spacing, 0, 1)
    scene.lay(box, distance, wall + inner * (value - wall), lock=True)
    marks["bladder"], marks["bladder_radii"] = centre, radii


def _uterus(scene: Scene, marks: dict[str, np.ndarray]) -> None:
    """Uterus behind and above the bladder with cervix below; ovaries beside it. Small or missing in some."""
    rng = scene.rng
    if "bladder" not in marks or rng.rand() < 0.15:
        return
    centre, radii = marks["bladder"], marks["bladder_radii"]
    size = rng.uniform(0.6, 1.25)
    body = centre + [rng.uniform(-12, 12), -radii[1] * 0.75 - 12, radii[2] * 0.75 + 8]
    value = scene.tissue(45, 110)
    shape = _ellipsoid(scene, body, size * np.array([24, 32, 21]), rng.uniform(-0.7, 0.5))
    if shape is not None:
        box, distance, _ = shape
        core = np.clip(0.5 - (distance + 15 * size) / 4, 0, 1)
        scene.lay(box, distance, value + core * rng.uniform(-45, 10) + 7 * scene.grain[box], lock=True)
    cervix = np.array([centre[0], centre[1] - radii[1] - 9, centre[2] - 4])
    tube = _tube(scene, np.linspace(cervix - [0, -6, 35], body, 12), np.full(12, 13.0 * size**0.5))
    if tube is not None:
        scene.lay(tube[0], tube[1], value - 8 + 6 * scene.grain[tube[0]], lock=True)
    for side in (-1, 1):
        ovary = body + [side * rng.uniform(28, 42), rng.uniform(-12, 8), rng.uniform(-8, 12)]
        shape = _ellipsoid(scene, ovary, rng.uniform(8, 15, 3))
        if shape is not None:
            scene.lay(shape[0], shape[1], scene.tissue(15, 50))


def _rectum(scene: Scene, marks: dict[str, np.ndarray]) -> None:
    """Rectum in front of the sacrum, on as sigmoid colon into the left iliac fossa, down as anal canal."""
    rng, h = scene.rng, scene.spacing
    middle, tip, promontory = marks["promontory"][0], marks["tip"], marks["promontory"]
    sacrum = scene.labels == SACRUM
    near = sacrum[max(0, int((middle - 15) / h)) : int((middle + 15) / h) + 1].any(0)
    radius = rng.uniform(12, 20)
    line = []
    for z in np.arange(tip[2] - 5, tip[2] + 0.75 * (promontory[2] - tip[2]), 4.0):
        front = np.flatnonzero(near[:, int(np.clip(z / h, 0, near.shape[1] - 1))])
        y = (front[-1] * h if len(front) else tip[1]) + radius + 6
        line.append([middle + 5 * np.sin(z / 25), y, z])
    anus = np.array([middle, tip[1] + 4, tip[2] - 52])
    start = np.linspace(anus, np.array(line[0]) - [0, 0, 4], 12)
    canal = _tube(scene, start, np.linspace(11, 12, 12), rough=1.0)
    if canal is not None:
        scene.lay(canal[0], canal[1], scene.muscle + 5, lock=True)
    left = np.array([middle - rng.uniform(55, 80), promontory[1] + rng.uniform(5, 35), promontory[2] - rng.uniform(5, 40)])
    swing = np.array([middle + rng.uniform(-10, 30), promontory[1] + rng.uniform(10, 35), promontory[2] - rng.uniform(25, 55)])
    t = np.linspace(0, 1, 30)[1:, None]
    sigmoid = (1 - t) ** 2 * np.array(line[-1]) + 2 * t * (1 - t) * swing + t**2 * left
    _bowel_loop(scene, sigmoid, np.full(len(sigmoid), rng.uniform(9, 14)), colon=True)
    line = ndimage.gaussian_filter1d(np.array(line), 2.0, axis=0, mode="nearest")
    fullness = radius * (1 + 0.2 * np.sin(np.arange(len(line)) / 3 + rng.uniform(0, 6)))
    _bowel_loop(scene, line, fullness, colon=True)


def _perineum(scene: Scene, marks: dict[str, np.ndarray]) -> None:
    """Soft tissue in the middle under the pubic arch, and the pelvic floor from symphysis to coccyx."""
    rng = scene.rng
    start, end = marks["symphysis"], marks["tip"]
    low = start + [0, -22, -38]
    shape = _ellipsoid(scene, low, np.array([rng.uniform(12, 20), 30.0, 24.0]), 0.3)
    if shape is not None:
        scene.lay(shape[0], shape[1], scene.muscle - 12 + 8 * scene.grain[shape[0]])
    for side in (-1, 1):
        edge = np.linspace(start + [side * 12, -12, -16], end + [side * 6, 8, -8], 14)
        edge[:, 0] += side * 16 * np.sin(np.linspace(0, np.pi, 14))
        edge[:, 2] -= 10 * np.sin(np.linspace(0, np.pi, 14))
        tube = _tube(scene, edge, np.full(14, rng.uniform(3.5, 5.5)))
        if tube is not None:
            scene.lay(tube[0], tube[1], scene.muscle)


def _vessels(scene: Scene, marks: dict[str, np.ndarray]) -> None:
    """Aorta and cava, the iliac vessels along the inner edge of psoas, the femoral vessels under sartorius."""
    rng, h = scene.rng, scene.spacing
    middle, promontory = marks["promontory"][0], marks["promontory"]
    arterial = scene.tissue(35, 65) if rng.rand() < 0.5 else rng.uniform(90, 320)
    venous = scene.tissue(30, 60) if arterial < 80 else rng.uniform(40, 1.0 * arterial)
    fork = promontory[2] + rng.uniform(15, 40)
    spine = scene.labels == SPINE
    trunk = []
    for z in np.arange(fork, scene.hu.shape[2] * h, 6.0):
        front = np.flatnonzero(spine[:, :, min(int(z / h), spine.shape[2] - 1)].any(0))
        if len(front):
            trunk.append([middle, front[-1] * h + 10, z])
    ahead = trunk[0][1] if trunk else promontory[1] + 12
    for offset, radius, value in ((-11, rng.uniform(7, 10), arterial), (13, rng.uniform(8, 12), venous)):
        if len(trunk) > 1:
            line = _dense(np.array(trunk) + [offset, 0, 0])
            tube = _tube(scene, line, np.full(len(line), radius), rough=0.5)
            if tube is not None:
                scene.lay(tube[0], tube[1], value, lock=True)
    for side in (-1, 1):
        path = [np.array([middle + side * 8, ahead, fork])]
        for label, rows, inward, forward in ((PSOAS, 7, 8.0, 2.0), (SARTORIUS, 6, 14.0, -14.0)):
            voxels = np.argwhere(scene.labels == label) * h
            voxels = voxels[side * (voxels[:, 0] - middle) > 0]
            if len(voxels) < 50:
                continue
            high = fork - 25 if label == PSOAS else path[-1][2] - 25
            for z in np.linspace(high, max(voxels[:, 2].min(), high - 170), rows):
                here = voxels[np.abs(voxels[:, 2] - z) < 4]
                if len(here) > 5:
                    edge = here[:, 0].min() if side > 0 else here[:, 0].max()
                    x = edge - side * inward if label == PSOAS else here[:, 0].mean() - side * inward
                    path.append(np.array([x, here[:, 1].mean() + forward + (4 if label == PSOAS else 0), z]))
        if len(path) < 3:
            continue
        line = ndimage.gaussian_filter1d(_dense(np.array(path)), 5.0, axis=0, mode="nearest")
        for shift, radius, value in (((side * 3, 4, 0), 4.5, arterial), ((-side * 6, -6, 0), 6.0, venous)):
            taper = np.linspace(1.15, 0.8, len(line)) * radius * rng.uniform(0.85, 1.15)
            tube = _tube(scene, line + np.array(shift), taper, rough=0.3)
            if tube is not None:
                scene.lay(tube[0], tube[1], value, lock=True)


def _dense(path: np.ndarray, step: float = 3.0) -> np.ndarray:
    """A polyline (N, 3) in mm with a point every ``step`` mm."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    where = np.arange(0, length[-1] + step, step)
    return np.stack([np.interp(where, length, path[:, axis]) for axis in range(3)], 1)


def _upper_organs(scene: Scene, marks: dict[str, np.ndarray]) -> None:
    """Kidneys and liver where the field of view reaches far enough up."""
    rng, promontory = scene.rng, marks["promontory"]
    top = scene.hu.shape[2] * scene.spacing
    kidney = scene.tissue(25, 45) if rng.rand() < 0.5 else rng.uniform(90, 220)
    for side in (-1, 1):
        centre = promontory + [side * rng.uniform(58, 70), -22, rng.uniform(120, 145)]
        shape = _ellipsoid(scene, centre, np.array([27, 26, 54]) * rng.uniform(0.85, 1.1))
        if centre[2] < top + 45 and shape is not None:
            box, distance, _ = shape
            hilum = np.clip(0.5 - (distance + 16) / 5, 0, 1)
            scene.lay(box, distance, kidney + hilum * (scene.fat - kidney) * 0.7, lock=True)
    centre = promontory + [rng.uniform(60, 75), 45, rng.uniform(190, 215)]
    shape = _ellipsoid(scene, centre, np.array([75, 85, 80]), rough=3.0)
    if centre[2] < top + 75 and shape is not None:
        scene.lay(shape[0], shape[1], scene.tissue(40, 120) + 5 * scene.grain[shape[0]], lock=True)
