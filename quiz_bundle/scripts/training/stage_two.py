"""The paper's second stage: the answers also have to bring the images together (eq. 1: L = L_pair + 0.01 * L_trans)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from ignite.engine import Engine
from monai.engines import PrepareBatchExtraInput
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.nn import functional

from ..network.heads import Found
from ..registration.similarity import windowed_ncc
from .losses import MatchLoss
from .resetter import RigidResetter, covered, reset


class Targets(NamedTuple):
    """What the loss of the second stage compares the answers with.

    Attributes:
        label: (B, D, Q, 14) as ``pairs.PackQueriesd`` makes it.
        image: (B, 2, I, J, K), values in [0, 1], padded behind the last voxels.
        sizes: (B, 2, 3), the volumes' own shapes.
    """

    label: Tensor
    image: Tensor
    sizes: Tensor


class PrepareTargets(PrepareBatchExtraInput):
    """Hands the images on to the loss, which in MONAI's engines sees the label only."""

    def __init__(self) -> None:
        super().__init__(("queries", "sizes"))

    def __call__(self, batchdata: dict, *args: object, **options: object) -> tuple[Tensor, Targets, tuple, dict]:
        """Return image, targets, and the network's further arguments (queries, sizes)."""
        image, label, (queries, sizes), extra = super().__call__(batchdata, *args, **options)
        return image, Targets(label, image, sizes), (queries, sizes), extra


class ResetLoss(nn.Module):
    """L_pair + weight * L_trans; L_trans = -NCC (eq. 3) of the asked volume and the searched one reset onto it (eq. 5).

    The answers of one direction are averaged to one map by the resetter, the searched volume is laid on the asked one by
    differentiable sampling, and the windowed NCC (eq. 4) of the two is taken where both have a field of view. Voxel
    indices times the voxel size are the mm of this module: each volume's own frame is as good as the world here.

    Args:
        pair: L_pair.
        resetter: from answers to a map.
        weight: alpha of eq. 1.
        window: edge of the NCC's windows, voxels of the pooled volumes.
        pool: both volumes are averaged over cubes of this edge first; 2 makes L_trans eight times cheaper and reaches
            twice as far.
    """

    def __init__(
        self, pair: MatchLoss, resetter: RigidResetter, weight: float = 0.01, window: int = 9, pool: int = 2
    ) -> None:
        super().__init__()
        self.pair, self.resetter = pair, resetter
        self.weight, self.window, self.pool = weight, window, pool

    def forward(self, found: Sequence[Found], targets: Targets) -> Tensor:
        """Mean over the directions, a scalar.

        Args:
            found: answers of each direction, two of them, and what else L_pair wants.
            targets: labels and images.
        """
        trans = torch.stack([self.trans(f, targets, d) for d, f in enumerate(found[:2])]).mean()
        return self.pair(found, targets.label) + self.weight * trans

    def trans(self, found: Found, targets: Targets, direction: int) -> Tensor:
        """L_trans of one direction (0 asks the first volume), the mean over the batch."""
        label = targets.label[:, direction].double()
        asked_mm = label[..., 4:7] * label[..., 10:13]
        answers_mm = found.points.double() * label[..., 7:10]
        matrices = self.resetter(asked_mm, answers_mm, found.answer.sigmoid())
        values = []
        for case, matrix in enumerate(matrices):
            asked, asked_affine = self._pooled(targets, case, direction, label[case, 0, 10:13])
            searched, searched_affine = self._pooled(targets, case, 1 - direction, label[case, 0, 7:10])
            where = (asked.shape[2:], asked_affine, matrix[None])
            moved = reset(searched, searched_affine, *where)
            both = covered(searched.shape[2:], searched_affine, *where)
            values.append(windowed_ncc(asked, moved, both, window=self.window)[0])
        return -torch.stack(values).mean()

    def _pooled(self, targets: Targets, case: int, side: int, spacing: Tensor) -> tuple[Tensor, Tensor]:
        """One volume (1, 1, i, j, k) without its padding, averaged over cubes, and its affine (4, 4) to its own mm.

        A last incomplete cube is left out, and an axis shorter than a cube is averaged as a whole. Voxel 0 sits in the
        middle of the first cube.
        """
        i, j, k = targets.sizes[case, side].tolist()
        volume = targets.image[case, side, :i, :j, :k][None, None].as_subclass(Tensor).float()
        edges = [min(self.pool, n) for n in (i, j, k)]
        edge = spacing.new_tensor(edges)
        affine = torch.diag(torch.cat([spacing * edge, spacing.new_ones(1)]))
        affine[:3, 3] = spacing * (edge - 1) / 2
        return functional.avg_pool3d(volume, edges), affine


class ClipGradients:
    """Scales the gradient down to a largest norm before each step: that of a fit to nearly collinear answers is large.

    Args:
        network: whose gradient.
        norm: the largest norm.
    """

    def __init__(self, network: nn.Module, norm: float = 1.0) -> None:
        self.network, self.norm = network, norm

    def attach(self, trainer: Engine) -> None:
        """Clip after each backward pass."""
        trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Clip now."""
        nn.utils.clip_grad_norm_(self.network.parameters(), self.norm)
