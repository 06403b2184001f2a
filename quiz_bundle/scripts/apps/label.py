"""MONAI Label in front of the bundle: a request to its stock app becomes a case, the case's result the answer.

The app hands over one dictionary in which a client can set every key, and takes any path of the server for an image. So
nothing of a request gets past this module but what it names here, and only images in the studies folder or uploaded with
the request are opened.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Hashable, Mapping
from pathlib import Path

import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from torch import Tensor

from ..core.errors import InputError
from ..core.options import as_choice, as_device
from ..images.volumes import load_volume
from ..registration.register import Stopwatch
from ..registration.result import Answers
from .anonymous import without_names

# Formats whose files hold their own voxels: an .mhd, .mha or .nhdr may name any other file of the server as its data.
ENDINGS = (".nii.gz", ".nii", ".nrrd")
# Options of the command line that would change the result; a request that sets one is refused rather than half done.
NOT_TAKEN = (
    "fixed", "fixed_series", "moving_series", "landmarks", "fixed_region", "fixed_region_roi",
    "structures", "dose", "moving_labels", "transform", "refine", "seed", "amp",
)  # fmt: skip
UPLOAD = re.compile(r"tmp[a-z0-9_]{8}(\.[^/]+)?")  # how Python's tempfile, which the app stores uploads with, names files


class UnknownImageError(InputError):
    """An image that is not there, or not one that a client may name."""


class FromRequestd(Transform):
    """A request to MONAI Label as a case with its volumes loaded; a case of the command line passes as it is.

    Taken from a request: ``image``, the fixed image, an id of the studies or an upload; ``moving``, id or file name in the
    studies folder, or else the upload ``label``; ``queries``, a list of points [x, y, z] in RAS mm, and ``queries_in``.
    What is wrong with one ends as HTTP status 404 (no such image) or 422, with a sentence without paths.
    """

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return the case: ``fixed`` and ``moving`` (1, I, J, K) in HU, queries, and the keys that the app needs later."""
        if not {"model", "image"} <= data.keys():
            return dict(data)
        try:
            return {**_settings(data), **_case(data)}
        except InputError as error:
            # The app's web framework answers with its own exception's status, and with a bare 500 to any other.
            from starlette.exceptions import HTTPException

            raise HTTPException(404 if isinstance(error, UnknownImageError) else 422, str(error)) from None
        finally:
            _remove_uploads(data)


class ToAnswerd(Transform):
    """The result as MONAI Label sends it: HU as whole numbers, the report's content, and answered queries in it."""

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return the dictionary with ``pred`` rounded and ``queries`` in ``result``; for the command line unchanged."""
        if "result_extension" not in data:
            return dict(data)
        answers = data["registration"].answers
        result = data["result"] if answers is None else {**data["result"], "queries": _answered(answers)}
        return {**data, "pred": data["pred"].round().clamp(-32768, 32767), "result": result}


def _remove_uploads(data: Mapping[Hashable, object]) -> None:
    """Delete what was uploaded, loaded or refused by now: the app itself leaves it lying after an error."""
    for given in (data.get("image"), data.get("label")):
        if isinstance(given, str) and _is_upload(Path(given)):
            Path(given).unlink(missing_ok=True)


def _settings(data: Mapping[Hashable, object]) -> dict[Hashable, object]:
    """What the app reads again after the preprocessing, checked; everything else of the request is dropped."""
    for key in NOT_TAKEN:
        if data.get(key) is not None:
            taken = "image, moving, queries, queries_in, device and result_extension are"
            raise InputError(key, "an option that a request can set", "another", f"leave it out; {taken} taken")
    if data.get("model_filename") not in (None, "model.pt", ["model.pt"]):
        raise InputError("model_filename", "model.pt", "another", "leave it out")
    # The app saves a label in a folder of this name, wherever that leads.
    if not re.fullmatch(r"[\w-]+", str(data.get("label_tag", "original"))):
        raise InputError("label_tag", "letters, digits, _ and -", "something else", "change or leave it out")
    device = str(data.get("device"))
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise InputError("device", "cpu, cuda or cuda:N", "another", "leave it out")
    return {
        "model": data["model"],
        "model_filename": "model.pt",
        "device": str(as_device(device)),
        "result_extension": as_choice("result_extension", data.get("result_extension") or ENDINGS[0], ENDINGS),
        "result_dtype": "int16",
    }


def _case(data: Mapping[Hashable, object]) -> dict[Hashable, object]:
    watch = Stopwatch()
    studies = _studies()
    name, upload = (None if data.get(key) == "" else data.get(key) for key in ("moving", "label"))
    if name is not None and upload is not None:
        raise InputError("moving", "the id of an image or an upload", "both", "send one of them")
    if name is None and upload is None:
        remedy = 'name an image of the studies folder, params={"moving": "ID"}, or upload one as "label"'
        raise InputError("moving", "the image to register", "none", remedy)
    moving = _find(name, studies) if upload is None else _permitted("label", upload, None)
    case = {
        "fixed": _load("image", _permitted("image", data["image"], studies)),
        "moving": _load("moving" if upload is None else "label", moving),
        "watch": watch,
    }
    return {**case, **_queries(data)}


def _studies() -> Path | None:
    """The studies folder, which the app's start leaves in the environment; None if the studies are not on this machine."""
    place = os.environ.get("MONAI_LABEL_STUDIES", "")
    return None if not place or place.startswith(("http://", "https://")) else Path(place).resolve()


