"""One real CT for the demo: fetched through the package index, checked by its hash, never part of the project.

The abdomen-pelvis CT (122 x 101 x 112 voxels of 3 mm) lies among the tests of the TotalSegmentator source
distribution: package Apache-2.0, dataset CC BY 4.0 (Wasserthal et al. 2023). It is never trained on.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE, RELEASE = "totalsegmentator", "2.18.0"
ARCHIVE_SHA256 = "5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03"
MEMBER = f"{PACKAGE}-{RELEASE}/tests/reference_files/example_ct.nii.gz"
CT_SHA256 = "dbd3ae6d614d1d7ef3a46925c30c70038ed52da6b37fdd6afdc7b9b71387e3e1"
LIMIT_SECONDS = 600.0  # 38 MB on a slow line

logger = logging.getLogger(__name__)


def fetch_demo_ct(cache_dir: str | os.PathLike[str]) -> Path | None:
    """Return the demo's CT as a NIfTI file in ``cache_dir``, or None with a logged reason when it cannot be had.

    A file that is there already and has the right hash is not fetched again.

    Args:
        cache_dir: folder to keep the file in; made when missing.
    """
    ct = Path(cache_dir) / Path(MEMBER).name
    if ct.is_file() and hashlib.sha256(ct.read_bytes()).hexdigest() == CT_SHA256:
        return ct
    ct.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ct.parent) as scratch:
        archive = _download(Path(scratch))
        if archive is None:
            return None
        content = _read_member(archive)
        if hashlib.sha256(content).hexdigest() != CT_SHA256:
            logger.warning("demo CT: %s in %s is not the file expected; it is not used.", MEMBER, archive.name)
            return None
        part = Path(scratch) / ct.name
        part.write_bytes(content)
        os.replace(part, ct)
    return ct


def _download(folder: Path) -> Path | None:
    """Let the running interpreter's pip download the source distribution; None with a logged reason when it cannot."""
    # Given the hash, pip checks the archive before it runs the build code in it, which it does to read the metadata.
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{PACKAGE}=={RELEASE} --hash=sha256:{ARCHIVE_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-binary", PACKAGE, "--require-hashes", "--retries", "1", "--timeout", "20"]
    command += ["--requirement", str(requirement), "--dest", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        logger.warning("demo CT: no answer from the package index within %.0f s.", LIMIT_SECONDS)
        return None
    archive = folder / f"{PACKAGE}-{RELEASE}.tar.gz"
    if done.returncode or not archive.is_file():
        said = done.stderr.strip().splitlines() or ["nothing was downloaded"]
        logger.warning("demo CT: the package index did not give %s %s (pip: %s).", PACKAGE, RELEASE, said[-1])
        return None
    return archive


def _read_member(archive: Path) -> bytes:
    """Return the bytes of the CT in the archive, empty when it is not there; nothing is unpacked."""
    with tarfile.open(archive, "r:gz") as package:
        try:
            member = package.extractfile(MEMBER)
        except KeyError:
            return b""
        return member.read() if member else b""
