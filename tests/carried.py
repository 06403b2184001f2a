"""A planning and a brachytherapy series with structures and a dose of the latter, for tests of what is carried over."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from dicom_studies import Patient, Study, write_series
from rt_objects import Drawn, ball, write_dose, write_structures
from scripts.core.geometry import ijk_to_mm
from scripts.core.rigid import RigidTransform
from scripts.images.dicom.series import load_series
from scripts.images.volume_checks import make_volume

PATIENT = Patient("Phantom^Pelvis", "QUIZ-1", "19500101", "F")
FIT = RigidTransform.about([9.0, -14.0, 21.0], [35.0, -60.0, 120.0], [0.0, 0.0, 0.0])  # fixed to moving


def axial(spacing, shape, centre):
    """The affine ijk -> RAS mm of an axial scan as DICOM has it, rows to the left and columns to the back."""
    affine = torch.diag(torch.tensor([-spacing[0], -spacing[1], spacing[2], 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.as_tensor(centre, dtype=torch.float64) - affine[:3, :3] @ (torch.tensor(shape) - 1.0).double() / 2
    return affine


def series_at(folder, study, affine, shape, seed=0, **options):
    """A CT series of noise, written and read again: only where it lies matters here."""
    values = torch.randint(-200, 300, (1, *shape), generator=torch.Generator().manual_seed(seed)).float()
    write_series(folder, make_volume(values, affine), study, **options)
    return load_series(folder)


@dataclass
class Ward:
    """Two series of one patient, what was drawn on the moving one, and its dose.

    Attributes:
        middle_mm: (3,), of the moving scan, which the map takes to the fixed one's middle.
        tandem: (7, 3), a curve; ``points``: (2, 3), two single points; moving RAS mm.
    """

    folder: Path
    studies: dict
    fixed: object
    moving: object
    middle_mm: np.ndarray
    tandem: np.ndarray
    points: np.ndarray

    @property
    def structures(self):
        return self.folder / "RS.dcm"

    @property
    def dose(self):
        return self.folder / "RD.dcm"

    def heights(self):
        """Z of the moving scan's slices."""
        where = np.zeros((self.moving.shape[3], 3))
        where[:, 2] = np.arange(self.moving.shape[3])
        return ijk_to_mm(torch.from_numpy(where), self.moving.affine)[:, 2].numpy()

    def draw(self, drawn, name="RS.dcm", **options):
        """Write structures of the moving series."""
        header, images = self.moving.meta["series"].header, [uid for _, uid in self.moving.meta["series"].instances]
        return write_structures(
            self.folder / name, self.studies["moving"], header.SeriesInstanceUID, images, drawn, **options
        )


def make_ward(folder, spacing=(3.0, 3.0, 3.0)):
    """A planning series and a smaller, axial brachytherapy series with a target, a tandem and two points."""
    studies = {"fixed": Study(PATIENT), "moving": Study(PATIENT, description="BT")}
    middle = np.array([40.0, -55.0, 310.0])
    centre = FIT.inverse()(torch.from_numpy(middle)[None])[0]
    fixed = series_at(folder / "plan", studies["fixed"], axial((4.0, 4.0, 3.0), (40, 40, 60), centre), (40, 40, 60))
    moving = series_at(folder / "bt", studies["moving"], axial(spacing, (40, 36, 34), middle), (40, 36, 34), 1)
    tandem = middle + np.array([[0, 2 * t * t, 10 * t] for t in np.linspace(-3, 3, 7)])
    ward = Ward(folder, studies, fixed, moving, middle, tandem, middle + np.array([[20.0, 0, 0], [-20, 0, 0]]))
    heights = ward.heights()
    target = ball(middle + [3.0, 2.0, 0.7], 20.0, heights)
    rows = [int(np.argmin(np.abs(heights - c[0, 2]))) for c in target]
    ward.draw(
        [
            Drawn(3, "HR-CTV", [("CLOSED_PLANAR", c) for c in target], "CTV", (255, 0, 128), rows),
            Drawn(7, "Tandem", [("OPEN_NONPLANAR", tandem)], "BRACHY_CHNL", (0, 255, 0)),
            Drawn(8, "Points A", [("POINT", p[None]) for p in ward.points], "BRACHY_SRC_APP", (0, 0, 255)),
        ]
    )
    write_dose(ward.dose, studies["moving"], *smooth_dose(middle))
    return ward


def smooth_dose(middle, size=(30, 28, 26), step=2.5):
    """A dose without edges, 7 Gy where it is largest, on an axial grid, and the grid's affine."""
    affine = axial((step, step, step), size, middle).numpy()
    where = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1).reshape(-1, 3)
    return dose_at(where @ affine[:3, :3].T + affine[:3, 3], middle).reshape(size), affine


def dose_at(points, middle):
    """The dose in Gy at points (N, 3): so smooth that straight lines between grid points are right to 0.04 % of 7 Gy."""
    away = (points - middle) / [90.0, 80.0, 100.0]
    return 7 * np.exp(-0.5 * (away**2).sum(1))
