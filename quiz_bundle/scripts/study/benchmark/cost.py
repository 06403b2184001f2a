"""How time and memory grow with the length of the reference and with the number of queries.

Every measurement runs in a process of its own, so that its peak memory is its own: it loads the pair from files, registers
it once to warm up, and once more on the clock.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from ...core.atomic import write_figure, write_whole
from ...core.geometry import grid_to_mm
from ...core.options import as_integer
from ...core.records import append_row, number, open_table
from ...images.nifti import write_nifti
from ...images.volumes import load_volume
from ...network.weights import weights_sha256
from ...registration.register import Options, load_network, register
from ...synthetic.phantom import PelvisPhantom
from ...synthetic.plan import FIRST_PHANTOM
from ...synthetic.regimes import draw_case
from .cost_plot import cost_figure
from .table import machine

KEY = ("length_mm", "queries")
SETTINGS = ("threads", "seed", "device", "weights")
COLUMNS = (*KEY, "voxels", "seconds", "query_seconds", "peak_mb", "idle_mb", *SETTINGS, "accepted")
MIDDLE_MM = 400  # length at which queries are counted
SPACING = (2.0, 2.0, 3.0)


def measure_cost(
    lengths: Sequence[int] = (200, 300, 400, 500, 600, 700, 800, 900),
    queries: Sequence[int] = (10, 100, 1_000, 10_000, 100_000),
    output_dir: str = "eval/cost",
    threads: int = 2,
    seed: int = 0,
    device: str = "cpu",
) -> list[dict]:
    """Measure QUIZ on phantoms; writes ``cost.csv``, ``cost.md`` and ``cost.png`` into ``output_dir``.

    Args:
        lengths: of the reference, mm; no queries are asked.
        queries: numbers of points looked up, at a reference of 400 mm.
        output_dir: made if it is not there; a measurement that is there already is not done again, unless it was done
            with other threads, seed, device or weights.
        threads: CPU threads.
        seed: of the phantom and of the moving scan.
        device: where the network runs; peak memory is that of the process.

    Returns:
        The rows of the table.

    Raises:
        InputError: the folder cannot be written, or holds another table.
    """
    threads, seed = as_integer("threads", threads), as_integer("seed", seed)
    table = Path(output_dir) / "cost.csv"
    weights = weights_sha256(load_network())[:12]
    settings = dict(zip(SETTINGS, map(str, (threads, seed, device, weights)), strict=True))
    rows = open_table(table, lambda row: settings.items() <= row.items(), COLUMNS)
    done = {tuple(row[column] for column in KEY) for row in rows}
    plan = [(as_integer("lengths", length), 0) for length in lengths]
    plan += [(MIDDLE_MM, as_integer("queries", count)) for count in queries]
    plan = [(length, count) for length, count in plan if (str(length), str(count)) not in done]
    context = multiprocessing.get_context("spawn")
    for length, count in tqdm(plan, desc="cost", unit="run"):
        files = _pair(Path(output_dir) / "pairs", length, count, seed)
        with context.Pool(1) as pool:
            row = pool.apply(measure, (files, threads, device))
        row |= {"length_mm": str(length), "queries": str(count)} | settings
        append_row(table, row, COLUMNS)
        rows.append(row)
    write_whole(Path(output_dir) / "cost.md", markdown(rows))
    write_figure(Path(output_dir) / "cost.png", cost_figure(rows), dpi=110, facecolor="white")
    return rows


def _pair(folder: Path, length_mm: int, count: int, seed: int) -> dict[str, str]:
    """Files of a phantom's reference of a length, a moving scan of 160 mm of it, and points to look up; made once a seed."""
    folder = folder / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{length_mm}_{name}.nii.gz" for name in ("fixed", "moving")}
    if not all(file.exists() for file in files.values()):
        phantom = PelvisPhantom(FIRST_PHANTOM + seed, length_mm).session("ebrt", spacing=SPACING)
        case = draw_case(phantom.volume, "R1", seed)
        for name, file in files.items():
            volume = getattr(case, name)
            write_nifti(file, volume.as_tensor()[0].to(torch.int16), volume.affine)
    inputs = {name: str(file) for name, file in files.items()}
    if count:
        inputs["queries"] = str(folder / f"{length_mm}_{count}_queries.csv")
        volume = load_volume(files["fixed"])
        drawn = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5
        points = grid_to_mm(drawn, volume.affine, volume.shape[1:])  # the inner half of the field, along each axis
        lines = [f"{row},{x:.3f},{y:.3f},{z:.3f}" for row, (x, y, z) in enumerate(points.tolist())]
        write_whole(Path(inputs["queries"]), "\n".join(["label,x,y,z", *lines, ""]))
    return inputs


def measure(files: Mapping[str, str], threads: int, device: str) -> dict[str, str]:
    """Register a pair twice in this process and measure the second time; memory is the process's peak so far."""
    torch.set_num_threads(threads)
    network = load_network(device=device)
    idle = peak_mb()
    register(files["fixed"], files["moving"], network=network, options=Options())
    begin = time.perf_counter()
    found = register(files["fixed"], files["moving"], network=network, options=Options(), queries=files.get("queries"))
    seconds = time.perf_counter() - begin
    numbers = {
        "voxels": float(found.fixed.numel()),
        "seconds": seconds,
        "query_seconds": found.seconds.get("queries", 0.0),
        "peak_mb": peak_mb(),
        "idle_mb": idle,
        "accepted": float(found.verdict.accepted),
    }
    return {name: number(value) for name, value in numbers.items()}


def peak_mb() -> float:
    """Largest memory that this process has held so far, MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held when it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    scale = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """The rows as a Markdown table."""
    head = (
        "reference, mm",
        "voxels",
        "queries",
        "seconds",
        "of them for queries",
        "peak memory, MB",
        "before, MB",
        "accepted",
    )
    names = ("length_mm", "voxels", "queries", "seconds", "query_seconds", "peak_mb", "idle_mb", "accepted")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in sorted(rows, key=lambda row: (int(row["queries"]), int(row["length_mm"]))):
        lines.append(f"| {' | '.join(f'{float(row[name]):.4g}' for name in names)} |")
    used = ", ".join(sorted({row["threads"] for row in rows}))
    text = (
        "Built-in phantom, moving scan of 260 x 240 x 160 mm; seconds from files to result, second registration of a "
        "process; memory: the process's peak, and what it held before the first registration, torch and weights included. "
        f"Machine: {machine()}; threads: {used}."
    )
    return "\n".join(["# Cost", "", *lines, "", text, ""])
