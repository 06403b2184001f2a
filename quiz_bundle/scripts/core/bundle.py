"""The bundle itself: where it lies, and the versions of it and of what it stands on."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import monai
import nibabel as nib
import numpy as np
import torch

BUNDLE = Path(__file__).resolve().parents[2]


def bundle_version() -> str:
    """The version in ``configs/metadata.json``; empty if the scripts are used without the bundle's configs."""
    metadata = BUNDLE / "configs" / "metadata.json"
    return json.loads(metadata.read_text(encoding="utf-8")).get("version", "") if metadata.is_file() else ""


def versions() -> dict[str, str]:
    """Versions by name, as report.json keeps them."""
    return {
        "quiz_bundle": bundle_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "numpy": np.__version__,
        "nibabel": nib.__version__,
    }
