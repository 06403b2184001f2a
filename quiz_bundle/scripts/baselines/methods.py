"""The deformable methods by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from monai.data import MetaTensor
from torch import nn

from ..errors import InputError
from ..metrics import PointMap
from ..options import as_device
from ..peers.ants import ants_package
from ..resume import with_weights
from ..rigid import RigidTransform
from .common_grid import on_grid, prepare_fixed, prepare_moving
from .field import FieldMap
from .networks import transmorph, voxelmorph
from .syn import run_syn

# fixed and moving in HU, start (fixed to moving), seed, threads: a map from fixed to moving points
Deform = Callable[[MetaTensor, MetaTensor, RigidTransform, int, int], PointMap]
NETWORKS: dict[str, Callable[[], nn.Module]] = {"voxelmorph": voxelmorph, "transmorph": transmorph}
SYN = "ants_syn"
DEFORMABLE = (SYN, *NETWORKS)


def trained_weights(name: str, file: str | Path | None = None) -> Path | None:
    """The file of a method's weights: the one given, or else where its training puts it; None for SyN, which has none.

    Raises:
        InputError: it is not there.
    """
    if name not in NETWORKS:
        return None
    path = Path(file or f"runs/baselines/{name}/model.pt")
    if not path.is_file():
        configs = ("train.json", "baselines/deformable.json", f"baselines/{name}.json")
        listed = ",".join(f"'quiz_bundle/configs/{config}'" for config in configs)
        command = f'python -m monai.bundle run training --bundle_root quiz_bundle --config_file "[{listed}]"'
        raise InputError(path, f"trained weights of {name}", "no such file", f"train it: {command}")
    return path


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
    if name == SYN:
        ants_package()
        return run_syn
    return NetworkDeform(with_weights(NETWORKS[name](), trained_weights(name, weights), as_device(device)))


class NetworkDeform:
    """Runs a network on a pair, on the grid that it was trained on (see ``common_grid``).

    Args:
        network: of ``networks``, in evaluation mode, on its device.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    @torch.no_grad()
    def __call__(
        self, fixed: MetaTensor, moving: MetaTensor, start: RigidTransform, seed: int = 0, threads: int = 1
    ) -> FieldMap:
        """The network's map from fixed to moving points; nothing is drawn, and threads are torch's."""
        device = next(self.network.parameters()).device
        pair = on_grid(prepare_fixed(fixed), prepare_moving(moving), start)
        _, displacement = self.network(pair.moving[None].to(device), pair.fixed[None].to(device))
        return FieldMap.from_voxels(displacement[0].cpu(), pair.affine, start.matrix)
