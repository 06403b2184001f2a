"""A registered pair to scroll through in the report page: coarse copies of both scans for NiiVue, and NiiVue itself.

NiiVue (BSD-2-Clause) is an optional extra, ``requirements-viewer.txt``. The package ``ipyniivue`` carries it as the text
that NiiVue puts into pages it saves itself; that text is read out of the package, whose Python part is never imported.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import json
import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ...core.geometry import as_affine, grid_affine
from ...core.rigid import RigidTransform
from ...images.volumes import make_volume, resample
from ...registration.result import Registration
from .cuts import WINDOW_HU, common_box, on_cpu
from .match_map import error_colours, match_error

STEPS_MM = (1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
MOST_VOXELS = 1_600_000  # of each scan in the page
MOST_POINTS = 600  # of the matches
MARGIN_MM = 20.0
GREYS = 128  # what noise adds beyond them would only make the page larger
SCRIPT = Path(__file__).with_name("templates") / "viewer.js"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Viewer:
    """What the page needs to show a pair; texts are base64 of gzip.

    Attributes:
        library: NiiVue as an ES module.
        notice: its licence.
        script: our own script, which the page's policy knows by its hash.
        fixed, moving: NIfTI files of both scans on one grid in the fixed world, moving through the fitted map.
        points: JSON of matches and landmarks, RAS mm of the fixed world.
        landmarks: whether there are any.
        step_mm: voxel size of both.
    """

    library: str
    notice: str
    script: str
    fixed: str
    moving: str
    points: str
    landmarks: bool
    step_mm: float

    @property
    def script_hash(self) -> str:
        """The script's hash as a Content-Security-Policy has it."""
        return "sha256-" + base64.b64encode(hashlib.sha256(self.script.encode()).digest()).decode()


def make_viewer(registration: Registration) -> Viewer | None:
    """The viewer for a result; None without NiiVue, without a fit, or where the scans do not meet under it."""
    found = niivue()
    if found is None or registration.fixed_to_moving is None:
        return None
    fixed, moving = on_cpu(registration.fixed), on_cpu(registration.moving)
    placed = torch.linalg.inv(registration.fixed_to_moving.matrix) @ as_affine(moving.affine)
    box = common_box(fixed, moving, placed, MARGIN_MM)
    if box is None:
        return None
    step, shape, affine = viewing_grid(box)
    scans = (fixed, make_volume(moving.as_tensor(), placed))
    greys = [_packed_scan(scan, affine, shape) for scan in scans]
    points = marked_points(registration)
    text = json.dumps(points, separators=(",", ":")).encode()
    return Viewer(*found, SCRIPT.read_text(encoding="utf-8"), *greys, _packed(text), bool(points["landmarks"]), step)


@lru_cache(maxsize=1)
def niivue() -> tuple[str, str] | None:
    """NiiVue as an ES module (base64 of gzip) and its licence; None if the extra is not installed or not as expected."""
    spec = importlib.util.find_spec("ipyniivue")
    if spec is None or not spec.submodule_search_locations:
        return None
    package = Path(spec.submodule_search_locations[0])
    try:
        text = (package / "static" / "widget.js").read_text(encoding="utf-8")
        notice = next(package.parent.glob("ipyniivue-*.dist-info/licenses/LICENSE")).read_text(encoding="utf-8")
        module = unquote(re.search(r'="(var%20[^"]{500000,})"', text)[1])
    except (OSError, StopIteration, TypeError):
        module = ""
    if not re.search(r"export\{[^}]*\bNiivue\b[^}]*\};?\s*$", module):
        logger.warning("the installed ipyniivue is not the one of requirements-viewer.txt: reports have no viewer")
        return None
    return _packed(module.encode()), notice


def viewing_grid(box: Tensor) -> tuple[float, list[int], Tensor]:
    """The finest grid along the world's axes over a box (2, 3) that the page can hold: step in mm, shape, affine."""
    extent = box[1] - box[0]
    for step in STEPS_MM:
        shape = [max(2, round(float(e) / step)) for e in extent]
        if np.prod(shape) <= MOST_VOXELS:
            break
    return step, shape, grid_affine(step, shape, box.mean(0))


def _packed_scan(scan: MetaTensor, affine: Tensor, shape: list[int]) -> str:
    """A scan on a grid as a NIfTI of 8-bit grey values; where it has no data 0, so that 1 is the darkest grey."""
    low, high = WINDOW_HU
    nothing = -4000.0
    hu = resample(scan, affine, shape, outside=nothing).as_tensor()[0]
    share = ((hu - low) / (high - low)).clamp(0, 1)
    grey = ((share * (GREYS - 1)).round() * (254 / (GREYS - 1))).round() + 1
    grey = torch.where(hu > nothing / 2, grey, torch.zeros(())).to(torch.uint8)
    image = nib.Nifti1Image(grey.numpy(), affine.numpy())
    image.header["descrip"] = b""
    return _packed(image.to_bytes())


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")


def marked_points(registration: Registration) -> dict:
    """Matches and landmarks as plain numbers: rows of x, y, z (RAS mm of the fixed world), and what tells them apart.

    A match is drawn where it was in the fixed scan, with the colour of its distance from the map. A landmark is drawn
    twice: where it was put in the fixed scan, and where the map takes its partner in the moving scan.
    """
    matches, fit = registration.matches, registration.fixed_to_moving
    error, _ = match_error(registration)
    rows = torch.linspace(0, len(matches) - 1, min(len(matches), MOST_POINTS)).round().long().unique()
    colours = error_colours(error[rows])
    found = [
        [*(round(value, 1) for value in place), colour, int(agrees)]
        for place, colour, agrees in zip(
            matches.fixed_mm[rows].tolist(), colours, matches.inlier[rows].tolist(), strict=True
        )
    ]
    return {"matches": found, "landmarks": _landmarks(registration, fit)}


def _landmarks(registration: Registration, fit: RigidTransform) -> list[list[float]]:
    """Rows of x, y, z in the fixed scan, then x, y, z of the partner through the map."""
    marks = registration.landmark_points
    if marks is None:
        return []
    both = torch.cat([marks.fixed_mm, fit.inverse()(marks.moving_mm)], -1)
    return [[round(value, 1) for value in row] for row in both.tolist()]
