"""The deformable methods by name."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from ...core.errors import InputError
from ...core.options import as_device
from ...core.rigid import RigidTransform
from ...network.weights import with_weights
from ...registration.metrics import PointMap
from ..peers.ants import ants_package
from .common_grid import on_grid, prepare_fixed, prepare_moving
from .field import FieldMap
from .loss import DeformableLoss
from .networks import transmorph, voxelmorph
from .pairs import Truth
from .syn import run_syn

# fixed and moving in HU, start (fixed to moving), seed, threads: a map from fixed to moving points
Deform = Callable[[MetaTensor, MetaTensor, RigidTransform, int, int], PointMap]
SMOOTH = "_smooth"  # trained with the smoothness that its authors take with NCC, a hundred times the paper's
AFTER = "_after_quiz"  # the same, trained on pairs that start where QUIZ puts them
SMOOTHNESS = {"": 0.01, SMOOTH: 1.0, AFTER: 1.0}
BUILT: dict[str, Callable[[], nn.Module]] = {"voxelmorph": voxelmorph, "transmorph": transmorph}
NETWORKS = tuple(name + kind for kind in SMOOTHNESS for name in BUILT)
SYN = {"ants_syn": run_syn, "ants_syn_only": partial(run_syn, affine_stage=False)}
TUNED = "_tuned"  # the network goes on learning on the pair itself, which needs no landmarks
DEFORMABLE = (*SYN, *NETWORKS, *(name + TUNED for name in NETWORKS))
STEPS, STEP_RATE = 30, 1e-3  # of that


def trained_weights(name: str, file: str | Path | None = None) -> Path | None:
    """The file of a method's weights: the one given, or else where its training puts it; None for SyN, which has none.

    Raises:
        InputError: it is not there.
    """
    name = name.removesuffix(TUNED)
    if name not in NETWORKS:
        return None
    path = Path(file or f"runs/baselines/{name}/model.pt")
    if not path.is_file():
        plain, kind = _parted(name)
        configs = ["train.json", *(f"study/baselines/{part}.json" for part in ("deformable", plain, kind[1:]) if part)]
        listed = ",".join(f"'quiz_bundle/configs/{config}'" for config in configs)
        command = f'python -m monai.bundle run training --bundle_root quiz_bundle --config_file "[{listed}]"'
        raise InputError(path, f"trained weights of {name}", "no such file", f"train it: {command}")
    return path


def _parted(name: str) -> tuple[str, str]:
    """A trained network's name as that of the network and what its training is called."""
    kind = next((kind for kind in SMOOTHNESS if kind and name.endswith(kind)), "")
    return name.removesuffix(kind), kind


def deformable(name: str, weights: str | Path | None = None, device: str | torch.device = "cpu") -> Deform:
    """A deformable method, ready to run.

    Args:
        name: one of ``DEFORMABLE``.
        weights: of a network of the default size, see ``trained_weights``.
        device: for a network.

    Raises:
        InputError: no such name, no weights, those of another network, or antspyx is not installed.
    """
    if name not in DEFORMABLE:
        raise InputError("methods", f"one of {', '.join(DEFORMABLE)}", repr(name), "choose one of them")
    if name in SYN:
        ants_package()
        return SYN[name]
    plain, kind = _parted(name.removesuffix(TUNED))
    network = with_weights(BUILT[plain](), trained_weights(name, weights), as_device(device))
    return NetworkDeform(network, STEPS if name.endswith(TUNED) else 0, SMOOTHNESS[kind])


class NetworkDeform:
    """Runs a network on a pair, on the grid that it was trained on (see ``common_grid``).

    Args:
        network: of ``networks``, in evaluation mode, on its device.
        steps: of instance optimisation (Balakrishnan et al. 2019): a copy of the network is trained on the pair at hand
            with the loss of its training.
        smoothness: its weight in that loss.
    """

    def __init__(self, network: nn.Module, steps: int = 0, smoothness: float = SMOOTHNESS[""]) -> None:
        self.network, self.steps, self.smoothness = network, steps, smoothness

    def __call__(
        self, fixed: MetaTensor, moving: MetaTensor, start: RigidTransform, seed: int = 0, threads: int = 1
    ) -> FieldMap:
        """The network's map from fixed to moving points; nothing is drawn, and threads are torch's."""
        device = next(self.network.parameters()).device
        pair = on_grid(prepare_fixed(fixed), prepare_moving(moving), start)
        images = pair.moving[None].to(device), pair.fixed[None].to(device)
        network = self._tuned(images, pair.fields[None].to(device)) if self.steps else self.network
        with torch.no_grad():
            _, displacement = network(*images)
        return FieldMap.from_voxels(displacement[0].cpu(), pair.affine, start.matrix)

    def _tuned(self, images: tuple[Tensor, Tensor], fields: Tensor) -> nn.Module:
        """A copy of the network that went on learning on one pair (1, 1, I, J, K)."""
        network, loss = deepcopy(self.network), DeformableLoss(self.smoothness)
        optimizer = torch.optim.Adam(network.parameters(), lr=STEP_RATE)
        with torch.enable_grad():
            for _ in range(self.steps):
                optimizer.zero_grad()
                loss(network(*images), Truth(images[1], fields)).backward()
                optimizer.step()
        return network
