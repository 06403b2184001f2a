"""Which files of a folder are DICOM images, which series they make, and which of these is meant."""

from __future__ import annotations

import logging
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.filereader import read_partial

from ...core.errors import InputError, printable
from ..file_tree import closed, files_below
from .deflated import unpacks_to_too_much

# DICOM PS3.4, table B.5-1: CT Image, Enhanced CT Image, Legacy Converted Enhanced CT Image Storage.
CT_IMAGES = frozenset(("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"))
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory: the DICOMDIR of a disc
PREFIX_END = 132  # bytes up to the end of "DICM" (PS3.10, 7.1)
LONGEST_LIST = 12  # series named in a message
TOO_MUCH, UNCOMPRESSED = "a deflated data set that unpacks to more than 1 GiB", "export it uncompressed"


@dataclass(frozen=True)
class Instance:
    """One DICOM file.

    Attributes:
        file: where it is.
        header: its data set without pixel data.
    """

    file: Path
    header: pydicom.Dataset

    @property
    def sop_class(self) -> str:
        """SOP class UID, from the file's meta information where the data set breaks off before it."""
        meta = getattr(self.header, "file_meta", {})
        return str(self.header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")

    @property
    def series(self) -> str:
        """Series instance UID, "" if it has none."""
        return str(self.header.get("SeriesInstanceUID") or "")

    @property
    def localizer(self) -> bool:
        """Whether it is a scout view, no slice of a volume."""
        return "LOCALIZER" in str(self.header.get("ImageType", "")).upper()

    @property
    def captured(self) -> bool:
        """Whether it is a CT slice stored as a secondary capture, as some systems export: one that knows its place."""
        places = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SeriesInstanceUID")
        kind = self.sop_class == SECONDARY_CAPTURE and self.header.get("Modality") == "CT"
        return kind and all(self.header.get(name) for name in places)

    @property
    def frames(self) -> int:
        """Number of images in the file."""
        return int(self.header.get("NumberOfFrames") or 1)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: PS3.10's prefix after 128 bytes or, as old systems write, the data set alone."""
    with path.open("rb") as stream:
        start = stream.read(PREFIX_END)
    # The latter begins with an element of group 0008 whose number is low.
    bare = len(start) == PREFIX_END and start[:2] == b"\x08\x00" and start[2] < 0x20 and start[3] == 0
    return bare or start[128:] == b"DICM"


def choose_series(path: Path, series_uid: str | None = None) -> list[Instance]:
    """The files of the one CT series in a folder and below, or of the one that is asked for; in no order.

    Scout views, single images beside a volume, and what is no CT image (structures, plans, doses, a DICOMDIR, files
    that are not DICOM, hidden ones) are passed over; links are followed. Slices stored as secondary captures count where
    there are no others.

    Raises:
        InputError: no CT series, several and none chosen, not the one that is asked for, or a file is damaged; a file or
            folder cannot be opened, whatever it may hold.
    """
    images = _instances(path)
    series: dict[str, list[Instance]] = defaultdict(list)
    slices = [image for image in images if image.sop_class in CT_IMAGES and not image.localizer]
    for image in slices or [image for image in images if image.captured and not image.localizer]:
        series[image.series].append(image)
    if series_uid is not None:
        if series_uid in series:
            return series[series_uid]
        raise _not_there(path, series_uid, images, series)
    if not series:
        raise _no_ct(path, images)
    volumes = {uid: found for uid, found in series.items() if _slices(found) > 1} or series
    if len(volumes) > 1:
        remedy = "choose one by its series UID with fixed_series or moving_series, or give its own folder"
        raise InputError(path, "one CT series", _listed(volumes), remedy, f"{len(volumes)} CT series")
    return next(iter(volumes.values()))


@contextmanager
def quietly() -> Iterator[None]:
    """Inside, pydicom takes odd values as they are and tells nobody: its warnings hold paths and patients' data."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)


def damaged(
    path: Path,
    file: Path,
    found: str = "a damaged or truncated file",
    wanted: str = "readable CT images",
    remedy: str | None = None,
) -> InputError:
    """The mistake of a file that breaks off or holds what it should not, told without the file's name if need be."""
    where = found if file == path else f"{found}: {printable(file.relative_to(path))}"
    what = "series" if wanted == "readable CT images" else "file"
    return InputError(path, wanted, where, remedy or f"export or copy the {what} again", found)


def _instances(path: Path) -> list[Instance]:
    """All DICOM files of a folder and below, or the one file."""
    files = [path] if path.is_file() else files_below(path)
    if not files:
        raise InputError(path, "a folder with a CT series", "nothing in it", "check the path")
    images = []
    for file in files:
        try:
            if is_dicom(file):
                if unpacks_to_too_much(file):
                    raise damaged(path, file, TOO_MUCH, remedy=UNCOMPRESSED)
                images.append(Instance(file, _header(file)))
        except InputError:
            raise
        except OSError as error:
            raise closed(path, file, error) from error
        except Exception as error:  # pydicom raises anything from EOFError to struct.error on a damaged file
            raise damaged(path, file) from error
    for image in images:
        if not image.sop_class or (image.sop_class in CT_IMAGES and not image.series):
            raise damaged(path, image.file)
    images = [image for image in images if image.sop_class != DIRECTORY]
    if not images:
        found = f"{len(files)} file{'s' * (len(files) > 1)}, none of them a DICOM image"
        remedy = "give the folder that holds the DICOM files, or an image file itself"
        raise InputError(path, "a folder with a CT series", found, remedy)
    # A slice whose copying was broken off at once is no DICOM file any more, and at an end nobody would miss it.
    named_alike = {_kind_of_name(image.file) for image in images}
    for file in files:
        if _kind_of_name(file) in named_alike and file.stat().st_size < PREFIX_END:
            raise damaged(path, file)
    return images


def _kind_of_name(file: Path) -> tuple[str, bool]:
    """Ending of a file's name and, if it has none, whether it holds a number: slices do, VERSION and LOCKFILE do not."""
    return file.suffix, bool(file.suffix) or any(letter.isdigit() for letter in file.name)


def _header(file: Path) -> pydicom.Dataset:
    """The data set of a DICOM file before its pixels, however odd its values: they are judged where they are used."""
    with quietly(), file.open("rb") as stream:
        return read_partial(stream, _beyond, force=True)


def _beyond(tag: int, *_: object) -> bool:
    """Whether an element is of the pixels, or of the contours, doses and plans of radiotherapy, which may be huge."""
    return tag >= 0x7FE00000 or 0x30000000 <= tag < 0x40000000


def _slices(files: Sequence[Instance]) -> int:
    return sum(image.frames for image in files)


def _listed(series: Mapping[str, Sequence[Instance]]) -> str:
    """Series by UID, description and number of slices."""
    lines = [
        f"{uid} '{str(files[0].header.get('SeriesDescription') or '').strip()}' ({_slices(files)} slices)"
        for uid, files in sorted(series.items())
    ]
    more = len(lines) - LONGEST_LIST
    return f"{len(lines)} CT series: {', '.join(lines[:LONGEST_LIST])}{f' and {more} more' if more > 0 else ''}"


def _kinds(images: Sequence[Instance]) -> str:
    """Modalities and how many files there are of each."""
    counts = Counter(str(image.header.get("Modality") or "unknown") for image in images)
    return ", ".join(f"{kind} ({count} file{'s' * (count > 1)})" for kind, count in sorted(counts.items()))


def _no_ct(path: Path, images: Sequence[Instance]) -> InputError:
    remedy = "give the folder of a CT, or of a cone-beam CT stored as CT"
    if any(image.localizer for image in images):
        return InputError(path, "a CT series", "only scout views (LOCALIZER)", remedy)
    if any(image.header.get("Modality") == "RTIMAGE" for image in images):
        remedy = "RTIMAGE holds projections: export the cone-beam CT's reconstruction as CT images"
    if any(image.sop_class == SECONDARY_CAPTURE for image in images):
        remedy = "secondary captures do not say where their slices lie: export the series as CT images"
    return InputError(path, "a CT series", f"only {_kinds(images)}", remedy)


def _not_there(
    path: Path, series_uid: str, images: Sequence[Instance], series: Mapping[str, Sequence[Instance]]
) -> InputError:
    others = [image for image in images if image.series == series_uid]
    if others:
        found = "scout views (LOCALIZER)" if others[0].sop_class in CT_IMAGES else _kinds(others)
        return InputError(path, f"CT images in the series {series_uid}", found, "choose a CT series")
    found, unnamed = (_listed(series), f"{len(series)} others") if series else (f"only {_kinds(images)}", None)
    return InputError(path, f"a CT series {series_uid}", found, "choose one that is there, or check the path", unnamed)
