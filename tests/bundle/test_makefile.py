"""The Makefile where a shell is bare: a container's user without a name."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("given", [None, "", "somebody"])
def test_every_target_runs_under_some_name(given, tmp_path):
    """PyTorch, and so `import monai`, fails where USER is missing and the user's number has no name."""
    file = tmp_path / "Makefile"
    file.write_text(f"include {ROOT / 'Makefile'}\nwho:\n\t@echo $$USER\n")
    left_out = ("USER", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    environment |= {} if given is None else {"USER": given}
    command = ["make", "-s", "-f", str(file), "who"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == given if given else done.stdout.strip()
