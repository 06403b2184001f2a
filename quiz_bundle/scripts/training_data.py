"""What to train on: a datalist of real pairs, a folder of plain CTs, label maps to paint, or the phantom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from .errors import InputError
from .landmarks import read_datalist
from .volumes import ITK_ENDINGS, NIFTI_ENDINGS

SECTIONS = ("training", "validation", "test")


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
        label_maps: folder of ``*_label.nii.gz`` with ``*_mask.nii.gz`` beside them, painted into pseudo-CTs.
        phantoms: number of phantom patients; 40 when there is nothing else.
        validation_fraction: part of the volumes of each folder, by name, that is kept out of training.
        validation_draws: frozen pairs made from each validation volume.

    Returns:
        ``training``, ``validation`` and ``test`` items, as ``pairs.LoadSourced`` takes them; ``group`` names the folder.

    Raises:
        InputError: a source is named that holds nothing.
    """
    items: dict[str, list[dict]] = {section: [] for section in SECTIONS}
    if datalist:
        for section, cases in read_datalist(datalist, dataset_dir).items():
            items.setdefault(section, []).extend({**case, "group": "pairs"} for case in cases)
    groups: dict[str, list[dict]] = {}
    for folder in [volumes] if isinstance(volumes, str) else list(volumes or []):
        for file in _images(folder):
            groups.setdefault(str(file.parent), []).append({"volume": str(file)})
    if label_maps:
        groups["labels"] = [
            {"labels": str(file), "mask": str(file.with_name(file.name.replace("_label", "_mask"))), "seed": seed}
            for seed, file in enumerate(f for f in _images(label_maps) if "_label" in f.name for _ in range(3))
        ]
    if not datalist and not groups:
        phantoms = phantoms or 40
    if phantoms:
        groups["phantom"] = [{"phantom": seed} for seed in range(phantoms)]
    for name, members in groups.items():
        kept = max(1, round(validation_fraction * len(members))) if len(members) > 4 else 0
        members = [{**member, "group": name} for member in members]
        items["training"].extend(members[: len(members) - kept])
        for number, member in enumerate(members[len(members) - kept :]):
            items["validation"].extend(_frozen(member, number, validation_draws))
    if not items["validation"] and len(items["training"]) > 1 and groups:  # few volumes, and no folder can spare one
        items["validation"].extend(_frozen(items["training"].pop(), 0, validation_draws))
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


def _images(folder: str | Path) -> list[Path]:
    """All image files below a folder, sorted."""
    endings = NIFTI_ENDINGS + ITK_ENDINGS
    files = sorted(f for f in Path(folder).rglob("*") if f.is_file() and f.name.lower().endswith(endings))
    if not files:
        raise InputError(folder, f"a folder of CT volumes ({', '.join(endings)})", "none below it", "check the path")
    return files


def balanced_weights(items: Sequence[dict]) -> torch.Tensor:
    """Sampling weights (N,) that let each group count the same, however many members it has."""
    counts: dict[str, int] = {}
    for item in items:
        counts[item["group"]] = counts.get(item["group"], 0) + 1
    return torch.tensor([1.0 / counts[item["group"]] for item in items], dtype=torch.float64)
