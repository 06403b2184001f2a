"""Seconds from a pair's files to its transform, method by method, on the same files in one run.

Each method has a process of its own, which registers the pair once to warm up and then on the clock; its peak memory is
that process's. Every method reads its files as QUIZ does.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from ...core.atomic import write_whole
from ...core.errors import InputError
from ...core.geometry import centre_mm
from ...core.options import as_integer
from ...images.nifti import write_nifti
from ...images.volumes import load_volume, resample
from ...registration.metrics import tre_mm
from ...registration.register import Options, load_network, register
from ...synthetic.phantom import PelvisPhantom
from ...synthetic.plan import FIRST_PHANTOM
from ...synthetic.regimes import draw_case
from ..peers import PEERS, load_packages
from .cost import peak_mb
from .quiz import WHOLE
from .table import machine

LENGTH_MM = 450.0
FIXED_SPACING, MOVING_SPACING, MOVING_SHAPE = (500 / 512, 500 / 512, 3.0), (1.25, 1.25, 3.0), (208, 192, 53)


def measure_speed(
    methods: str | Sequence[str] = ("quiz_unrefined", "quiz", "elastix"),
    repeats: int = 5,
    output_dir: str = "eval/speed",
    threads: int = 2,
    seed: int = 0,
    device: str = "cpu",
) -> list[dict[str, object]]:
    """Time methods on a phantom's reference of 512 x 512 x 150 voxels and a scan of 208 x 192 x 53; writes ``speed.md``.

    Args:
        methods: names in ``PEERS``, ``quiz`` or ``quiz_unrefined``.
        repeats: timed registrations of each; the median is told.
        output_dir: made if it is not there; the pair's files are kept in it.
        threads: CPU threads.
        seed: of the phantom and of the moving scan.
        device: where QUIZ's network runs.

    Returns:
        A row for each method: ``method``, ``seconds``, ``least``, ``most``, ``peak_mb``, ``tre_mm``.

    Raises:
        InputError: an unknown method, or a package that is not installed.
    """
    methods = [methods] if isinstance(methods, str) else list(methods)
    for name in methods:
        if name not in PEERS and name not in WHOLE:
            raise InputError("methods", f"names among {', '.join((*PEERS, *WHOLE))}", repr(name), "choose from these")
    folder, threads, repeats = Path(output_dir), as_integer("threads", threads), as_integer("repeats", repeats)
    load_packages(methods, threads)
    files = make_pair(folder / "pairs", as_integer("seed", seed))
    context = multiprocessing.get_context("spawn")
    rows = []
    for name in tqdm(methods, desc="speed", unit="method"):
        with context.Pool(1) as pool:
            rows.append(pool.apply(measure, (name, files, repeats, threads, device)))
    write_whole(folder / "speed.md", markdown(rows, threads, repeats))
    return rows


def make_pair(folder: Path, seed: int) -> tuple[str, str, str]:
    """Files of the fixed and the moving scan, and of corresponding body points; made once a seed."""
    folder = folder / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    fixed, moving, points = (folder / name for name in ("fixed.nii.gz", "moving.nii.gz", "points.pt"))
    if not points.exists():
        phantom = PelvisPhantom(FIRST_PHANTOM + seed, LENGTH_MM).session("ebrt", spacing=FIXED_SPACING)
        case = draw_case(phantom.volume, "R1", seed)
        affine = torch.diag(torch.tensor([*MOVING_SPACING, 1.0], dtype=torch.float64))
        middle = (torch.tensor(MOVING_SHAPE, dtype=torch.float64) - 1) / 2
        affine[:3, 3] = centre_mm(case.moving.affine, case.moving.shape[1:]) - affine[:3, :3] @ middle
        for file, volume in ((fixed, case.fixed), (moving, resample(case.moving, affine, MOVING_SHAPE))):
            write_nifti(file, volume.as_tensor()[0].round().to(torch.int16), volume.affine)
        torch.save([case.body_fixed_mm, case.body_moving_mm], points)
    return str(fixed), str(moving), str(points)


def measure(method: str, files: tuple[str, str, str], repeats: int, threads: int, device: str) -> dict[str, object]:
    """Register a pair once to warm up, then ``repeats`` times on the clock, in this process."""
    torch.set_num_threads(threads)
    load_packages([method], threads)
    network = load_network(device=device) if method in WHOLE else None
    seconds = []
    for _ in range(1 + repeats):
        begin = time.perf_counter()
        if network is not None:
            found = register(*files[:2], network=network, options=Options.of(**WHOLE[method])).fixed_to_moving
        else:
            found = PEERS[method](*(load_volume(file) for file in files[:2]), 0, threads).fixed_to_moving
        seconds.append(time.perf_counter() - begin)
    peak, timed = peak_mb(), seconds[1:]
    error = float("inf") if found is None else float(tre_mm(found, *torch.load(files[2], weights_only=True)).mean())
    numbers = {"seconds": statistics.median(timed), "least": min(timed), "most": max(timed)}
    return {"method": method, **numbers, "peak_mb": peak, "tre_mm": error}


def markdown(rows: Sequence[Mapping[str, object]], threads: int, repeats: int) -> str:
    """The rows as a Markdown table."""
    lines = ["| method | seconds | least to most | peak memory, MB | TRE, mm |", "|---|---|---|---|---|"]
    for row in rows:
        span = f"{row['least']:.2f}-{row['most']:.2f}"
        lines.append(f"| {row['method']} | {row['seconds']:.2f} | {span} | {row['peak_mb']:.0f} | {row['tre_mm']:.2f} |")
    text = (
        f"From .nii.gz files to the transform in a warm process, median of {repeats}: built-in phantom, fixed 512 x 512 x "
        f"150 voxels, moving 208 x 192 x 53, R1. Machine: {machine()}; threads: {threads}."
    )
    return "\n".join(["# Speed", "", *lines, "", text, ""])
