"""The bundle as MONAI's model zoo hosts it: one zip file of one folder, the same bytes every time.

The zoo's rules (Project-MONAI/model-zoo, CONTRIBUTING.md and ci/): ``LICENSE``, ``configs/metadata.json`` with the current
version in its changelog, ``configs/inference.json`` and ``models/model.pt`` are there; a pull request holds no file of more
than 25 MB, but a ``large_files.json`` (or ``.yml``) with path, url and hash of it instead; the release
``<name>_v<version>.zip`` holds the file itself, and no such list.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ..core.atomic import write_whole
from ..core.bundle import BUNDLE
from ..core.errors import InputError
from ..images.hashes import file_sha256

NAME = "quiz_bundle"
WEIGHTS = "models/model.pt"
LIMIT = 25_000_000  # bytes of a file in a pull request to the zoo
NEEDED = (
    "LICENSE", "configs/metadata.json", "configs/inference.json", "configs/logging.conf", "docs/README.md",
    "docs/data_license.txt", WEIGHTS,
)  # fmt: skip
FOLDERS = ("configs", "docs", "scripts")
LARGE_FILES = "large_files.json"  # not .yml: MONAI reads that only where PyYAML is installed
FIRST_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file knows


def bundle_files(bundle: Path = BUNDLE) -> list[str]:
    """Paths of the files that make up the bundle, relative to it, sorted: no caches, no hidden files, no other weights.

    Research (``scripts/study``, ``configs/study``) stays in the repository: no user of the archive needs it.

    Raises:
        InputError: one that the zoo needs is missing.
    """
    for name in NEEDED:
        if not (bundle / name).is_file():
            raise InputError(bundle / name, "a file of the bundle", "no such file", "put it back")
    found = {"LICENSE", WEIGHTS, *(str(p.relative_to(bundle)) for p in (bundle / "models").glob("*.md"))}
    for folder in FOLDERS:
        for path in (bundle / folder).rglob("*"):
            parts = path.relative_to(bundle).parts
            left_out = any(part.startswith(".") or part in ("__pycache__", "study") for part in parts)
            if path.is_file() and not left_out and path.suffix != ".pyc":
                found.add("/".join(parts))
    return sorted(found)


def version(bundle: Path = BUNDLE) -> str:
    """The version of the bundle.

    Raises:
        InputError: the changelog in metadata.json does not tell of it.
    """
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    number = metadata["version"]
    if number not in metadata["changelog"]:
        found = f"only {', '.join(metadata['changelog'])}"
        raise InputError("metadata.json", f"version {number} in its changelog", found, "add a line to the changelog")
    return number


def check_large_files(bundle: Path, names: Sequence[str]) -> None:
    """Refuse a file that is too large for a pull request to the zoo, unless ``large_files.json`` tells where it is.

    Raises:
        InputError: an entry is missing, has no url, or its hash is not the file's.
    """
    file = bundle / LARGE_FILES
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    listed = {entry["path"]: entry for entry in content.get("large_files", [])}
    for name in names:
        size, entry = (bundle / name).stat().st_size, listed.get(name)
        if entry is None and size > LIMIT:
            found = f"{size / 1e6:.0f} MB and no entry in {LARGE_FILES}"
            raise InputError(bundle / name, f"at most {LIMIT / 1e6:.0f} MB", found, "list its path, url and hash there")
        if entry is not None and not entry.get("url"):
            raise InputError(file, f"a url for {name}", "none", "upload the file and name its address")
        if entry is not None and entry.get("hash_val") != (found := file_sha256(bundle / name)):
            expected = f"the SHA-256 of {name}, {found}, as its hash_val"
            raise InputError(file, expected, str(entry.get("hash_val")), "correct the entry")


def pack(output: Path, bundle: Path = BUNDLE, weights_url: str | None = None) -> Path:
    """Write the archive, whole or not at all.

    Args:
        output: folder to write it to, made if need be.
        bundle: the bundle's own folder.
        weights_url: make the form of a pull request instead: the weights are left out, and ``large_files.json`` says
            where they are fetched from and what their hash is.

    Returns:
        Path of the zip file, ``quiz_bundle_v<version>.zip`` or ``quiz_bundle_v<version>_pull_request.zip``.

    Raises:
        InputError: the bundle breaks a rule of the zoo, or the folder cannot be written.
    """
    names = bundle_files(bundle)
    check_large_files(bundle, names)
    members = {name: (bundle / name).read_bytes() for name in names}
    if weights_url:
        del members[WEIGHTS]
        members[LARGE_FILES] = large_files_list(WEIGHTS, weights_url, file_sha256(bundle / WEIGHTS)).encode()
    file = output / f"{NAME}_v{version(bundle)}{'_pull_request' if weights_url else ''}.zip"
    packed = io.BytesIO()
    # Stored, not deflated: versions of zlib differ in their bytes, and the weights hardly shrink.
    with zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(f"{NAME}/{name}", FIRST_TIME)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, members[name])
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_whole(file, packed.getvalue())
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise InputError(output, "a folder that can be written", found, "name another --output") from error
    return file


def large_files_list(path: str, url: str, sha256: str) -> str:
    """The text of a ``large_files.json`` of one file."""
    entry = {"path": path, "url": url, "hash_val": sha256, "hash_type": "sha256"}
    return json.dumps({"large_files": [entry]}, indent=4) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack, and say what came out; the exit status."""
    program, purpose = "python -m scripts.apps.archive", "Pack the bundle as the model zoo does."
    parser = argparse.ArgumentParser(prog=program, description=purpose)
    parser.add_argument("--output", default="dist", help="folder for the archive (default: dist)")
    parser.add_argument("--weights_url", help="make the form of a pull request: weights by this address and their hash")
    given = parser.parse_args(arguments)
    try:
        file = pack(Path(given.output), weights_url=given.weights_url)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{file}  {file.stat().st_size / 1e6:.1f} MB  sha256 {file_sha256(file)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
