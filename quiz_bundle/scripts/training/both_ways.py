"""Both directions of a pair in one call, for training: each volume is encoded once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.geometry import ijk_to_grid
from ..core.options import as_bool
from ..network.heads import Found
from ..network.quiznet import QuizNet


class BothWays(nn.Module):
    """Wraps a ``QuizNet`` so that one call answers fixed -> moving and moving -> fixed queries.

    A module, so that ``DistributedDataParallel`` can wrap it and mixed precision works on a CPU too (MONAI's trainer
    knows it on CUDA only).

    Args:
        network: shared, not copied.
        amp: run the convolutions and attention in bfloat16.
        and_back: in training, ask each direction's answers for the way back, too.

    Raises:
        InputError: ``amp`` is neither true nor false.
    """

    def __init__(self, network: QuizNet, amp: bool | str = False, and_back: bool = False) -> None:
        super().__init__()
        self.network, self.amp, self.and_back = network, as_bool("amp", amp), and_back

    def forward(self, image: Tensor, queries: Tensor, sizes: Tensor) -> tuple[Found, ...]:
        """Answer both directions; two more are the ways back from the answers of the first and of the second.

        Args:
            image: (B, 2, I, J, K), fixed and moving, padded behind their last voxels.
            queries: (B, 2, Q, 3) in voxels (ijk) of the fixed and of the moving volume.
            sizes: (B, 2, 3), the volumes' own shapes; what lies beyond the largest of the batch is cropped.
        """
        shapes = sizes.amax(0).tolist()
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            encoded = [self.network.encode(image[:, c : c + 1, :i, :j, :k]) for c, (i, j, k) in enumerate(shapes)]
            joined = self.network.join(*encoded)

        def ask(points_ijk: Tensor, volume: int) -> Found:
            return self.network.look_up(joined, ijk_to_grid(points_ijk, shapes[volume]), backward=volume == 1)

        found = tuple(ask(queries[:, c], c) for c in (0, 1))
        if self.and_back and self.training:
            found += tuple(ask(found[c].points, 1 - c) for c in (0, 1))
        return found
