"""The parts of the body in colours, and what each of them did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.data import MetaTensor
from scipy.spatial import cKDTree
from torch import Tensor

from ...core.geometry import as_affine
from ...registration.result import Registration
from .cuts import Plane, cut_points, look
from .templating import number, percent

# Told apart with every kind of colour vision; the first is the part whose map is handed out.
COLOURS = ("#f0e442", "#56b4e9", "#d55e00", "#009e73", "#cc79a7")
REACH_MM = 25.0  # from the nearest known place of a part


def tinted(registration: Registration, fixed: MetaTensor, plane: Plane, box: Tensor, at: Tensor) -> tuple[Tensor, float]:
    """The fixed scan in a plane (rows, columns, 3), each part in its colour, and the pixel size in mm."""
    points, step = cut_points(plane, box, at)
    grey, within = look(fixed, as_affine(fixed.affine), points)
    places = torch.cat([part.places_mm for part in registration.parts])
    owners = torch.repeat_interleave(
        torch.arange(len(registration.parts)), torch.tensor([len(part.places_mm) for part in registration.parts])
    )
    distance, nearest = cKDTree(places.numpy()).query(points.reshape(-1, 3).numpy(), distance_upper_bound=REACH_MM)
    known = torch.from_numpy(distance < REACH_MM).reshape(grey.shape)
    owner = owners[torch.from_numpy(nearest).clamp_max(len(owners) - 1)].reshape(grey.shape)
    colours = torch.tensor([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in COLOURS])
    tint = torch.where(known[..., None], colours[owner % len(COLOURS)], torch.tensor(0.6))
    return (grey * within)[..., None] * tint, step


def parts_rows(records: Sequence[Mapping]) -> list[tuple[str, ...]]:
    """The table of the parts: name, share, turn, shift, expected error."""
    return [
        (
            f"part {n}{' (this map)' if n == 1 else ''}",
            percent(part["share"]),
            number(part["turn_deg"]) + "°",
            number(part["shift_mm"], 1, "mm"),
            number(part["expected_tre_mm"], 1, "mm"),
        )
        for n, part in enumerate(records, 1)
    ]