def _find(name: object, studies: Path | None) -> Path:
    """The image in the studies folder with this file name or id (the name without its ending).

    The name is compared with those of the files that are there and never made part of a path.

    Raises:
        InputError: there is no studies folder, no such image in it (links that lead elsewhere do not count), or two.
    """
    if studies is None:
        raise InputError("moving", "a studies folder on the server", "none", 'upload the moving image as "label"')
    files = [file for file in sorted(studies.iterdir()) if name in (file.name, _stem(file)) and _lies_in(file, studies)]
    files = [file for file in files if file.name == name] or files
    if not files:
        expected = "the id or file name of an image in the studies folder"
        raise UnknownImageError("moving", expected, "another name", "see GET /datastore/ for what there is")
    if len(files) > 1:
        raise InputError("moving", "one image of this id", " and ".join(f.suffix for f in files), "give its file name")
    return files[0]


def _permitted(role: str, given: object, studies: Path | None) -> Path:
    """A path that the app made of an id or an upload, if a client may have it.

    Raises:
        UnknownImageError: it lies neither in the studies folder nor where uploads are kept, or is not there.
    """
    if isinstance(given, str) and given:
        path = Path(given)
        stores = [folder for folder in (studies, _sessions()) if folder is not None]
        if _is_upload(path) or any(_lies_in(path, folder) for folder in stores):
            return path
    expected = "an uploaded image" if studies is None else "the id of an image in the studies folder, or an upload"
    raise UnknownImageError(role, expected, "something else", "see GET /datastore/ for what there is")


def _sessions() -> Path:
    """Where the app keeps images uploaded for a session (``monailabel.utils.sessions``)."""
    place = os.environ.get("MONAI_LABEL_SESSION_PATH", "").strip()
    return (Path(place) if place else Path.home() / ".cache" / "monailabel" / "sessions").resolve()


def _is_upload(path: Path) -> bool:
    """Whether the app put this file there itself, to keep it for the time of a request."""
    return UPLOAD.fullmatch(path.name) is not None and _lies_in(path, Path(tempfile.gettempdir()).resolve(), links=False)


def _lies_in(path: Path, folder: Path, links: bool = True) -> bool:
    """Whether a path is a file below a folder, links followed; without ``links``, directly in it and no link itself."""
    try:
        real = path.resolve()
        return real.is_file() and (real.is_relative_to(folder) if links else real == folder / path.name)
    except (OSError, ValueError, RuntimeError):  # too long, a null in it, links in a circle
        return False


def _stem(path: Path) -> str:
    """The name without its ending: what the app calls the id; empty for other files."""
    ending = next((ending for ending in ENDINGS if path.name.endswith(ending)), None)
    return "" if ending is None else path.name.removesuffix(ending)


def _load(role: str, path: Path) -> MetaTensor:
    """Load an image; what is wrong with it is told by its role in the request."""
    if not path.name.endswith(ENDINGS):
        raise InputError(role, f"a file ending in {', '.join(ENDINGS)}", "another", "convert it to NIfTI")
    # A detached NRRD header names its data; looked for in all of the file, to be no parser that can be led astray.
    if path.suffix == ".nrrd" and re.search(rb"data ?file", path.read_bytes(), re.IGNORECASE):
        raise InputError(role, "an NRRD file with its voxels in it", "one that names another file", "save it as NIfTI")
    try:
        return load_volume(path, "upload" if _is_upload(path) else _stem(path))
    except InputError as error:
        found = without_names(error.found, {role: str(path)})
        raise InputError(role, error.expected, found, error.remedy) from None


def _queries(data: Mapping[Hashable, object]) -> dict[Hashable, object]:
    """Points to look up, labelled by their number, from a list of [x, y, z] in RAS mm."""
    given = data.get("queries")
    if given is None:
        return {}
    try:
        points = torch.tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        points = torch.empty(0)
    if points.ndim != 2 or points.shape[1] != 3 or not points.isfinite().all():
        raise InputError("queries", "a list of points [x, y, z] in RAS mm", "something else", "send plain numbers")
    labels = [str(number) for number in range(1, len(points) + 1)]
    place = as_choice("queries_in", data.get("queries_in") or "fixed", ("fixed", "moving"))
    return {"queries": (labels, points), "queries_in": place}


def _answered(answers: Answers) -> list[dict[str, object]]:
    """One record a query, plain; no answer is None."""

    def plain(point: Tensor) -> list[float] | None:
        return point.tolist() if point.isfinite().all() else None

    return [
        {"label": label, "asked": plain(asked), "answer": plain(answer), "confidence": value, "rigid": plain(rigid)}
        for label, asked, answer, value, rigid in zip(
            answers.labels,
            answers.asked_mm,
            answers.answer_mm,
            (value if math.isfinite(value) else None for value in answers.confidence.tolist()),
            answers.rigid_mm,
            strict=True,
        )
    ]
