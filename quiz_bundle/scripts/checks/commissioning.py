"""Commissioning as AAPM TG-132 advises for rigid registration: a scan moved by known shifts and turns, and what is found.

The moved scan is the fixed one seen through a known rigid map, cut to a smaller field, with noise of its own. What a
registration should then be off by at most is half a voxel along each axis (TG-132, virtual phantom tests).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor
from tqdm import tqdm

from ..core.atomic import write_whole
from ..core.errors import InputError
from ..core.geometry import as_affine, centre_mm, ijk_to_mm, inside, spacing_of
from ..core.options import as_choice, as_device, as_integer, as_path
from ..core.rigid import RigidTransform, angle_deg
from ..images.body import body_mask
from ..images.volumes import AIR_HU, coarser, load_volume, make_volume, resample, to_orientation_ras
from ..network.quiznet import QuizNet
from ..network.weights import weights_sha256
from ..registration.register import Options, load_network, register
from ..synthetic.phantom import PelvisPhantom, add_noise
from .commissioning_table import Outcome, Trial, markdown

FIELD_MM = (260.0, 240.0, 160.0)  # R, A, S, of the moved scan, as that of a brachytherapy CT
NOISE_HU = 10.0
VOXEL_MM = (1.0, 1.0, 3.0)  # of the phantom, as of a planning CT
PLACES = 4000  # body points at which the error is looked at
BODY_STEP_MM = 3.0  # body points are looked for on a grid of these voxels


TRIALS = (
    Trial("none"),
    Trial("shift R 4.3", (4.3, 0.0, 0.0)),
    Trial("shift A 4.3", (0.0, 4.3, 0.0)),
    Trial("shift S 4.3", (0.0, 0.0, 4.3)),
    Trial("shift R 60", (60.0, 0.0, 0.0)),
    Trial("shift A 60", (0.0, 60.0, 0.0)),
    Trial("shift S 60", (0.0, 0.0, 60.0)),
    Trial("turn R 3", turn_deg=(3.0, 0.0, 0.0)),
    Trial("turn A 3", turn_deg=(0.0, 3.0, 0.0)),
    Trial("turn S 3", turn_deg=(0.0, 0.0, 3.0)),
    Trial("turn R 10", turn_deg=(10.0, 0.0, 0.0)),
    Trial("turn A 10", turn_deg=(0.0, 10.0, 0.0)),
    Trial("turn S 10", turn_deg=(0.0, 0.0, 10.0)),
    Trial("combined, small", (3.0, -12.0, 15.0), (2.0, -1.0, 3.0)),
    Trial("combined, large", (-45.0, 30.0, 50.0), (6.0, -7.0, 9.0)),
    Trial("another world frame", (310.0, -120.0, 640.0), (-5.0, 4.0, -8.0)),
)


def run_commissioning(
    volume: str | Path | None = None,
    output: str | Path = "eval/commissioning.md",
    seed: object = 0,
    device: object = "cpu",
    network: QuizNet | None = None,
    options: Options | None = None,
    trials: Sequence[Trial] = TRIALS,
) -> list[Outcome]:
    """Apply known shifts and turns to a scan, register, and write the errors as a table in Markdown.

    Args:
        volume: a CT (a file or a DICOM folder) of one's own scanner; the built-in phantom when left out.
        output: where the table goes, a ``.md`` file; written whole or not at all.
        seed: of the noise, and of the phantom's patient.
        device: where the network runs.
        network: on its device; the shipped weights when left out.
        options: of the registration.
        trials: what is applied.

    Raises:
        InputError: a bad option, or a volume that is no CT or holds no body.
    """
    seed, device, target = as_integer("seed", seed), as_device(device), Path(as_path("output", output))
    as_choice("output", target.suffix, (".md",))
    if target.is_dir():
        raise InputError(target, "a file to write", "a folder", "give --output another name")
    fixed = phantom_scan(seed) if volume is None else load_volume(as_path("volume", volume))
    network = network or load_network(device=device)
    outcomes = []
    for number, trial in enumerate(tqdm(trials, desc="commissioning", unit="trial")):
        outcomes.append(run_trial(fixed, trial, network, options or Options(), seed + number))
    name = f"the built-in phantom (patient {seed})" if volume is None else "a CT given with `--volume`"
    command = "make commissioning" if volume is None and seed == 0 else "run commissioning"
    text = markdown(outcomes, name, cut_to_mm(fixed), weights_sha256(network), command)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, text)
    return outcomes


def phantom_scan(seed: int, voxel_mm: Sequence[float] = VOXEL_MM) -> MetaTensor:
    """The planning CT of the built-in phantom, with noise as added here and not as the phantom has it."""
    scan = PelvisPhantom(seed).session("ebrt", spacing=voxel_mm, noise=False).volume
    return noisy(scan, seed)


def noisy(scan: MetaTensor, seed: int) -> MetaTensor:
    """A volume (1, I, J, K) with fresh noise of ``NOISE_HU``."""
    data = scan.as_tensor().clone()
    add_noise(np.random.default_rng([seed, 7]), data[0], NOISE_HU)
    return make_volume(data, scan.affine, scan.meta)


def cut_to_mm(fixed: MetaTensor) -> list[float] | None:
    """The sides R, A, S of a moved scan's field; None where it is no smaller than the scan (1, I, J, K)."""
    straight = to_orientation_ras(fixed)
    sides, shape = _field(straight)
    return None if shape == list(straight.shape[1:]) else sides


