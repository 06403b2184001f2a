"""``run after_quiz``: a datalist whose pairs QUIZ has laid on each other, for deformable networks to learn from."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from tqdm import tqdm

from ...core.atomic import write_whole
from ...core.options import as_integer
from ...core.rigid import RigidTransform
from ...images.landmarks import read_datalist
from ...registration.register import Options, load_network, register
from ..ablation import shortened

logger = logging.getLogger(__name__)
REFUSED = "refused"  # what stands in the file of a pair that QUIZ did not accept
Register = Callable[[str, str], RigidTransform | None]  # files of a pair to its accepted map, fixed to moving


def after_quiz(
    datalist: str,
    output_dir: str | Path = "data/phantom_after_quiz",
    patients: Mapping[str, object] | None = None,
    dataset_dir: str | None = None,
    seed: object = 0,
    registered: Register | None = None,
) -> Path:
    """Register every training and validation pair, and list those that were accepted with their maps.

    A pair's map stands in a file of its own (``transform_file``, 4 x 4, RAS mm), which an interrupted run finds again.

    Args:
        datalist, dataset_dir: the pairs, see ``landmarks.read_datalist``.
        output_dir: made if it is not there; gets the maps and ``datalist.json``.
        patients: take the first so many of a section; 0, or left out, for all.
        seed: of QUIZ's queries.
        registered: what registers a pair; QUIZ as shipped when left out.

    Returns:
        The new datalist.
    """
    folder, given = Path(output_dir), read_datalist(datalist, dataset_dir)
    registered = registered or _quiz(as_integer("seed", seed))
    sections: dict[str, list[dict]] = {}
    for section in ("training", "validation"):
        count = as_integer(section, (patients or {}).get(section, 0))
        cases = shortened({"training": given.get(section, [])}, count)["training"]
        sections[section] = []
        for number, case in enumerate(tqdm(cases, desc=f"after_quiz {section}", unit="pair")):
            file = folder / section / f"{case.get('name', number)}.txt"
            if not file.is_file():
                found = registered(case["fixed"], case["moving"])
                file.parent.mkdir(parents=True, exist_ok=True)
                write_whole(file, REFUSED if found is None else _text(found))
            if file.read_text(encoding="utf-8") != REFUSED:
                sections[section].append({**case, "transform_file": str(file.absolute())})
        logger.info("%s: %d of %d pairs accepted", section, len(sections[section]), len(cases))
    write_whole(folder / "datalist.json", json.dumps(sections, indent=1))
    return folder / "datalist.json"


def _quiz(seed: int) -> Register:
    network, options = load_network(), Options.of(seed=seed)

    def registered(fixed: str, moving: str) -> RigidTransform | None:
        found = register(fixed, moving, network=network, options=options)
        return found.fixed_to_moving if found.verdict.accepted else None

    return registered


def _text(found: RigidTransform) -> str:
    return "".join(" ".join(f"{value:.12g}" for value in row) + "\n" for row in found.matrix.tolist())
