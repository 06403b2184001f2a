"""The two networks: MONAI's VoxelMorph, with its own U-net or with TransMorph's network inside it."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import VoxelMorph, VoxelMorphUNet
from torch import nn

from .transmorph import TransMorph

SMALL = 1e-5  # standard deviation of the last layer's weights at first, as published for both


def voxelmorph(
    channels: Sequence[int] = (16, 32, 32, 32, 32, 32), final_channels: Sequence[int] = (16, 16), integration_steps: int = 7
) -> VoxelMorph:
    """VoxelMorph (Balakrishnan et al. 2019); the defaults are the published settings, diffeomorphic as distributed.

    Args:
        channels: of the U-net, in pairs of the way down and the way up.
        final_channels: of the convolutions at full resolution that follow.
        integration_steps: squarings that make displacements of velocities; 0 for displacements at once.

    Returns:
        A network that takes moving and fixed (B, 1, I, J, K), and gives the warped image and displacements (B, 3, I, J, K)
        in voxels, fixed to moving; I, J, K are multiples of 8.
    """
    backbone = VoxelMorphUNet(3, 2, channels[1], channels, final_channels)
    begin_lively(backbone)
    begin_at_rest(backbone.net[1].final_conv_out.conv)
    return VoxelMorph(backbone, integration_steps)


def transmorph(**settings: object) -> VoxelMorph:
    """TransMorph, not diffeomorphic, as published; takes and gives what ``voxelmorph`` does.

    Args:
        settings: of ``TransMorph``.
    """
    backbone = TransMorph(**settings)
    begin_at_rest(backbone.flow)
    return VoxelMorph(backbone, integration_steps=0)


def begin_lively(network: nn.Module) -> None:
    """Draw convolutions as He et al. (2015) and the authors of VoxelMorph do.

    It has no normalisation: with PyTorch's own smaller weights the signal fades from layer to layer, and nothing is learnt.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)


def begin_at_rest(layer: nn.Conv3d) -> None:
    """Let a layer answer next to nothing at first."""
    nn.init.normal_(layer.weight, std=SMALL)
    nn.init.zeros_(layer.bias)
