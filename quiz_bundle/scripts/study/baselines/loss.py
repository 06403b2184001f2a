"""What the deformable networks minimise: NCC, Dice and smoothness, within the field of view of both images."""

from __future__ import annotations

import torch
from monai.losses import DiffusionLoss, LocalNormalizedCrossCorrelationLoss, MaskedDiceLoss
from monai.networks.blocks import Warp
from torch import Tensor, nn
from torch.nn import functional

from ...images.volumes import WINDOW_HU
from .pairs import Truth

TISSUES_HU = (-300.0, 200.0)  # where the body and where bone begin
BLUR_HU = 50.0  # over how many HU: a step would let no gradient through


class DeformableLoss(nn.Module):
    """MONAI's squared local NCC plus Dice plus weight times smoothness, each counted where both images have voxels.

    The small field leaves most of the large one without a partner. An NCC window that reaches beyond either field compares
    anatomy with nothing and pulls the field's edge outwards, so that only windows within both count. The warped field of
    view takes no gradient: otherwise the cheapest way to a better mean is to push what does not fit out of sight.

    Args:
        smoothness: weight of the squared gradient of the displacement (voxels a voxel).
        dice: weight of the Dice loss of body and bone, made from HU.
        window: edge of the NCC's windows, voxels.
    """

    def __init__(self, smoothness: float = 0.01, dice: float = 1.0, window: int = 7) -> None:
        super().__init__()
        self.smoothness, self.dice, self.window = smoothness, dice, window
        self.correlation = LocalNormalizedCrossCorrelationLoss(3, window, reduction="none")
        self.overlap, self.gradient, self.warp = MaskedDiceLoss(), DiffusionLoss(), Warp(padding_mode="zeros")

    def forward(self, found: tuple[Tensor, Tensor], truth: Truth) -> Tensor:
        """A scalar.

        Args:
            found: warped image (B, 1, I, J, K) and displacements (B, 3, I, J, K) of a network.
            truth: fixed image and fields.
        """
        warped, displacement = found
        both = self.both_fields(displacement, truth)
        dice = self.overlap(tissues(warped), tissues(truth.fixed), both)
        return self.ncc(warped, truth.fixed, both) + self.dice * dice + self.smoothness * self.gradient(displacement)

    def both_fields(self, displacement: Tensor, truth: Truth) -> Tensor:
        """(B, 1, I, J, K), 1 where the fixed and the warped moving image have voxels, no gradient."""
        with torch.no_grad():
            return truth.fields[:, :1] * (self.warp(truth.fields[:, 1:], displacement) > 0.999)

    def ncc(self, warped: Tensor, fixed: Tensor, both: Tensor) -> Tensor:
        """Minus the mean squared NCC over the windows that lie within a mask (B, 1, I, J, K); 0 if none does."""
        share = functional.avg_pool3d(both, self.window, stride=1, padding=self.window // 2)  # beyond the grid is outside
        counts = (share > 0.999).float()
        return (self.correlation(warped, fixed) * counts).sum() / counts.sum().clamp_min(1)


def tissues(image: Tensor) -> Tensor:
    """Soft masks (B, 2, I, J, K) of body and bone from an image (B, 1, I, J, K) scaled from HU to [0, 1]."""
    low, high = WINDOW_HU
    begin = image.new_tensor(TISSUES_HU).reshape(1, -1, 1, 1, 1)
    return ((image * (high - low) + low - begin) / BLUR_HU).sigmoid()
