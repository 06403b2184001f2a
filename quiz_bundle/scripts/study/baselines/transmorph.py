"""TransMorph's network (Chen et al. 2022), put together from MONAI's Swin blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.networks.blocks import Convolution, PatchEmbed
from monai.networks.nets.swin_unetr import PatchMergingV2, SwinTransformerBlock, compute_mask, get_window_size
from torch import Tensor, nn
from torch.nn import functional


class SwinStage(nn.Module):
    """Swin blocks at one resolution, every other one with shifted windows.

    MONAI's ``BasicLayer`` merges the patches before it answers and needs the package einops; the skips of TransMorph
    leave before the patches are merged.

    Args:
        width: channels E.
        depth: number of blocks.
        heads: of the attention.
        window: edges of the windows, tokens.
        drop_path: chance that a block is skipped in training, one a block.
    """

    def __init__(self, width: int, depth: int, heads: int, window: Sequence[int], drop_path: Sequence[float]) -> None:
        super().__init__()
        self.window, self.shift = tuple(window), tuple(edge // 2 for edge in window)
        self.blocks = nn.ModuleList(
            SwinTransformerBlock(
                width,
                heads,
                self.window,
                self.shift if number % 2 else (0, 0, 0),
                qkv_bias=False,
                drop_path=drop_path[number],
            )
            for number in range(depth)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, I, J, K, E) to tokens of the same shape."""
        window, shift = get_window_size(tokens.shape[1:4], self.window, self.shift)
        padded = [-(-size // edge) * edge for size, edge in zip(tokens.shape[1:4], window, strict=True)]
        mask = compute_mask(padded, window, shift, tokens.device)
        for block in self.blocks:
            tokens = block(tokens, mask)
        return tokens


class Decoder(nn.Module):
    """Doubles the resolution, joins a skip where there is one, and convolves twice.

    Args:
        channels: that come in from below, of the skip (0 for none), and that go out.
    """

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        below, skip, out = channels
        self.convolve = nn.Sequential(convolution(below + skip, out), convolution(out, out))

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """(B, C, i, j, k) and (B, C', I, J, K) to (B, C'', I, J, K)."""
        # To the skip's size and not by two: patches of an odd number of voxels are merged with an edge of zeros.
        above = functional.interpolate(below, size=skip.shape[2:], mode="trilinear", align_corners=False)
        return self.convolve(torch.cat([above, skip], 1))


def convolution(channels_in: int, channels_out: int) -> nn.Module:
    """A convolution over 3 x 3 x 3 voxels, instance norm, leaky rectifier."""
    return Convolution(3, channels_in, channels_out, act=("leakyrelu", {"negative_slope": 0.01}), bias=False)


class TransMorph(nn.Module):
    """From a moving and a fixed image to displacements: Swin encoder, convolutional decoder, skips at all resolutions.

    The defaults train on a CPU. The published settings are ``width=96``,
    ``window=(5, 6, 7)`` and ``drop_path=0.3`` on 160 x 192 x 224 voxels.

    Args:
        width: channels of the first stage; each following one has twice as many.
        depths, heads: blocks and attention heads of each stage.
        window: edges of the attention windows in tokens; the published ones are 1/32 of the image.
        patch: edge of a token in voxels.
        head_channels: channels at full resolution.
        drop_path: chance that the last block is skipped in training; earlier ones less.
    """

    def __init__(
        self,
        width: int = 24,
        depths: Sequence[int] = (2, 2, 4, 2),
        heads: Sequence[int] = (4, 4, 8, 8),
        window: Sequence[int] = (4, 4, 4),
        patch: int = 4,
        head_channels: int = 16,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in range(len(depths))]
        chances = iter(np.linspace(0, drop_path, sum(depths)))
        self.embed = PatchEmbed(patch, 2, width, nn.LayerNorm, 3)
        self.stages = nn.ModuleList(
            SwinStage(*settings, window, [float(next(chances)) for _ in range(settings[1])])
            for settings in zip(widths, depths, heads, strict=True)
        )
        self.merges = nn.ModuleList(PatchMergingV2(channels) for channels in widths[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in widths)
        self.at_half = convolution(2, width // 2)
        self.at_full = convolution(2, head_channels)
        steps = [(low, high, high) for high, low in zip(widths[-2::-1], widths[:0:-1], strict=True)]
        steps += [(width, width // 2, width // 2), (width // 2, head_channels, head_channels)]
        self.decoders = nn.ModuleList(Decoder(step) for step in steps)
        self.flow = nn.Conv3d(head_channels, 3, 3, padding=1)

    def forward(self, pair: Tensor) -> Tensor:
        """Images (B, 2, I, J, K), moving first, to displacements (B, 3, I, J, K) in voxels."""
        skips = [self.at_full(pair), self.at_half(functional.avg_pool3d(pair, 3, stride=2, padding=1))]
        tokens = self.embed(pair).movedim(1, -1)
        for number, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            tokens = stage(tokens)
            skips.append(norm(tokens).movedim(-1, 1))
            if number < len(self.merges):
                tokens = self.merges[number](tokens)
        found = skips.pop()
        for decoder in self.decoders:
            found = decoder(found, skips.pop())
        return self.flow(found)
