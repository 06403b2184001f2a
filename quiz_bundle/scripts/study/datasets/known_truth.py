"""Pairs of known truth from real CTs, written as a data set: see ``regimes`` for what is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ...core.errors import InputError
from ...core.geometry import mm_to_grid
from ...core.options import as_integer, as_path
from ...images.hashes import file_sha256
from ...images.landmarks import SECTIONS, PairedLandmarks
from ...images.volumes import load_volume
from ...synthetic.regime_recipes import REGIMES
from ...synthetic.regimes import EvaluationCase, draw_case
from .folder import open_folder, write_datalist, write_landmarks, write_volume

LANDMARKS, POINTS = 6, 154
INNER = 0.6  # of the half width of the moving field, along each axis


def known_truth(
    volumes: str | Sequence[str] | None = None,
    regimes: str | Sequence[str] = "R4",
    pairs: object = 20,
    fractions: Sequence[float] = (0.0, 0.0, 1.0),
    seed: object = 0,
    output_dir: str | Path = "data/known_truth",
) -> Path:
    """Write pairs drawn from CTs in turn; those that are there from an interrupted run stay.

    Args:
        volumes: CT file, or files; each is a patient of its own.
        regimes: name, or names, in ``regime_recipes.REGIMES``: R4 is EBRT/BT-like, R5 CT/CBCT-like.
        pairs: of each regime.
        fractions: of the CTs for training, validation and test; all for the test when left out.
        seed: of the first pair of each regime; those of the others follow.
        output_dir: made if it is not there.

    Returns:
        The folder.

    Raises:
        InputError: a file is no CT or too short, a regime is unknown or has no truth, or the folder holds another set.
    """
    files, names = _files(volumes), _regimes(regimes)
    count, first = as_integer("pairs", pairs), as_integer("seed", seed)
    if count < len(files):
        raise InputError("pairs", f"at least one for each of {len(files)} volumes", str(count), "change --pairs")
    section_of = _sections(len(files), fractions)
    hashes = [file_sha256(Path(file)) for file in files]
    settings = {"made_by": "known_truth", "volumes": hashes, "regimes": names, "pairs": count, "seed": first}
    folder = open_folder(output_dir, settings | {"fractions": [float(part) for part in fractions]})
    plan = [(name, first + n, n % len(files)) for name in names for n in range(count)]
    sections: dict[str, list[dict[str, str]]] = {name: [] for name in SECTIONS}
    for regime, number, source in plan:
        section = section_of[source]
        sections[section].append(_entry(f"{regime}_{number:04d}", f"ct{source + 1:02d}", section))
    write_datalist(folder, sections)
    loaded: tuple[int, object] = (-1, None)
    for regime, number, source in tqdm(sorted(plan, key=lambda one: one[2]), desc="known_truth", unit="pair"):
        place = folder / f"{regime}_{number:04d}"
        if (place / "moving.nii.gz").exists():
            continue
        if loaded[0] != source:
            loaded = source, load_volume(files[source])
        _write(place, draw_case(loaded[1], regime, number))
    return folder


def _files(volumes: str | Sequence[str] | None) -> list[str]:
    given = [volumes] if isinstance(volumes, str) else list(volumes or [])
    files = [as_path("volumes", one) for one in given]
    if not files:
        raise InputError("volumes", "one CT file or more", "none", "give --volumes ct.nii.gz")
    for file in files:
        if not Path(file).is_file():
            raise InputError(file, "a CT file", "no such file", "check the path")
    return files


def _regimes(regimes: str | Sequence[str]) -> list[str]:
    names = [regimes] if isinstance(regimes, str) else list(regimes)
    known = [name for name, recipe in REGIMES.items() if not recipe.unrelated]
    for name in names:
        if name not in known:
            raise InputError("regimes", f"names among {', '.join(known)}", repr(name), "choose one of them")
    return names


def _sections(volumes: int, fractions: Sequence[float]) -> list[str]:
    """The section of each CT: a patient is in one only."""
    try:
        parts = [float(part) for part in fractions]
    except (TypeError, ValueError):
        parts = []
    if len(parts) != 3 or min(parts) < 0 or not math.isclose(sum(parts), 1.0, abs_tol=1e-6):
        expected = "three numbers that add up to 1: training, validation, test"
        raise InputError("fractions", expected, repr(fractions), "write --fractions [0.8,0.1,0.1]")
    held = [max(1, round(part * volumes)) if part else 0 for part in parts[1:]]
    counts = [volumes - sum(held) if parts[0] else 0, *held]
    if sum(counts) != volumes:  # no training is asked for: what rounding left over goes to the test
        counts[2] = volumes - counts[0] - counts[1]
    if any((count < 1) != (part == 0) for count, part in zip(counts, parts, strict=True)):
        raise InputError("fractions", "a CT for every section", f"{volumes} CTs", "give more --volumes, or fewer sections")
    return [name for name, count in zip(SECTIONS, counts, strict=True) for _ in range(count)]


def _entry(name: str, patient: str, section: str) -> dict[str, str]:
    table = "points" if section == "training" else "landmarks"
    paths = {"fixed": f"{name}/fixed.nii.gz", "moving": f"{name}/moving.nii.gz", "landmarks": f"{name}/{table}.csv"}
    return {"name": name, "patient": patient, **paths}


def _write(place: Path, case: EvaluationCase) -> None:
    """Write a pair; the moving scan comes last."""
    six = landmark_rows(case)
    others = torch.arange(len(case.body_moving_mm))
    others = others[~torch.isin(others, six)][: POINTS - len(six)]
    for table, rows in (("landmarks", six), ("points", torch.cat([six, others]))):
        labels = [f"point_{number + 1:03d}" for number in range(len(rows))]
        pairs = PairedLandmarks(labels, case.body_fixed_mm[rows], case.body_moving_mm[rows])
        write_landmarks(place / f"{table}.csv", pairs)
    write_volume(place / "fixed.nii.gz", case.fixed)
    write_volume(place / "moving.nii.gz", case.moving)


def landmark_rows(case: EvaluationCase) -> Tensor:
    """Rows of six body points of the common field, far from each other in the inner part of the moving field.

    The first is the one nearest to the field's centre, each other the one farthest from those before it. Without the
    rim, where this would put nearly all of them: organs move in the middle.
    """
    points, volume = case.body_moving_mm, case.moving
    grid = mm_to_grid(points, volume.affine, volume.shape[1:])
    inner = (grid.abs() <= INNER).all(-1).nonzero()[:, 0]
    if len(inner) < LANDMARKS:
        inner = torch.arange(len(points))
    chosen = [int(grid[inner].norm(dim=-1).argmin())]
    distance = (points[inner] - points[inner[chosen[0]]]).norm(dim=-1)
    while len(chosen) < min(LANDMARKS, len(inner)):
        chosen.append(int(distance.argmax()))
        distance = distance.minimum((points[inner] - points[inner[chosen[-1]]]).norm(dim=-1))
    return inner[chosen]
