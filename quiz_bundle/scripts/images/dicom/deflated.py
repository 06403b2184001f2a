"""DICOM files whose data set is deflated (PS3.5, A.5): what it unpacks to, before anything unpacks it whole."""

from __future__ import annotations

import zlib
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

LARGEST = 1 << 30  # bytes of a data set; deflating shrinks a file of zeros a thousandfold
CHUNK = 1 << 20
BEFORE_META = 132 + 12  # preamble, "DICM", and the element that tells the length of the meta information


def unpacks_to_too_much(file: Path) -> bool:
    """Whether a DICOM file is deflated and holds more than ``LARGEST`` bytes; of any other file it is not asked.

    Raises:
        OSError: it cannot be opened.
    """
    with file.open("rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            return False
    meta = read_file_meta_info(file)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return False
    unpacker, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with file.open("rb") as stream:
        stream.seek(BEFORE_META + int(meta.FileMetaInformationGroupLength))
        while not unpacker.eof and (packed := unpacker.unconsumed_tail or stream.read(CHUNK)):
            total += len(unpacker.decompress(packed, CHUNK))
            if total > LARGEST:
                return True
    return False
