"""What training minimises: wrong answers, wrong attention, wrong beliefs; in voxels, the same on every axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..network.heads import Found


class MatchLoss(nn.Module):
    """Loss of the answers in both directions (L_pair of eq. 2, and what a pointer needs to learn where to look).

    Args:
        pair: "squared" (eq. 2, in units of ``unit`` voxels of the searched volume), "squared_mm" (the same in units of
            ``unit`` mm) or "huber" (in tokens, wrong matches cannot dominate).
        attention: weight of the cross-entropy between the attention and a Gaussian round the target.
        answer: weight of the binary cross-entropy of "has an answer".
        spread: weight of the likelihood that fits the spread to the error; trains nothing else.
        cycle: weight of the same loss of points for the way back, which should end where the query was.
        sigma: width of that Gaussian, voxels.
        unit: length of one unit of the squared error, voxels or mm.
    """

    def __init__(
        self,
        pair: str = "huber",
        attention: float = 1.0,
        answer: float = 0.25,
        spread: float = 0.0,
        cycle: float = 0.0,
        sigma: float = 3.0,
        unit: float = 64.0,
    ) -> None:
        super().__init__()
        if pair not in ("squared", "squared_mm", "huber"):
            raise ValueError(f"pair: expected 'squared', 'squared_mm' or 'huber', found {pair!r}; change the config.")
        self.pair, self.sigma, self.unit = pair, sigma, unit
        self.attention, self.answer, self.spread, self.cycle = attention, answer, spread, cycle

    def forward(self, found: Sequence[Found], label: Tensor) -> Tensor:
        """Mean over the directions.

        Args:
            found: answers of each direction, D of them, and with ``cycle`` D more for the ways back.
            label: (B, D, Q, 14) as ``pairs.PackQueriesd`` makes it; target, presence and, for the way back, query.
        """
        rows = label.unbind(1)
        loss = torch.stack([self.one_way(f, row) for f, row in zip(found[: len(rows)], rows, strict=True)]).mean()
        if self.cycle:
            back = [
                self._points(f, r[..., 4:7], r[..., 3], r[..., 10:13]) for f, r in zip(found[len(rows) :], rows, strict=True)
            ]
            loss = loss + self.cycle * torch.stack(back).mean()
        return loss

    def one_way(self, found: Found, label: Tensor) -> Tensor:
        """Loss of one direction, label (B, Q, 14)."""
        target, answered = label[..., :3].float(), label[..., 3].float()
        count = answered.sum().clamp_min(1)
        loss = self._points(found, target, answered, label[..., 7:10])
        loss = loss + self.answer * functional.binary_cross_entropy_with_logits(found.answer, answered)
        if found.log_attention.shape[-1]:
            squared = (target[:, :, None] - found.tokens_at).square().sum(-1)
            wanted = (-squared / (2 * self.sigma**2)).softmax(-1)
            cross = -(wanted * found.log_attention).sum(-1)
            loss = loss + self.attention * (cross * answered).sum() / count
        if self.spread:
            scale = found.spread.clamp_min(0.1)
            error = (found.points - target).detach()
            likelihood = error.norm(dim=-1) / scale + scale.log()
            loss = loss + self.spread * (likelihood * answered).sum() / count
        return loss

    def _points(self, found: Found, target: Tensor, answered: Tensor, voxel_mm: Tensor) -> Tensor:
        """L_pair: the error of the points (B, Q, 3) that have an answer, a mean over those; ``voxel_mm`` is (B, Q, 3)."""
        error = found.points - target
        if self.pair == "squared_mm":
            error = error * voxel_mm.float()
        if self.pair.startswith("squared"):
            pair = (error / self.unit).square().sum(-1)
        else:
            distance = (error.square().sum(-1) + 1e-6).sqrt()
            pair = functional.smooth_l1_loss(distance / 4, torch.zeros_like(distance), reduction="none").clamp_max(6)
        return (pair * answered).sum() / answered.sum().clamp_min(1)
