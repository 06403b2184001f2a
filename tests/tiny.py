"""Volumes, pairs and settings so small that a training takes seconds."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "quiz_bundle"
SPACING = 5.0
RECIPE = {
    "spacing": SPACING,
    "fixed_extent": [[120, 140]] * 3,
    "moving_extent": [[100, 120]] * 3,
    "max_turn": 10.0,
}
SETTINGS = {
    "device": "cpu",
    "num_workers": 0,
    "batch_size": 2,
    "epoch_length": 2,
    "max_epochs": 1,
    "queries_per_pair": 24,
    "spacing_mm": SPACING,
    "coarse_spacing_mm": SPACING,
    "coarse_recipe": RECIPE,
    "fine_recipe": RECIPE,
}


def hu(seed: int, shape: tuple[int, int, int] = (36, 34, 32)) -> np.ndarray:
    """An elliptic body of soft texture in air, HU."""
    noise = ndimage.gaussian_filter(np.random.RandomState(seed).standard_normal(shape), 2.0)
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.where((x / 0.85) ** 2 + (y / 0.8) ** 2 < 1, 40 + 150 * noise / noise.std(), -1000).astype(np.float32)


def save(values: np.ndarray, path: Path, origin: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> str:
    """Write a NIfTI of 5 mm voxels whose first voxel lies at ``origin`` (mm)."""
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = origin
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)
    return str(path)


def volumes(folder: Path, count: int = 3) -> str:
    """A folder of plain volumes."""
    for seed in range(count):
        save(hu(seed), folder / f"{seed}.nii.gz")
    return str(folder)


def datalist(folder: Path, shift=(10.0, -5.0, 15.0)) -> str:
    """A datalist of three pairs: the moving scan is the fixed one cut and laid elsewhere, points shifted by ``shift`` mm."""
    rows = ["label,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z"]
    places = np.random.RandomState(0).uniform(50, 110, (12, 3))
    rows += [",".join([str(n), *map(str, [*p, *(p + shift)])]) for n, p in enumerate(places)]
    (folder / "points.csv").write_text("\n".join(rows) + "\n")
    sections = {}
    for seed, section in enumerate(("training", "validation", "test")):
        save(hu(seed), folder / f"fixed{seed}.nii.gz")
        origin = tuple(5 * SPACING + s for s in shift)
        save(hu(seed)[5:31, 5:31, 5:31], folder / f"moving{seed}.nii.gz", origin)
        pair = {"fixed": f"fixed{seed}.nii.gz", "moving": f"moving{seed}.nii.gz", "landmarks": "points.csv"}
        sections[section] = [pair]
    (folder / "pairs.json").write_text(json.dumps(sections))
    return str(folder / "pairs.json")


def workflow(run_id: str, *overlays: str, **options) -> ConfigWorkflow:
    """The workflow of ``train.json`` and overlays with tiny settings, initialised."""
    files = [str(BUNDLE / "configs" / f"{name}.json") for name in ("train", *overlays)]
    given = {**SETTINGS, "bundle_root": str(BUNDLE), **options}
    made = ConfigWorkflow(files, run_id=run_id, workflow_type="train", logging_file=False, **given)
    made.initialize()
    return made


def run(run_id: str, *overlays: str, **options) -> ConfigWorkflow:
    """Run such a workflow to its end."""
    made = workflow(run_id, *overlays, **options)
    made.run()
    made.finalize()
    return made


def train_to(folder: Path, ct: str, stop_after: int | None = None, **options) -> dict:
    """Train on a folder of volumes, to the end or to that of an epoch; the checkpoint in the output folder."""
    made = workflow("training", volumes=ct, output_dir=str(folder), learning_rate=1e-3, **options)
    if stop_after:
        trainer = made.parser.get_parsed_content("train#trainer")
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=stop_after), lambda engine: engine.terminate())
    made.run()
    return torch.load(folder / "resume.pt", weights_only=True)


def command_line(options: dict) -> list[str]:
    """Options as ``python -m monai.bundle`` takes them."""
    words = {key: value if isinstance(value, str) else json.dumps(value) for key, value in options.items()}
    return [word for key, value in words.items() for word in (f"--{key}", value)]
