"""What to train on: a datalist of real pairs, a folder of plain CTs, label maps to paint, or the phantom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..core.errors import InputError
from ..images.image_files import IMAGE_ENDINGS, find_images
from ..images.landmarks import read_datalist

SECTIONS = ("training", "validation", "test")
PAINTINGS = 3  # of each label map


def training_items(
    datalist: str | None = None,
    dataset_dir: str | None = None,
    volumes: str | Sequence[str] | None = None,
    label_maps: str | None = None,
    phantoms: int = 0,
    validation_fraction: float = 0.1,
    validation_draws: int = 2,
) -> dict[str, list[dict]]:
    """List the items of each section; with neither a datalist nor volumes, the phantom alone.

    Args:
        datalist: JSON of pairs with landmarks, see ``landmarks.read_datalist``.
        dataset_dir: folder that its paths are relative to.
        volumes: folder (or folders) of plain CTs, searched through their sub-folders.
        label_maps: folder of ``*_label.nii.gz`` with ``*_mask.nii.gz`` beside them, each painted into three pseudo-CTs.
        phantoms: number of phantom patients; 40 when there is nothing else.
        validation_fraction: part of each group, by name, that is kept out of training; none of four or fewer.
        validation_draws: frozen pairs made from each validation volume.

    Returns:
        ``training``, ``validation`` and ``test`` items, as ``pairs.LoadSourced`` takes them; ``group`` is where they come
        from: the folder a CT lies in, or where it lies there alone (a folder a patient) the folder that was named.

    Raises:
        InputError: a source is named that holds nothing.
    """
    items: dict[str, list[dict]] = {section: [] for section in SECTIONS}
    if datalist:
        for section, cases in read_datalist(datalist, dataset_dir).items():
            items.setdefault(section, []).extend({**case, "group": "pairs"} for case in cases)
    groups: dict[str, list[list[dict]]] = {}  # of patients, who go into one section each
    for folder in [volumes] if isinstance(volumes, str) else list(volumes or []):
        files = images_below(folder)
        together = Counter(file.parent for file in files)
        for file in files:
            group = file.parent if together[file.parent] > 1 else folder
            groups.setdefault(str(group), []).append([{"volume": str(file)}])
    if label_maps:
        files = [file for file in images_below(label_maps) if "_label" in file.name]
        groups["labels"] = [
            [
                {"labels": str(file), "mask": str(file.with_name(file.name.replace("_label", "_mask"))), "seed": seed}
                for seed in range(PAINTINGS * number, PAINTINGS * (number + 1))
            ]
            for number, file in enumerate(files)
        ]
    if not datalist and not groups:
        phantoms = phantoms or 40
    if phantoms:
        groups["phantom"] = [[{"phantom": seed}] for seed in range(phantoms)]
    learnt: list[list[dict]] = []
    kept: list[list[dict]] = []
    for name, patients in groups.items():
        own = [[{**member, "group": name} for member in patient] for patient in patients]
        spared = max(1, round(validation_fraction * len(own))) if len(own) > 4 else 0
        learnt += own[: len(own) - spared]
        kept.append([member for patient in own[len(own) - spared :] for member in patient])
    if not items["validation"] and not any(kept) and learnt:  # few patients, and no group can spare one
        if len(learnt) > 1:
            kept = [learnt.pop()]
        elif len(learnt[0]) > 1:
            kept = [[learnt[0].pop()]]
    items["training"].extend(member for patient in learnt for member in patient)
    for members in kept:
        for number, member in enumerate(members):
            items["validation"].extend(_frozen(member, number, validation_draws))
    for section in ("training", "validation"):
        _need_landmarks(datalist, section, items[section])
        if not items[section]:
            where = datalist or volumes or label_maps
            raise InputError(where, f"{section} items", "none", "add some; volumes or pairs, two at least")
    return items


def _frozen(member: dict, number: int, draws: int) -> list[dict]:
    """A volume's validation items: each ``draw`` number always gives the same pair."""
    return [{**member, "draw": 1000 * number + draw} for draw in range(draws)]


def evaluation_items(datalist: str | None = None, dataset_dir: str | None = None, **sources: object) -> list[dict]:
    """The pairs to evaluate on: a datalist's "test" section, or its "validation"; else the drawn validation pairs.

    Args:
        datalist, dataset_dir: see ``training_items``.
        sources: further arguments of ``training_items``.

    Raises:
        InputError: there are none, or some have no landmarks.
    """
    if not datalist:
        return training_items(**sources)["validation"]
    sections = read_datalist(datalist, dataset_dir)
    section = "test" if sections.get("test") else "validation"
    cases = sections.get(section, [])
    if not cases:
        raise InputError(datalist, "pairs under 'test' or 'validation'", "none", "add some")
    _need_landmarks(datalist, section, cases)
    return cases


def _need_landmarks(datalist: object, section: str, items: Sequence[dict]) -> None:
    """Refuse pairs without landmarks, of which nothing can be learnt and on which nothing can be measured."""
    for number, item in enumerate(items):
        if "fixed" in item and not item.get("landmarks"):
            name = f"{section}[{number}]"
            raise InputError(datalist, f"landmarks with {name}", "none", "add them, or leave the pair out")


def images_below(folder: str | Path) -> list[Path]:
    """All image files below a folder, sorted, but for maps of structures (``joints.joints_beside``).

    Raises:
        InputError: there are none.
    """
    files = [file for file in find_images(folder) if not file.name.split(".")[0].endswith("_structures")]
    if not files:
        raise InputError(folder, f"a folder of CT volumes ({', '.join(IMAGE_ENDINGS)})", "none below it", "check the path")
    return files


def balanced_weights(items: Sequence[dict], shares: Mapping[str, float] | None = None) -> torch.Tensor:
    """Sampling weights (N,) that let each group count the same, however many members it has.

    Args:
        items: of one section of ``training_items``.
        shares: how many times as much as the others a group counts, by its name ("pairs" are those of the datalist).
    """
    counts: dict[str, int] = {}
    for item in items:
        counts[item["group"]] = counts.get(item["group"], 0) + 1
    shares = shares or {}
    return torch.tensor([shares.get(item["group"], 1.0) / counts[item["group"]] for item in items], dtype=torch.float64)
