"""``run ablation``: the paper's training with one thing changed at a time, and what each change does to the error.

Trainings that are complete are kept, and one that was interrupted goes on where it stopped; the evaluation takes minutes.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..checks.evaluation import write_table
from ..checks.one_look import QUERIES, fit_look, look_once, prepare
from ..core.atomic import write_whole
from ..core.errors import InputError
from ..core.geometry import centre_mm
from ..core.options import as_integer
from ..core.proportions import wilson
from ..core.rigid import RigidTransform, fit_translation
from ..images.image_files import nifti_affine
from ..images.landmarks import read_datalist, read_landmarks
from ..network.weights import with_weights
from ..registration.metrics import landmark_report
from ..registration.register import Options, load_case
from ..training.workflow import run_workflow
from .ablation_figure import draw_curves
from .benchmark.quiz_paper import network_of
from .peers.base import field_centre, shift

VARIANT = ("head", "losses", "fit", "cycle_filter")
CASE_COLUMNS = (*VARIANT, "name", "patient", "tre_mean_mm", "offset_mm", "matches", "seconds")
NUMBERS = ("n", "no_fit", "mean_mm", "sd_mm", "median_mm", "success10", "low", "high", "matches", "seconds")
COLUMNS = ("head", "losses", "iterations", "fit", "cycle_filter", *NUMBERS)
CURVE_COLUMNS = ("training", "iterations", "seconds", "train_loss", "validation_tre_mm")
FITS = {"mean displacement": "translation", "robust rigid": "rigid"}
FILTERS = {"off": math.inf, "4 voxels": 4.0, "1 voxel": 1.0}  # largest cycle error; 4 voxels is what inference takes
CENTRES, USUAL, BEST = "field centres", "field centres + mean shift", "best translation"
LIMIT_MM = 10.0


@dataclass(frozen=True)
class Training:
    """One training of the ablation.

    Attributes:
        name: of its folder.
        overlays: configs laid over ``train.json``, without their ending.
        epochs: its length.
        start: the training whose best weights it starts from.
        head, losses: what the table calls it; one without them is not evaluated.
        options: config values of its own.
    """

    name: str
    overlays: Sequence[str]
    epochs: int
    start: str | None = None
    head: str = ""
    losses: str = ""
    options: Mapping[str, object] = field(default_factory=dict)


def run_ablation(
    trainings: Sequence[Mapping[str, object]],
    settings: Mapping[str, object],
    datalist: str,
    dataset_dir: str | None = None,
    training_patients: int = 0,
    output_dir: str = "runs/ablation",
    docs: str | None = None,
    resize_to: Sequence[int] = (48, 48, 48),
    seed: int = 0,
    device: str = "cpu",
    bundle_root: str = ".",
) -> list[dict]:
    """Train what is not there yet, evaluate the test section, write tables and curves.

    ``output_dir`` gets a folder a training, ``cases.csv`` (a row a variant and pair), ``ablation.csv`` (a row a variant),
    ``curves.csv`` and ``curves.png``.

    Args:
        trainings: arguments of ``Training``; one that others start from comes before them.
        settings: further config values that hold for all of them.
        datalist, dataset_dir: the pairs, see ``landmarks.read_datalist``.
        training_patients: train on the pairs of the first so many patients only; 0 for all.
        output_dir: made if it is not there.
        docs: a documentation folder that gets a copy of table (``results``) and figure (``figures``).
        resize_to: shape of the volumes.
        seed: of the trainings, and of the queries at evaluation.
        device: for all of it.
        bundle_root: where ``configs`` is.

    Returns:
        The rows of ``ablation.csv``.

    Raises:
        InputError: the datalist lacks a section.
    """
    folder = Path(output_dir)
    sections = shortened(read_datalist(datalist, dataset_dir), as_integer("training_patients", training_patients))
    for name in ("training", "validation", "test"):
        if not sections.get(name):
            raise InputError(datalist, f"pairs under {name!r}", "none", "make the cohort first, or name another datalist")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "datalist.json", json.dumps(sections, indent=1))
    plan = [Training(**training) for training in trainings]  # type: ignore[arg-type]
    common = {"datalist": str(folder / "datalist.json"), "dataset_dir": None, "seed": as_integer("seed", seed)}
    common |= {"resize_to": list(resize_to), "device": device}
    for training in plan:
        train(training, folder, bundle_root, {**settings, **common})
    curves = joined_curves(plan, folder)
    write_table(folder / "curves.csv", CURVE_COLUMNS, curves)
    draw_curves(curves, folder / "curves.png")
    networks = {}
    for training in plan:
        if training.head:
            network = network_of(("train", *training.overlays), Path(bundle_root))
            networks[training.head, training.losses] = with_weights(network, folder / training.name / "model.pt", device)
    rows = evaluate(networks, sections, resize_to, Options.of({"match": {"queries": QUERIES}}, seed=common["seed"]))
    write_table(folder / "cases.csv", CASE_COLUMNS, rows)
    ends = {point["training"]: point["iterations"] for point in curves}
    lengths = {(t.head, t.losses): ends[t.name] for t in plan}
    table = [{**line, "iterations": lengths.get((line["head"], line["losses"]), "")} for line in summarise(rows)]
    write_table(folder / "ablation.csv", COLUMNS, table)
    if docs:
        for source, target in (("ablation.csv", "results/ablation.csv"), ("curves.png", "figures/training_curves.png")):
            (Path(docs) / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / source, Path(docs) / target)
    return table


def shortened(sections: Mapping[str, list[dict]], patients: int) -> dict[str, list[dict]]:
    """The sections of a datalist with the pairs of the first so many training patients; all of them where that is 0."""
    pairs = sections.get("training", [])
    names = list(dict.fromkeys(pair.get("patient", pair["fixed"]) for pair in pairs))[: patients or None]
    return {**sections, "training": [pair for pair in pairs if pair.get("patient", pair["fixed"]) in names]}


def train(training: Training, folder: Path, bundle_root: str, options: Mapping[str, object]) -> None:
    """Run one training to its end with ``run training``'s own configs; one that is complete is left alone."""
    checkpoint = folder / training.name / "resume.pt"
    if checkpoint.is_file():
        done = torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"]
        if done >= training.epochs:
            return
    given = {**options, **training.options, "output_dir": str(checkpoint.parent), "max_epochs": training.epochs}
    given["pretrained"] = str(folder / training.start / "model.pt") if training.start else None
    run_workflow(bundle_root, "training", training.overlays, **given)


