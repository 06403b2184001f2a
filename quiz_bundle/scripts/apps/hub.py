"""The bundle as Hugging Face's hub hosts a MONAI model: a folder whose model card stands at its root.

MONAI's ``push_to_hf_hub`` uploads a folder as it is. Where it finds ``docs/README.md`` it copies that to the root, behind a
head of its own (tags ``monai`` and ``medical``, ``library_name``, license), and the card's links, which lead from
``docs``, would end nowhere. So the folder made here has its card at the root already, with that head and with links that
lead from there; the command then adds nothing.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..core.bundle import BUNDLE
from ..core.errors import InputError
from .archive import NAME, bundle_files, version

CARD = "docs/README.md"
HEAD = """---
tags:
- monai
- medical
- registration
- computed-tomography
- radiotherapy
library_name: monai
license: apache-2.0
---
"""
TO_CARD = re.compile(r"\]\((?:\.\./docs/)?README\.md(#[^)]*)?\)")  # from documents in docs and models
LINK = re.compile(r"\]\((?!https?://|#)([^)\s]+)\)")


def hub_card(text: str) -> str:
    """The model card of ``docs/README.md`` as the root's: the hub's head, and links that lead from the root.

    Links to the project's README, which is not part of the bundle, become plain words.
    """
    text = re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", text)
    return HEAD + LINK.sub(r"](docs/\1)", text)


def make_folder(output: Path, bundle: Path = BUNDLE) -> Path:
    """Write the folder to push, replacing an earlier one.

    Args:
        output: folder to write it to, made if need be.
        bundle: the bundle's own folder.

    Raises:
        InputError: the bundle breaks a rule of the zoo, or the folder cannot be written.
    """
    names, place = bundle_files(bundle), output / NAME
    version(bundle)  # told in the changelog
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=output) as made:
            for name in names:
                target = Path(made, NAME, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle / name, target)
            card = Path(made, NAME, CARD)
            Path(made, NAME, "README.md").write_text(hub_card(card.read_text(encoding="utf-8")), encoding="utf-8")
            card.unlink()
            for name in (name for name in names if name.endswith(".md") and name != CARD):
                document = Path(made, NAME, name)
                text = TO_CARD.sub(r"](../README.md\1)", document.read_text(encoding="utf-8"))
                document.write_text(text, encoding="utf-8")
            shutil.rmtree(place, ignore_errors=True)
            Path(made, NAME).rename(place)
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise InputError(output, "a folder that can be written", found, "name another --output") from error
    return place


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the folder, and say how to push it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.apps.hub", description="The bundle as a folder for the hub.")
    parser.add_argument("--output", default="dist/hub", help="where to (default: dist/hub)")
    given = parser.parse_args(arguments)
    try:
        place = make_folder(Path(given.output))
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    push = f"python -m monai.bundle push_to_hf_hub --repo ACCOUNT/{NAME} --name {NAME} --bundle_dir {place.parent}"
    sys.stdout.write(f"{place}\nto push it, logged in with huggingface_hub: {push} --version {version()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
