"""Weights of a network: loaded whole and safely, put on a device, and known by their hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from ..core.errors import InputError
from ..core.options import as_device, as_path


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a state dict into a network, every key of it and nothing else; it remembers the file's hash.

    Raises:
        InputError: the file is missing, is not a state dict, or is one of another network.
    """
    if not Path(as_path("weights", path)).is_file():
        raise InputError(path, "a file of weights", "no such file", "train first, or name another file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except (RuntimeError, AttributeError, EOFError, ValueError, KeyError) as error:
        found = str(error).strip().splitlines()[0][:160]
        raise InputError(path, "the weights of this network", found, "use the config they were trained with") from error
    except Exception as error:  # torch.load raises pickle errors of several kinds
        raise InputError(path, "a state dict saved by torch", type(error).__name__, "name another file") from error
    network.loaded_sha256 = _state_sha256(network), hashlib.sha256(Path(path).read_bytes()).hexdigest()


def weights_sha256(network: nn.Module) -> str:
    """Hash of the file that a network's weights were loaded from, or of the weights themselves if they changed since."""
    state = _state_sha256(network)
    loaded, file = getattr(network, "loaded_sha256", ("", ""))
    return file if loaded == state else state


def _state_sha256(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def on_device(network: nn.Module, device: str | torch.device) -> nn.Module:
    """A network on a device that is there (see ``as_device``)."""
    return network.to(as_device(device))


def with_weights(network: nn.Module, path: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """A network with weights from a file, on its device, in evaluation mode (see ``load_weights``)."""
    network = on_device(network, device)
    load_weights(network, path)
    return network.eval()
