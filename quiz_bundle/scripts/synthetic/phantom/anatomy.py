"""One patient of the phantom: tissues in the order of painting, and the map from the patient to the template."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..phantom import bones, organs, soft, trunk
from .canvas import Canvas, Layer, look_up
from .outline import Outline
from .shapes import Cone

LANDMARKS = (
    "femoral_head_right",
    "femoral_head_left",
    "asis_right",
    "asis_left",
    "pubic_symphysis",
    "sacral_promontory",
)


class Anatomy:
    """The body of one patient in her own axes (x right, y front, z head, mm; origin midway between the hip joints).

    A patient point becomes a template point by a smooth random shift and a division by the patient's size per axis. The
    tissues are painted in template coordinates.

    Args:
        seed: everything about the patient follows from it.
        low, high: heights in mm of the part of the body that will be looked at.
    """

    GRAIN_MM = 4.0
    WARP_MM = 14.0

    def __init__(self, seed: int, low: float, high: float) -> None:
        rng = np.random.default_rng([seed, 0])
        common = rng.normal(0, 0.04)
        self.scale = tuple(float(np.clip(1 + common + rng.normal(0, 0.03), 0.88, 1.12)) for _ in range(3))
        self.warp_low, self.warp_high = (-220.0, -180.0, -520.0), (220.0, 180.0, 640.0)
        nodes = [int(round((b - a) / self.WARP_MM)) + 1 for a, b in zip(self.warp_low, self.warp_high, strict=True)]
        self.warp = torch.from_numpy(np.stack([self._smooth(rng, nodes, 3.0, 2.4) for _ in range(3)]))
        grain = [104, 80, 136]
        fine, coarse = self._smooth(rng, grain, 0.7, 0.8), self._smooth(rng, grain, 2.5, 0.6)
        self.grain = torch.from_numpy(fine + coarse)[None].float()
        self.density = float(rng.uniform(80, 190))
        self.outline = Outline(rng)
        self.layers, self.womb = self._layers(rng, low, high)
        self.landmarks = self._landmarks()

    @staticmethod
    def _smooth(rng: np.random.Generator, nodes: list[int], sigma: float, spread: float) -> np.ndarray:
        noise = ndimage.gaussian_filter(rng.standard_normal(nodes), sigma, mode="reflect")
        return np.clip(noise / noise.std(), -3, 3) * spread

    def _layers(self, rng: np.random.Generator, low: float, high: float) -> tuple[list[Layer], organs.Womb]:
        """All tissues in the order of painting; the draws do not depend on low and high."""
        tone = float(rng.uniform(0.88, 1.1))
        self.wings = wings = {side: bones.draw_wing(rng, side) for side in (1, -1)}
        body = soft.body(rng)
        bowel = organs.bowel(rng, self.outline.front_at)
        rectum = organs.rectum(rng)
        pelvic, womb = organs.pelvic_organs(rng)
        upper = organs.upper_organs(rng)
        muscles = [layer for side in (1, -1) for layer in soft.muscles(rng, side, wings[side], tone)]
        vessels = soft.vessels(rng)
        hips = [layer for side in (1, -1) for layer in bones.pelvis(rng, side, wings[side], self.density)]
        joint = Layer([Cone((0, 45, -7), (0, 39, -26), 8, 7, (0.4, 1, 1))], 95, 12)
        femora = [layer for side in (1, -1) for layer in bones.femur(rng, side, self.density)]
        spine, chain = trunk.spine(rng, self.density + 20)
        cage = trunk.ribs(rng, self.outline.ring, chain, self.density)
        tail = bones.sacrum(rng, self.density)
        layers = [*body, *upper, *bowel, *muscles, *rectum, *pelvic, *vessels, *tail, *hips, joint]
        layers += [*femora, *spine, *cage]
        reach = (low / self.scale[2] - 20, high / self.scale[2] + 20)
        return [layer for layer in layers if layer.high[2] > reach[0] and layer.low[2] < reach[1]], womb

    def _landmarks(self) -> dict[str, Tensor]:
        """The six landmarks (3,) in patient mm."""
        hip = np.array(bones.HIP)
        spines = [bones.asis(side, self.wings[side][0]) for side in (1, -1)]
        rows = [hip, hip * [-1, 1, 1], *spines, bones.SYMPHYSIS, bones.PROMONTORY]
        template = torch.tensor(np.asarray(rows, dtype=float))
        return dict(zip(LANDMARKS, self.from_template(template), strict=True))

    def bounds(self) -> tuple[list[float], list[float]]:
        """Corners (3,), (3,) of a box in patient mm that holds the body; endless along z."""
        low, high = self.outline.extent()
        slack = float(self.warp.abs().amax())
        low = [v * s - slack for v, s in zip(low, self.scale, strict=True)]
        return low, [v * s + slack for v, s in zip(high, self.scale, strict=True)]

    def womb_points(self) -> Tensor:
        """Cervix, fundus and introitus (3, 3) in patient mm."""
        return self.from_template(torch.tensor(np.stack([self.womb.cervix, self.womb.fundus, self.womb.introitus])))

    def to_template(self, xyz: Tensor) -> Tensor:
        """Patient coordinates (3, ...) in mm to template coordinates (3, ...)."""
        scale = torch.tensor(self.scale, dtype=xyz.dtype).reshape((3,) + (1,) * (xyz.dim() - 1))
        return (xyz + look_up(self.warp, tuple(xyz), self.warp_low, self.warp_high)) / scale

    def from_template(self, points: Tensor) -> Tensor:
        """Template points (N, 3) to patient points (N, 3) in mm, by iteration to 1e-9 mm."""
        scale = torch.tensor(self.scale, dtype=torch.float64)
        points = points.to(torch.float64) * scale
        found = points
        for _ in range(60):
            found = points - look_up(self.warp, tuple(found.T), self.warp_low, self.warp_high).T
        return found

    def paint(self, patient_xyz: Tensor, edge: float, step: float) -> Tensor:
        """HU (I, J, K) at patient coordinates (3, I, J, K), float32.

        Args:
            patient_xyz: mm; not changed.
            edge: width of soft edges in mm.
            step: diagonal of a voxel in mm.
        """
        xyz = self.to_template(patient_xyz)
        half = [n * self.GRAIN_MM / 2 for n in self.grain.shape[1:]]
        (grain,) = look_up(self.grain, tuple(xyz), [-h for h in half], half, "reflection")
        canvas = Canvas(xyz, torch.full(xyz.shape[1:], -1000.0), grain, edge, step=step)
        self.outline.fields(canvas)
        for layer in self.layers:
            layer.paint(canvas)
        return canvas.hu
