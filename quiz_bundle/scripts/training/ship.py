"""``make weights FROM=FILE``: the only way by which a trained state dict becomes the weights that are shipped."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ..core.atomic import write_whole
from ..core.errors import InputError
from ..images.hashes import file_sha256
from ..registration.register import BUNDLE, load_network

WEIGHTS, METADATA = Path("models", "model.pt"), Path("configs", "metadata.json")


def ship(file: str | Path, bundle: Path = BUNDLE) -> str:
    """Replace a bundle's weights and note their hash in its metadata.

    Args:
        file: state dict of the network of ``configs/inference.json``.
        bundle: the bundle's folder.

    Returns:
        The SHA-256 of the weights.

    Raises:
        InputError: there is no such file, or it holds the weights of another network; nothing is replaced.
    """
    load_network(bundle, weights=Path(file))
    sha256, metadata = file_sha256(Path(file)), (bundle / METADATA).read_text(encoding="utf-8")
    write_whole(bundle / WEIGHTS, Path(file).read_bytes())
    write_whole(bundle / METADATA, re.sub(r'(?<="weights_sha256": ")[0-9a-f]{64}', sha256, metadata))
    return sha256


def main(arguments: Sequence[str] | None = None) -> int:
    """Ship the file that is named; 1 if it cannot be."""
    parser = argparse.ArgumentParser(prog="scripts.training.ship", description=__doc__)
    parser.add_argument("file", help="trained state dict, such as runs/weights/model.pt")
    try:
        sha256 = ship(parser.parse_args(arguments).file)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{sha256}  {BUNDLE.name}/{WEIGHTS}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
