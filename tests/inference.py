"""The inference config run as users run it: in this process, or by the command line."""

import contextlib
import gzip
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from monai.bundle import create_workflow, run
from oracle import QUICK
from scripts.images.nifti import write_nifti

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "quiz_bundle"
CONFIG = BUNDLE / "configs" / "inference.json"
# For an oracle in the place of the matcher: coarse grids, and a network that is never asked.
ORACLE = {"search": QUICK, "spacing_mm": QUICK["spacing"], "network": {"_target_": "oracle.stand_in"}}


@dataclass
class Ended:
    """How a run ended: its exit status and what it wrote to stderr and stdout."""

    status: int
    stderr: str
    stdout: str = ""

    @property
    def line(self) -> str:
        """The last line on stderr."""
        return self.stderr.rstrip("\n").rpartition("\n")[2]


def infer(run_id: str = "inference", **options: object) -> Ended:
    """Run a config, that of inference or of ``run_id``, in this process, and end as the interpreter would."""
    hook, stderr = sys.excepthook, io.StringIO()
    with contextlib.redirect_stderr(stderr):
        try:
            config = CONFIG.with_name(f"{run_id}.json")
            usual = {"config_file": str(config), "workflow_type": "infer", "logging_file": False}
            run(run_id, **{**usual, **_given(options)})
            status = 0
        except SystemExit as end:
            status = end.code
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)
            status = 1
        finally:
            sys.excepthook = hook
    return Ended(status, stderr.getvalue())


def workflow(**options: object):
    """The inference workflow with some options changed."""
    return create_workflow(config_file=str(CONFIG), workflow_type="infer", logging_file=False, **_given(options))


def _given(options: dict) -> dict:
    given = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    return {"bundle_root": str(BUNDLE), "device": "cpu", **given}


def command_line(inside: bool = False, **options: object) -> Ended:
    """Run the documented command from the repository root, or the short one from inside the bundle."""
    where = ["--config_file", "configs/inference.json"]
    if not inside:
        where = ["--bundle_root", "quiz_bundle", "--config_file", "quiz_bundle/configs/inference.json"]
    given = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", *where, "--device", "cpu", *given]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=BUNDLE if inside else ROOT, env=environment
    )
    return Ended(done.returncode, done.stderr, done.stdout)


def write_scan(path: Path, volume) -> Path:
    """Write a volume as a NIfTI file of whole HU."""
    write_nifti(path, volume.as_tensor()[0].round().short(), volume.affine)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """What is in all files under a folder, unpacked, by path."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        found[str(path.relative_to(folder))] = data + (gzip.decompress(data) if path.suffix == ".gz" else b"")
    return found
