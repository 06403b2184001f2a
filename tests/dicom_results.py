"""Registrations of two DICOM series, made without a search, and what other readers say of the objects from them."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import torch
from dicom_studies import Patient, Study, write_series
from oracle import centred, scan
from scripts.core.rigid import RigidTransform
from scripts.images.dicom.series import load_series
from scripts.registration.result import Matches, Registration, Verdict

TURN = RigidTransform.about([12.0, -33.0, 101.0], [85.0, -140.0, 333.0], [20.0, -300.0, 40.0])
PATIENT = Patient("Phantom^Pelvis", "QUIZ-1", "19500101", "O")


def volume_of(folder, study, affine="LPS", **options):
    """A small scan of the body, written as a CT series and read again."""
    shape = (8, 9, 7)
    write_series(folder, scan(centred(affine, shape, 25.0), shape), study, **options)
    return load_series(folder)


def two_series(folder, fixed="LPS", moving="oblique", patients=(PATIENT, PATIENT), **options):
    """A planning and a brachytherapy study of one patient, each with a frame of reference of its own."""
    return (
        volume_of(folder / "plan", Study(patients[0]), fixed, **options),
        volume_of(folder / "bt", Study(patients[1], description="BT"), moving, **options),
    )


def result_of(fixed, moving, fit=TURN, accepted=True):
    """A registration of two volumes with a given map."""
    nothing = torch.zeros(0, dtype=torch.float64)
    matches = Matches(nothing.reshape(0, 3), nothing.reshape(0, 3), nothing, nothing, nothing.bool())
    verdict = Verdict(accepted, [] if accepted else ["Too few matches agree."], 2.5, (1.5, 4.0), 0.75)
    return Registration(fixed, moving, fit, matches, verdict)


def matrix_in(path):
    """The moving-to-fixed matrix (4, 4) of an object's file, LPS mm, as any reader finds it: by the frames' UIDs."""
    dataset = pydicom.dcmread(path)
    other = [item for item in dataset.RegistrationSequence if item.FrameOfReferenceUID != dataset.FrameOfReferenceUID]
    step = other[0].MatrixRegistrationSequence[0].MatrixSequence[0]
    return np.array([float(value) for value in step.FrameOfReferenceTransformationMatrix]).reshape(4, 4)


def series_of(volume):
    return volume.meta["series"]


def other_patient(pair, **values):
    for name, value in values.items():
        setattr(series_of(pair[1]).header, name, value)


def complaints(path):
    """What dciodvfy of dicom3tools has against a file: lines that begin with Error."""
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    found = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False)
    lines = (found.stdout + found.stderr).splitlines()
    assert any("SpatialRegistration" in line or "EncapsulatedPDF" in line for line in lines), "of another kind"
    return [line for line in lines if line.startswith("Error")]
