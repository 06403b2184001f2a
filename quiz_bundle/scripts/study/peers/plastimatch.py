"""Plastimatch rigid, the program from the optional package plastimatch: a grid of translations, then versors."""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from monai.data import MetaTensor

from ...core.geometry import as_affine
from ...core.rigid import RigidTransform
from ...images.volumes import coarser, make_volume
from .base import Peer, field_centre, not_installed, peer, placed, shift
from .simple_itk import from_sitk, sitk_package, to_sitk

SPACING_MM = 2.0  # of the files; "res" counts their voxels, so the grid and the first rigid stage look at 4 mm
# Mutual information throughout. Of corners that overlap little the grid thinks too well: 0.9 is the most
# overlap that it lets one ask for.
COMMANDS = """\
[GLOBAL]
fixed=asked.mha
moving=other.mha
xform_out=found.tfm
default_value=0

[STAGE]
xform=translation
optim=grid_search
impl=plastimatch
metric=mi
gridsearch_min_overlap=0.9 0.9 0.9
num_substages=5
res=2 2 2

[STAGE]
xform=rigid
optim=versor
impl=itk
metric=mattes
max_its=200
max_step=4
min_step=0.05
res=2 2 2

[STAGE]
max_its=30
max_step=1
min_step=0.01
res=1 1 1
"""


@cache
def plastimatch_package() -> Path:
    """The program ``plastimatch``; SimpleITK writes its images and reads its transform.

    Raises:
        InputError: it or SimpleITK is not installed.
    """
    sitk_package()
    try:
        import plastimatch
    except ImportError as error:
        raise not_installed("plastimatch", "plastimatch") from error
    return Path(plastimatch.__file__).parent / "bin" / "plastimatch"


def run_plastimatch(asked: MetaTensor, other: MetaTensor, seed: int, threads: int) -> RigidTransform:
    """One run: ``asked`` is what plastimatch calls fixed; returns asked to other, RAS mm. It draws with a seed of its own.

    Both are moved to where their centres are the origin: its grid search starts there, and its versors turn about it.

    Raises:
        RuntimeError: plastimatch gave up.
    """
    sitk = sitk_package()
    homes = {name: shift(-field_centre(volume)) for name, volume in (("asked", asked), ("other", other))}
    limits = {"OMP_NUM_THREADS": str(threads), "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder:
        for name, volume in (("asked", asked), ("other", other)):
            image = to_sitk(placed(along_lps(coarser(volume, SPACING_MM)), homes[name]))
            sitk.WriteImage(image, str(Path(folder) / f"{name}.mha"))
        (Path(folder) / "commands.txt").write_text(COMMANDS, encoding="utf-8")
        command = [str(plastimatch_package()), "register", "commands.txt"]
        ran = subprocess.run(command, cwd=folder, env=os.environ | limits, capture_output=True, text=True, errors="replace")
        file = Path(folder) / "found.tfm"
        if ran.returncode or not file.exists():
            raise RuntimeError((ran.stderr or ran.stdout).strip() or f"plastimatch ended with {ran.returncode}")
        found = from_sitk(sitk.ReadTransform(str(file)))
    return homes["other"].inverse() @ found @ homes["asked"]


def along_lps(volume: MetaTensor) -> MetaTensor:
    """The same scene with its axes along LPS, from a volume (1, I, J, K) along RAS: its grid search knows no others."""
    turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    turn[:2, 3] = torch.tensor(volume.shape[1:3], dtype=torch.float64) - 1
    return make_volume(volume.as_tensor().flip(1, 2), as_affine(volume.affine) @ turn)


PLASTIMATCH: dict[str, Peer] = {"plastimatch": peer(run_plastimatch, plastimatch_package)}
