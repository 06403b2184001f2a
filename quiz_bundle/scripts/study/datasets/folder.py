"""The folder of a data set: volumes, tables of landmarks, the datalist, and the settings that it was made with."""

from __future__ import annotations

import csv
import io
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from monai.data import MetaTensor

from ...core.atomic import write_whole
from ...core.errors import InputError
from ...images.landmarks import PAIR_COLUMNS, SECTIONS, PairedLandmarks
from ...images.nifti import write_nifti

DATALIST, SETTINGS = "datalist.json", "dataset.json"


def open_folder(output_dir: str | Path, settings: Mapping[str, object]) -> Path:
    """Make a data set's folder, or go on in one that was begun with the same settings.

    Raises:
        InputError: it cannot be written to, or another data set is in it.
    """
    folder = Path(output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / SETTINGS).exists():
            _check_same(folder / SETTINGS, settings)
        else:
            write_whole(folder / SETTINGS, json.dumps(settings, indent=1) + "\n")
    except OSError as error:
        raise InputError(folder, "a folder that can be written", str(error), "name another --output_dir") from error
    return folder


def _check_same(file: Path, settings: Mapping[str, object]) -> None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = {}
    wanted = json.loads(json.dumps(settings))
    for key in wanted:
        if not isinstance(found, dict) or found.get(key) != wanted[key]:
            there = f"{found.get(key)!r}" if isinstance(found, dict) else "something else"
            remedy = "name another --output_dir, or remove this folder"
            raise InputError(file, f"a data set with {key} {wanted[key]!r}", there, remedy)


def write_datalist(folder: Path, sections: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
    """Write the datalist whole; the paths of its cases are relative to the folder."""
    ordered = {name: list(sections[name]) for name in SECTIONS if name in sections}
    write_whole(folder / DATALIST, json.dumps(ordered, indent=1) + "\n")


def write_volume(path: Path, volume: MetaTensor) -> None:
    """Write a volume (1, I, J, K) in HU as int16 NIfTI, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".unfinished-{uuid.uuid4().hex}.nii.gz")
    try:
        hu = volume.as_tensor()[0].round().clamp(-32768, 32767).to(torch.int16)
        write_nifti(part, hu, volume.affine)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_landmarks(path: Path, landmarks: PairedLandmarks) -> None:
    """Write pairs of points as a CSV in RAS mm, to 1e-6 mm, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PAIR_COLUMNS)
    for label, a, b in zip(landmarks.labels, landmarks.fixed_mm.tolist(), landmarks.moving_mm.tolist(), strict=True):
        writer.writerow([label, *(f"{value:.7f}" for value in a + b)])
    write_whole(path, text.getvalue())