def joined_curves(plan: Sequence[Training], folder: Path) -> list[dict[str, object]]:
    """Rows of ``CURVE_COLUMNS``; iterations and seconds of a training that starts from another go on from its end."""
    rows: list[dict[str, object]] = []
    ends: dict[str | None, tuple[int, float]] = {None: (0, 0.0)}
    for training in plan:
        iterations, seconds = ends[training.start]
        with (folder / training.name / "curve.csv").open(newline="", encoding="utf-8") as stream:
            for point in csv.DictReader(stream):
                ends[training.name] = iterations + int(point["iterations"]), seconds + float(point["seconds"])
                values = (*ends[training.name], float(point["train_loss"]), float(point["validation_tre_mm"]))
                rows.append(dict(zip(CURVE_COLUMNS, (training.name, *values), strict=True)))
    return rows


def evaluate(
    networks: Mapping[tuple[str, str], nn.Module], sections: Mapping[str, list[dict]], shape: Sequence[int], options: Options
) -> list[dict[str, object]]:
    """Rows of ``CASE_COLUMNS``: each network, fit and filter on each test pair, and three maps to judge them by.

    Args:
        networks: by head and losses, in evaluation mode.
        sections: of the datalist.
        shape: of the resized volumes.
        options: of the looks; fit and filter are set here.
    """
    match = options.search.match
    variants = {
        (fit, kept): replace(
            options, transform=kind, search=replace(options.search, match=replace(match, cycle_limit=limit))
        )
        for fit, kind in FITS.items()
        for kept, limit in FILTERS.items()
    }
    usual_mm = mean_shift_mm(sections["training"])
    rows: list[dict[str, object]] = []
    for item in tqdm(sections["test"], desc="evaluating", unit="pair"):
        case = load_case({key: item[key] for key in ("fixed", "moving", "landmarks")})
        fixed, moving = case["fixed"], case["moving"]
        apart_mm = field_centre(moving) - field_centre(fixed)
        rows.append(row(("none", "", CENTRES, ""), item, case, shift(apart_mm)))
        rows.append(row(("none", "", USUAL, ""), item, case, shift(apart_mm + usual_mm)))
        truth = RigidTransform(fit_translation(case["landmarks"].fixed_mm, case["landmarks"].moving_mm))
        rows.append(row(("none", "", BEST, ""), item, case, truth))
        begin = time.perf_counter()
        prepared = prepare(fixed, moving, shape, options)
        ready = time.perf_counter() - begin
        for name, network in networks.items():
            begin = time.perf_counter()
            look = look_once(network, prepared)
            looked = ready + time.perf_counter() - begin
            for variant, settings in variants.items():
                begin = time.perf_counter()
                found, kept = fit_look(look, settings)
                seconds = looked + time.perf_counter() - begin
                rows.append(row((*name, *variant), item, case, found, len(kept), seconds))
    return rows