def _field(straight: MetaTensor) -> tuple[list[float], list[int]]:
    """Sides R, A, S of the moved scan's field, mm, and its shape."""
    step = spacing_of(straight.affine)
    sides = torch.minimum(torch.tensor(FIELD_MM, dtype=torch.float64), torch.tensor(straight.shape[1:]) * step)
    return sides.tolist(), (sides / step).round().long().tolist()


def moved_scan(fixed: MetaTensor, trial: Trial, seed: int) -> tuple[MetaTensor, RigidTransform, Tensor]:
    """The fixed scan seen after a known displacement of the patient, in a smaller field.

    Args:
        fixed: (1, I, J, K) HU.
        trial: the displacement.
        seed: of the noise.

    Returns:
        The moved scan, the true fixed-to-moving map, and body points (N, 3) of the fixed scan that the moved one holds.

    Raises:
        InputError: there is no body in the scan.
    """
    straight = to_orientation_ras(fixed)
    affine = as_affine(straight.affine)
    coarse = coarser(straight, BODY_STEP_MM, AIR_HU)
    voxels = body_mask(coarse).nonzero().double()
    if len(voxels) < 1000:
        raise InputError(fixed.meta.get("name", "volume"), "a CT of a body", "no body in it", "give another --volume")
    middle = centre_mm(affine, straight.shape[1:])  # as far as it can be, so that the field lies in the scan
    middle[:2] = ijk_to_mm(voxels.mean(0)[None], coarse.affine)[0, :2]
    truth = RigidTransform.about(trial.turn_deg, trial.shift_mm, middle)
    _, shape = _field(straight)
    grid = affine.clone()
    grid[:3, 3] = truth(middle[None])[0] - grid[:3, :3] @ ((torch.tensor(shape, dtype=torch.float64) - 1) / 2)
    placed = make_volume(straight.as_tensor(), truth.matrix @ affine)
    moving = make_volume(resample(placed, grid, shape).as_tensor(), grid, {"name": "moved"})
    chosen = torch.randperm(len(voxels), generator=torch.Generator().manual_seed(seed))
    body = ijk_to_mm(voxels[chosen], coarse.affine)
    body = body[inside(truth(body), grid, shape)][:PLACES]
    return noisy(moving, seed + 1000), truth, body


def run_trial(fixed: MetaTensor, trial: Trial, network: QuizNet, options: Options, seed: int) -> Outcome:
    """Register a scan and its moved self, and compare."""
    moving, truth, body = moved_scan(fixed, trial, seed)
    found = register(fixed, moving, network=network, options=options)
    limit = spacing_of(to_orientation_ras(fixed).affine) / 2
    fit = found.fixed_to_moving
    if fit is None:
        nothing = torch.full((3,), torch.nan, dtype=torch.float64)
        return Outcome(trial, False, nothing, nothing, float("nan"), limit)
    off = fit(body) - truth(body)
    return Outcome(trial, found.verdict.accepted, off.mean(0), off.abs().amax(0), angle_deg(fit, truth), limit)
