"""One picture of a registration for a page or a slide: three planes, before above after."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from ..core.atomic import write_figure
from ..core.rigid import RigidTransform
from ..images.volumes import load_volume
from ..registration.result import Matches, Registration, Verdict
from ..report.page.figures import Picture, draw_pictures

WIDTH_INCHES, DPI = 10.0, 110
GAP, BAND = 0.06, 0.3  # inches between pictures, and for the words above a row


def draw_figure(report: Mapping, fixed: str | Path, moving: str | Path, target: Path) -> None:
    """Draw the overlays of a finished registration into one PNG file, whole or not at all.

    Args:
        report: content of its report.json; one without a fit gives the upper row only.
        fixed, moving: the two scans' files.
        target: where to write.
    """
    matrix = report["fixed_to_moving_ras"]
    fit = None if matrix is None else RigidTransform(torch.tensor(matrix, dtype=torch.float64))
    nothing = Matches(*(torch.zeros(0, 3, dtype=torch.float64),) * 2, *(torch.zeros(0),) * 2, torch.zeros(0).bool())
    verdict = Verdict(report["accepted"], report["reasons"], 0.0, (0.0, 0.0), 0.0)
    pictures = draw_pictures(Registration(load_volume(fixed), load_volume(moving), fit, nothing, verdict))
    start = "centres put on each other" if pictures.centred else "as the files lie"
    words = {"before": f"Before: {start}", "after": "After"}
    marks = report.get("landmarks")
    if marks and marks["tre_mean_mm"] is not None:
        words["after"] += f": mean error {marks['tre_mean_mm']:.1f} mm at {len(marks['errors'])} points of known truth"
    rows = [(words[section], pictures.of(section)) for section in words if pictures.of(section)]
    target.parent.mkdir(parents=True, exist_ok=True)
    write_figure(target, _figure(rows), dpi=DPI, metadata={"Software": None})


def _figure(rows: list[tuple[str, list[Picture]]]) -> Figure:
    """Rows of pictures, each with words above it, at one scale."""
    wide = max(sum(image.width for image in images) for _, images in rows)
    scale = (WIDTH_INCHES - 4 * GAP) / wide
    tall = [max(image.height for image in images) * scale for _, images in rows]
    height = sum(tall) + len(rows) * (BAND + GAP)
    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, facecolor="black")
    top = height
    for (words, images), size in zip(rows, tall, strict=True):
        middle = (top - BAND * 0.55) / height
        figure.text(GAP / WIDTH_INCHES, middle, words, fontsize=11, color="white", va="center")
        left, top = GAP, top - BAND
        for image in images:
            w, h = image.width * scale, image.height * scale
            axes = figure.add_axes((left / WIDTH_INCHES, (top - (size + h) / 2) / height, w / WIDTH_INCHES, h / height))
            axes.imshow(imread(io.BytesIO(image.jpeg), format="jpeg"), aspect="auto", interpolation="antialiased")
            axes.set_axis_off()
            left += w + GAP
        top -= size + GAP
    return figure