def row(
    variant: Sequence[str],
    item: Mapping[str, object],
    case: Mapping[str, object],
    found: RigidTransform | None,
    matches: object = "",
    seconds: object = "",
) -> dict[str, object]:
    """One of ``CASE_COLUMNS``; the error is NaN where there is no map.

    Args:
        variant: values of ``VARIANT``.
        item: of the datalist.
        case: the same, loaded.
        found: fixed to moving.
        matches: how many it rests on.
        seconds: what it took.
    """
    report = landmark_report(found, case["landmarks"], case["fixed"], case["moving"])
    names = (*variant, item.get("name", Path(str(item["moving"])).name), item.get("patient", ""))
    return dict(zip(CASE_COLUMNS, (*names, report["tre_mean_mm"], report["offset_mm"], matches, seconds), strict=True))


def mean_shift_mm(pairs: Sequence[Mapping[str, object]]) -> Tensor:
    """Mean displacement (3,) in mm of the points of pairs whose field centres lie on each other: what needs no network."""
    shifts = []
    for pair in pairs:
        points = read_landmarks(pair["landmarks"])
        images = [nib.load(pair[key]) for key in ("fixed", "moving")]  # headers only
        fixed, moving = (centre_mm(nifti_affine(image.header), image.shape) for image in images)
        shifts.append((points.moving_mm - points.fixed_mm).mean(0) - (moving - fixed))
    return torch.stack(shifts).mean(0)


def summarise(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """A line a variant: mean, standard deviation and median over the pairs with a fit, success over all of them."""
    groups: dict[tuple, list[Mapping[str, object]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in VARIANT), []).append(row)
    table = []
    for variant, members in groups.items():
        errors = [float(row["tre_mean_mm"]) for row in members]
        known = [error for error in errors if math.isfinite(error)]
        hits = sum(error <= LIMIT_MM for error in known)
        low, high = wilson(hits, len(errors))
        line = dict(zip(VARIANT, variant, strict=True)) | {"n": len(errors), "no_fit": len(errors) - len(known)}
        line |= {"mean_mm": statistics.fmean(known) if known else math.nan}
        line |= {"sd_mm": statistics.stdev(known) if len(known) > 1 else math.nan}
        line |= {"median_mm": statistics.median(known) if known else math.nan}
        line |= {"success10": hits / len(errors), "low": low, "high": high}
        for column in ("matches", "seconds"):
            values = [float(row[column]) for row in members if row[column] != ""]
            line[column] = statistics.median(values) if values else ""
        table.append(line)
    return table
