"""``run paper_steps``: from the paper to ours, one change at a time, each training of the same number of iterations.

Trainings that are complete are kept, and one that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai.data import MetaTensor
from torch import Tensor, nn
from tqdm import tqdm

from ...checks.evaluation import write_table
from ...checks.one_look import QUERIES, Look, Prepared, fit_look, look_once, prepare
from ...core.atomic import write_whole
from ...core.errors import InputError
from ...core.geometry import grid_to_mm, mm_to_grid
from ...core.options import as_integer
from ...core.records import number
from ...core.rigid import RigidTransform, fit_translation
from ...images.landmarks import read_datalist
from ...network.weights import with_weights
from ...registration.metrics import PointMap, landmark_report
from ...registration.register import Options, load_case
from ...registration.result import Matches
from ..ablation import LIMIT_MM, Training, mean_shift_mm, shortened, train
from ..benchmark.quiz_paper import network_of
from ..peers.base import field_centre, shift
from .pairs import chosen, held_out_pairs, name_of, patient_of

FITS = {"units": "translation", "mm": "translation", "rigid": "rigid"}
CENTRES, USUAL, BEST = "field centres", "field centres + mean shift of the training pairs", "best translation"
CASE_COLUMNS = ("step", "change", "table", "name", "patient", "tre_mean_mm", "matches")
MEASURES = ("n", "mean_mm", "sd_mm", "median_mm", "within_10_mm")
COURSE = ("iterations", "kept_at", "cpu_seconds_an_iteration")
STEPS = "steps.csv"


@dataclass(frozen=True)
class Step:
    """A rung of the ladder: what changes against the one before it.

    Attributes:
        change: in words.
        training: whose weights it takes.
        fit: "units" (mean displacement in units of each volume's own size), "mm" (in mm) or "rigid" (the robust fit).
        cycle_limit: largest cycle error of an answer, voxels of the searched volume.
        resize_to: shape of both volumes; None for a common spacing.
        spacing: voxel size in mm (before resizing).
    """

    change: str
    training: str
    fit: str
    cycle_limit: float = math.inf
    resize_to: Sequence[int] | None = (64, 64, 64)
    spacing: float = 3.0


def run_steps(
    trainings: Sequence[Mapping[str, object]],
    steps: Sequence[Mapping[str, object]],
    settings: Mapping[str, object],
    training_datalists: Sequence[str],
    test_datalists: Mapping[str, str],
    patients: Mapping[str, object] | None = None,
    pairs: object = 0,
    output_dir: str = "runs/steps",
    docs: str | None = None,
    seed: object = 0,
    device: str = "cpu",
    bundle_root: str = ".",
) -> list[dict]:
    """Train what is not there yet, evaluate, write ``cases.csv`` (a row a step and pair) and ``steps.csv`` (a row a step).

    Args:
        trainings: arguments of ``ablation.Training``.
        steps: arguments of ``Step``, in order.
        settings: config values that hold for all trainings.
        training_datalists: what they learn from and are validated on, see ``landmarks.read_datalist``.
        test_datalists: what is measured on, by table: their sections "test".
        patients: take the first so many of a section of each of the training datalists; 0, or left out, for all.
        pairs: of each table, patients in turn; 0 for all.
        output_dir: made if it is not there; a folder a training besides.
        docs: a documentation folder that gets a copy of the table (``results``).
        seed: of the trainings, and of the queries at evaluation.
        device: for all of it.
        bundle_root: where ``configs`` is.

    Returns:
        The rows of ``steps.csv``.

    Raises:
        InputError: a datalist lacks a section.
    """
    folder, drawn = Path(output_dir), as_integer("seed", seed)
    learnt = joined(training_datalists, {name: as_integer(name, count) for name, count in (patients or {}).items()})
    count = as_integer("pairs", pairs)
    tests = {table: chosen(held_out_pairs(path), count) for table, path in test_datalists.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "datalist.json", json.dumps(learnt, indent=1))
    common = {**settings, "datalist": str(folder / "datalist.json"), "dataset_dir": None, "seed": drawn, "device": device}
    networks = {}
    for training in (Training(**one) for one in trainings):  # type: ignore[arg-type]
        train(training, folder, bundle_root, common)
        network = network_of(("train", *training.overlays), Path(bundle_root))
        networks[training.name] = with_weights(network, folder / training.name / "model.pt", device)
    ladder = [Step(**one) for one in steps]  # type: ignore[arg-type]
    rows = []
    for table, cases in tests.items():
        usual_mm = mean_shift_mm(learnt["training"])
        for item in tqdm(cases, desc=f"evaluating {table}", unit="pair"):
            rows += [{"table": table, **row} for row in measure(item, ladder, networks, usual_mm, drawn)]
    write_table(folder / "cases.csv", CASE_COLUMNS, rows)
    table = summarise(rows, ladder, {name: course(folder / name / "curve.csv") for name in networks})
    write_table(folder / STEPS, tuple(table[0]), table)
    if docs:
        (Path(docs) / "results").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / STEPS, Path(docs) / "results" / STEPS)
    return table


def joined(datalists: Sequence[str], patients: Mapping[str, int]) -> dict[str, list[dict]]:
    """The training and validation sections of several datalists in one, each of the first so many patients (0: of all)."""
    sections: dict[str, list[dict]] = {"training": [], "validation": []}
    for path in datalists:
        given = read_datalist(path)
        for name, members in sections.items():
            first = shortened({"training": _section(given, name, path)}, patients.get(name, 0))["training"]
            members += first
    return sections


def _section(sections: Mapping[str, list[dict]], name: str, path: object) -> list[dict]:
    if not sections.get(name):
        raise InputError(path, f"pairs under {name!r}", "none", "make the data first, or name another datalist")
    return sections[name]


def measure(
    item: Mapping[str, object], ladder: Sequence[Step], networks: Mapping[str, nn.Module], usual_mm: Tensor, seed: int
) -> list[dict[str, object]]:
    """Rows of ``CASE_COLUMNS`` without their table: three maps to judge the steps by, and every step, on one pair.

    Args:
        item: of the datalist.
        ladder: the steps.
        networks: by training, in evaluation mode.
        usual_mm: mean shift (3,) of the training pairs from field centre to field centre, mm.
        seed: of the queries.
    """
    case = load_case({key: item[key] for key in ("fixed", "moving", "landmarks")})
    fixed, moving, landmarks = case["fixed"], case["moving"], case["landmarks"]
    apart_mm = field_centre(moving) - field_centre(fixed)
    maps: list[tuple[object, str, PointMap | None, object]] = [
        ("", CENTRES, shift(apart_mm), ""),
        ("", USUAL, shift(apart_mm + usual_mm), ""),
        ("", BEST, RigidTransform(fit_translation(landmarks.fixed_mm, landmarks.moving_mm)), ""),
    ]
    seen: dict[tuple, Prepared] = {}  # steps that look at the same volumes, or ask the same network, share that
    looks: dict[tuple, Look] = {}
    for count, step in enumerate(ladder):
        search = {"spacing": step.spacing, "coarse_spacing": step.spacing}
        search["match"] = {"queries": QUERIES, "cycle_limit": step.cycle_limit}
        options = Options.of(search, seed=seed, transform=FITS[step.fit])
        view = tuple(step.resize_to or ()), step.spacing
        if view not in seen:
            seen[view] = prepare(fixed, moving, step.resize_to, options)
        if (step.training, view) not in looks:
            looks[step.training, view] = look_once(networks[step.training], seen[view])
        found, kept = fit_look(looks[step.training, view], options)
        if step.fit == "units" and found is not None:
            found = in_units(kept, seen[view])
        maps.append((count, step.change, found, len(kept)))
    names = {"name": name_of(item), "patient": patient_of(item)}
    return [
        {"step": count, "change": change, **names, "matches": matches, "tre_mean_mm": error(found, landmarks, fixed, moving)}
        for count, change, found, matches in maps
    ]


def error(found: PointMap | None, landmarks: object, fixed: MetaTensor, moving: MetaTensor) -> float:
    """Mean TRE in mm; NaN without a map."""
    return landmark_report(found, landmarks, fixed, moving)["tre_mean_mm"]


def in_units(matches: Matches, prepared: Prepared) -> PointMap:
    """Eq. 5 as printed: the mean of displacements in units of each volume's own half field, added in those units.

    Where the two fields differ in size this stretches one onto the other: it is a translation of volumes resized to one
    shape, not of the patient.
    """
    (fixed, moving) = ((volume.affine, volume.shape[1:]) for volume in prepared.pair)
    mean = (mm_to_grid(matches.moving_mm, *moving) - mm_to_grid(matches.fixed_mm, *fixed)).mean(0)
    return lambda points_mm: grid_to_mm(mm_to_grid(points_mm, *fixed) + mean, *moving)


def course(curve: Path) -> dict[str, str]:
    """How long a training was, after how many iterations its validation was best, and CPU seconds of an iteration."""
    with curve.open(newline="", encoding="utf-8") as stream:
        points = list(csv.DictReader(stream))
    best, last = min(points, key=lambda point: float(point["validation_tre_mm"])), points[-1]
    seconds = float(last["step_cpu_seconds"]) / int(last["iterations"])
    return dict(zip(COURSE, (last["iterations"], best["iterations"], number(seconds)), strict=True))


def summarise(
    rows: Sequence[Mapping[str, object]], ladder: Sequence[Step], courses: Mapping[str, Mapping[str, str]]
) -> list[dict[str, object]]:
    """A line a step: its training, and on each table's pairs the mean, standard deviation and median of the TRE.

    ``within_10_mm`` counts, of all pairs of a table, those at most ``LIMIT_MM`` off.
    """
    groups: dict[tuple, dict[str, list[float]]] = {}
    for row in rows:
        tables = groups.setdefault((row["step"], row["change"]), {})
        tables.setdefault(str(row["table"]), []).append(float(row["tre_mean_mm"]))
    lines = []
    for (count, change), tables in groups.items():
        training = "" if count == "" else ladder[int(count)].training
        line = {"step": count, "change": change, "training": training}
        line |= courses.get(training, dict.fromkeys(COURSE, ""))
        for table, errors in tables.items():
            known = [value for value in errors if math.isfinite(value)]
            spread = statistics.stdev(known) if len(known) > 1 else math.nan
            hits = sum(value <= LIMIT_MM for value in known)
            mean, median = (what(known) if known else math.nan for what in (statistics.fmean, statistics.median))
            values = (len(errors), number(mean), number(spread), number(median), hits)
            line |= {f"{table}_{name}": value for name, value in zip(MEASURES, values, strict=True)}
        lines.append(line)
    return lines
