"""The output files of one pair, each whole or not at all: transform, images, matches, answers, report."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ..core.bundle import versions
from ..core.errors import InputError
from ..core.geometry import as_affine, centre_mm, spacing_of
from ..images.landmarks import write_markups
from ..registration.result import Answers, ErrorBound, Matches, Registration
from .carried import carried_record
from .dicom.outputs import dicom_record, write_dicom
from .files import image_jobs, transform_text
from .identification import same_patient, series_record
from .page import render_page
from .page.figures import draw_pictures
from .page.viewer import make_viewer
from .parts import parts_record
from .quality import quality_record

OUTPUT_NAMES = (
    "fixed_to_moving.tfm",
    "moving_on_fixed.nii.gz",
    "moving_realigned.nii.gz",
    "moving_labels_on_fixed.nii.gz",
    "matches.csv",
    "queries_answered.csv",
    "queries_answered.mrk.json",
    "registration.dcm",
    "report.dcm",
    "structures.dcm",
    "dose.dcm",
    "report.html",
    "report.json",  # last: a folder that holds it holds the others too
)
MATCH_COLUMNS = (
    "fixed_x_mm", "fixed_y_mm", "fixed_z_mm", "moving_x_mm", "moving_y_mm", "moving_z_mm",
    "confidence", "cycle_error_mm", "inlier",
)  # fmt: skip
# The matcher's answer is called x, y, z, so that the file can be read as a file of points itself.
ANSWER_COLUMNS = (
    "label", "asked_x", "asked_y", "asked_z", "x", "y", "z", "confidence", "rigid_x", "rigid_y", "rigid_z",
)  # fmt: skip
# Options that say nothing about whose scan it is; everything else is left out of an anonymous report.
ANONYMOUS_OPTIONS = (
    "transform", "refine", "queries_in", "seed", "amp",
    "spacing_mm", "coarse_spacing_mm", "queries_per_pass", "hu_window", "fingerprint",
)  # fmt: skip


def write_outputs(
    registration: Registration, output_dir: str | Path, anonymous: bool = False, report_dicom: bool = False
) -> dict[str, Path]:
    """Write every output file of a registration and remove those of an earlier run that have no successor.

    The files are written in a folder beside their places and moved there when all are whole; ``report.json`` is
    taken away first and put back last, so that its presence says the set is complete.

    Args:
        registration: the result; a refused one is written like any other, one without a fit has no transform and
            no warped images.
        output_dir: the folder, made if need be.
        anonymous: leave out names, paths and options that could hold them; the inputs are called fixed and moving.
        report_dicom: write the report as a DICOM document too.

    Returns:
        The paths written, by file name.

    Raises:
        InputError: the folder cannot be written.
    """
    return write_set(output_dir, lambda folder: _stage(registration, folder, anonymous, report_dicom))


def write_set(output_dir: str | Path, stage: Callable[[Path], None]) -> dict[str, Path]:
    """Write a set of files as ``write_outputs`` does, those of ``OUTPUT_NAMES`` that ``stage`` writes into a folder."""
    output_dir = Path(output_dir)
    check_writable(output_dir)
    staging = None
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=output_dir))
        stage(staging)
        for name in reversed(OUTPUT_NAMES):
            if name == "report.json" or not (staging / name).exists():
                (output_dir / name).unlink(missing_ok=True)
        written = [name for name in OUTPUT_NAMES if (staging / name).exists()]
        for name in written:
            os.replace(staging / name, output_dir / name)
    except OSError as error:
        raise _unwritable(output_dir, error) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return {name: output_dir / name for name in written}


def set_aside(output_dir: str | Path, keep: bool = True) -> None:
    """Clear a folder of an earlier run's output files, so that a run that fails leaves nothing that looks like its result.

    Args:
        output_dir: the folder; need not be there.
        keep: move them to ``previous`` in it, in the place of what that held; otherwise they are deleted, there too.

    Raises:
        InputError: the folder cannot be written.
    """
    output_dir = Path(output_dir)
    check_writable(output_dir)
    previous = output_dir / "previous"
    try:
        for left in output_dir.glob(".unfinished-*"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        earlier = [name for name in reversed(OUTPUT_NAMES) if os.path.lexists(output_dir / name)]
        for name in OUTPUT_NAMES if earlier or not keep else ():
            (previous / name).unlink(missing_ok=True)
        for name in earlier:
            if keep:
                previous.mkdir(exist_ok=True)
                os.replace(output_dir / name, previous / name)
            else:
                (output_dir / name).unlink()
        if not keep and previous.is_dir() and not any(previous.iterdir()):
            previous.rmdir()
    except OSError as error:
        raise _unwritable(output_dir, error) from error


def check_writable(output_dir: str | Path) -> None:
    """Refuse a folder that cannot be made or written, leaving no trace of the trial.

    Raises:
        InputError: the path or a parent of it is no folder, is read-only, or an output's place is taken by a folder.
    """
    output_dir = Path(output_dir)
    try:
        folder = output_dir.absolute()
        while not os.path.lexists(folder):
            folder = folder.parent
        with tempfile.NamedTemporaryFile(prefix=".unfinished-", dir=folder):
            pass
        for name in OUTPUT_NAMES:
            if (output_dir / name).is_dir():
                raise IsADirectoryError(f"a folder called {name} in it")
    except OSError as error:
        raise _unwritable(output_dir, error) from error


def _unwritable(output_dir: Path, error: OSError) -> InputError:
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    remedy = "give --output_dir a folder that you may write to, with room in it"
    return InputError(output_dir, "a folder that can be written", reason, remedy)


def _stage(registration: Registration, folder: Path, anonymous: bool, report_dicom: bool) -> None:
    """Write all files into a folder; compressing releases the interpreter, so images go beside the drawing."""
    fit = registration.fixed_to_moving
    with ThreadPoolExecutor(max_workers=2) as pool:
        jobs = []
        if fit is not None:
            (folder / "fixed_to_moving.tfm").write_text(transform_text(fit, registration.fixed), encoding="ascii")
            jobs = [pool.submit(job) for job in image_jobs(registration, fit, folder)]
        record = report_record(registration, anonymous, report_dicom)
        _write_csv(folder / "matches.csv", MATCH_COLUMNS, _match_rows(registration.matches))
        if registration.answers is not None:
            answers = registration.answers
            _write_csv(folder / "queries_answered.csv", ANSWER_COLUMNS, _answer_rows(answers))
            markups = folder / "queries_answered.mrk.json"
            write_markups(markups, answers.labels, answers.answer_mm, list(_asked(answers)))
        pictures = draw_pictures(registration)
        write_dicom(registration, record, pictures, folder)
        page = render_page(record, pictures, registration.answers, make_viewer(registration))
        (folder / "report.html").write_text(page, encoding="utf-8")
        text = json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        for job in jobs:
            job.result()


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _cells(values: Tensor, digits: int = 4) -> list[str]:
    """Numbers as text; what is not finite becomes an empty cell."""
    return [f"{value:.{digits}f}" if math.isfinite(value) else "" for value in values.reshape(-1).tolist()]


def _match_rows(matches: Matches) -> Iterable[list[str]]:
    table = torch.cat([matches.fixed_mm, matches.moving_mm], -1)
    for row, confidence, cycle, inlier in zip(
        table, matches.confidence, matches.cycle_error_mm, matches.inlier.tolist(), strict=True
    ):
        yield [*_cells(row), *_cells(confidence), *_cells(cycle), str(int(inlier))]


def _answer_rows(answers: Answers) -> Iterable[list[str]]:
    for label, asked, answer, confidence, rigid in zip(
        answers.labels, answers.asked_mm, answers.answer_mm, answers.confidence, answers.rigid_mm, strict=True
    ):
        matched = [*_cells(answer), *_cells(confidence)] if answer.isfinite().all() else [""] * 4
        yield [label, *_cells(asked), *matched, *_cells(rigid)]


def _asked(answers: Answers) -> Iterable[str]:
    """Where each point was asked and how sure the answer is, as 3D Slicer shows it beside the point."""
    for asked, confidence in zip(answers.asked_mm.tolist(), answers.confidence.tolist(), strict=True):
        x, y, z = (f"{value:.2f}" for value in asked)
        yield f"asked at R {x}, A {y}, S {z} mm; confidence {confidence:.2f}"


def report_record(registration: Registration, anonymous: bool = False, report_dicom: bool = False) -> dict:
    """The content of report.json: plain numbers, strings and lists; what is not finite is None."""
    fit, matches, verdict = registration.fixed_to_moving, registration.matches, registration.verdict
    inliers = int(matches.inlier.sum())
    record = {
        "accepted": bool(verdict.accepted),
        "reasons": list(verdict.reasons),
        "fixed_to_moving_ras": None,
        "rotation_deg": None,
        "translation_mm": None,
        "matches": len(matches),
        "inliers": inliers,
        "inlier_ratio": inliers / len(matches) if len(matches) else None,
        "cycle_error_mm": matches.cycle_error_mm[matches.inlier].quantile(0.5) if inliers else None,
        "expected_tre_mm": verdict.expected_tre_mm,
        "expected_tre_90_mm": verdict.expected_tre_90_mm,
        **bound_record(verdict.bound),
        "overlap": verdict.overlap,
        "anatomy_match": None if verdict.anatomy is None else asdict(verdict.anatomy),
        "parts": parts_record(registration.parts),
        "seconds": registration.seconds,
        "device": registration.device,
        "versions": versions(),
        "weights_sha256": registration.weights_sha256,
        "inputs": {
            role: _input_record(getattr(registration, role), role, anonymous, registration.notes.get(role))
            for role in ("fixed", "moving")
        },
        "same_patient": same_patient(registration.fixed, registration.moving),
        "checks": quality_record(registration),
        "options": options_record(registration.options, anonymous),
        "dicom": dicom_record(registration, anonymous, report_dicom),
        "carried": carried_record(registration.carried, anonymous),
    }
    if fit is not None:
        centre = centre_mm(registration.fixed.affine, registration.fixed.shape[1:])
        record["fixed_to_moving_ras"] = fit.matrix
        record["rotation_deg"] = fit.rotation_deg
        record["translation_mm"] = fit.displacement_mm(centre)
    if registration.landmarks is not None:
        record["landmarks"] = registration.landmarks
    return _plain(record)


def bound_record(bound: ErrorBound | None) -> dict:
    """The bound's keys of report.json; all None without a fit."""
    mm, patients, basis = (None, None, None) if bound is None else (bound.mm, bound.patients, bound.basis)
    return {"expected_tre_bound_mm": mm, "bound_patients": patients, "bound_basis": basis}


def options_record(options: Mapping[str, object], anonymous: bool = False) -> dict:
    """The options as report.json keeps them; an anonymous report keeps only those that cannot hold a name."""
    return _plain({key: value for key, value in options.items() if not anonymous or key in ANONYMOUS_OPTIONS})


def _input_record(volume: MetaTensor, role: str, anonymous: bool, note: str | None) -> dict:
    meta = volume.meta
    described = None if anonymous else series_record(volume)
    return {
        **({} if described is None else {"series": described}),
        **({} if note is None else {"note": note}),
        "name": role if anonymous else str(meta.get("name", role)),
        "sha256": meta.get("sha256", ""),
        "shape": meta.get("original_shape", tuple(volume.shape[1:])),
        "spacing": meta.get("original_spacing", spacing_of(volume.affine)),
        "orientation": str(meta.get("orientation") or "".join(nib.aff2axcodes(as_affine(volume.affine).numpy()))),
    }


def _plain(value: object) -> object:
    """Turn tensors, arrays, paths and odd floats into what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
