"""A DICOM series as a volume: a folder of slices, or one multi-frame file, in; HU and an affine in RAS mm out.

The parts: ``folder`` finds the series and lets one be chosen, ``slices`` puts its slices in order and checks that they
make a volume, ``pixels`` decodes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
import torch
from monai.data import MetaTensor

from ...core.errors import printable
from ..hashes import file_sha256
from ..volume_checks import checked_volume
from .folder import choose_series, damaged
from .pixels import read_hounsfield
from .slices import lay_out

PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # float, double float and plain pixel data


@dataclass(frozen=True)
class Series:
    """What of a DICOM series outlives its pixels.

    Attributes:
        header: the data set of the first slice in order, without pixel data.
        instances: SOP class UID and SOP instance UID of every file, in order.
        slices: which of the instances each slice is, and its frame in it (from 1; None in a plain file), in order.
    """

    header: pydicom.Dataset
    instances: tuple[tuple[str, str], ...]
    slices: tuple[tuple[int, int | None], ...] = ()

    @classmethod
    def of(cls, datasets: Sequence[pydicom.Dataset], slices: Sequence[tuple[int, int | None]] = ()) -> Series:
        """From the data sets of a series' files, in the order of its slices; pixels and private elements are left behind.

        A maker's own elements may hold what pydicom's dictionary of them does not expect, which is no damage.
        """
        header = pydicom.Dataset()
        kept = [tag for tag in datasets[0].keys() if not tag.is_private and tag not in PIXELS]  # noqa: SIM118 - not the values
        header.update({tag: datasets[0][tag] for tag in kept})
        header.file_meta = getattr(datasets[0], "file_meta", None)
        return cls(header, tuple(_identity(each) for each in datasets), tuple(slices))


def _identity(dataset: pydicom.Dataset) -> tuple[str, str]:
    """SOP class and instance UID, from the file's meta information where the data set has none."""
    meta = getattr(dataset, "file_meta", None) or {}
    return tuple(
        str(dataset.get(name) or meta.get(f"MediaStorage{name}") or "") for name in ("SOPClassUID", "SOPInstanceUID")
    )


@pydicom.config.disable_value_validation()  # its warnings show the odd values: names, dates, UIDs
def load_series(path: str | Path, name: str | None = None, series_uid: str | None = None) -> MetaTensor:
    """Read a CT series as a volume (1, I, J, K) in HU, float32: I along a row, J down a column, K along the normal.

    Args:
        path: a folder that holds the series, in sub-folders too, or a multi-frame file.
        name: what to call it in reports; the folder's or file's own name when left out.
        series_uid: which series to take where the folder holds several.

    Returns:
        The volume; beyond what ``volumes.load_volume`` tells of any file, its ``meta`` holds the ``series`` (``Series``);
        its ``sha256`` is that of the files' hashes in the order of the slices.

    Raises:
        InputError: the folder holds no CT series, or several and none was chosen; or the slices do not make a volume:
            missing, doubled, unevenly spaced, of a tilted gantry, of different sizes or directions, damaged.
    """
    path = Path(path)
    files = choose_series(path, series_uid)
    stack = lay_out(path, files)
    data = read_hounsfield(path, stack)
    digest = hashlib.sha256("".join(file_sha256(file) for file in stack.files).encode()).hexdigest()
    try:
        series = Series.of(stack.headers, stack.places)
    except Exception as error:  # pydicom raises anything on an element of a wrong length
        raise damaged(path, stack.files[0], "a header with damaged elements") from error
    meta = {
        "name": name or printable(path.stem if path.is_file() else path.resolve().name),
        "sha256": digest,
        "series": series,
    }
    return checked_volume(path, torch.from_numpy(data), stack.affine, meta)
