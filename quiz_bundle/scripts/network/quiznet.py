"""QuizNet: one encoder for both volumes, the quizzer, a head; the tensor door that generic tools know."""

from __future__ import annotations

from typing import NamedTuple

import torch
from monai.networks.nets import ResNet
from torch import Tensor, nn
from torch.nn import functional

from ..core.geometry import grid_to_ijk, ijk_to_grid, sample
from .heads import Found, PointerHead, RegressionHead
from .quizzer import Quizzer


class Features(NamedTuple):
    """One volume as the network knows it.

    Attributes:
        coarse: (B, E, i, j, k) at stride 8; token (a, b, c) is centred on voxel (8a, 8b, 8c).
        fine: (B, F, i', j', k') at stride 4, centred likewise.
        shape: (I, J, K) of the volume.
    """

    coarse: Tensor
    fine: Tensor
    shape: list[int]


class Joined(NamedTuple):
    """Two volumes that have seen each other; queries in either are answered from it.

    Attributes:
        first, second: as encoded.
        tokens: (B, T1 + T2, E) at stride 8 after the exchange.
        positions: (T1 + T2, E) their encodings.
        first_fine, second_fine: (B, T', E) at stride 4.
    """

    first: Features
    second: Features
    tokens: Tensor
    positions: Tensor
    first_fine: Tensor
    second_fine: Tensor


class Encoder(nn.Module):
    """MONAI's ResNet-10 cut off behind its second stage: stride 8, 128 channels, and stride 4, 64 channels on the way.

    Each volume is normalised by itself: batch statistics, which MONAI's blocks come with, would mix the scans of a batch and
    stand for none of them later.

    Args:
        first_kernel: size of the first convolution (the paper's ResNet has 7).
        groups: of the group normalisation behind it; the blocks have instance normalisation.
    """

    def __init__(self, first_kernel: int = 7, groups: int = 8) -> None:
        super().__init__()
        resnet = ResNet(
            block="basic",
            layers=[1, 1, 1, 1],
            block_inplanes=[64, 128, 256, 512],
            spatial_dims=3,
            n_input_channels=1,
            conv1_t_size=first_kernel,
            conv1_t_stride=2,
            feed_forward=False,
            norm=("group", {"num_groups": groups}),
        )
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.act, resnet.maxpool)
        self.layer1, self.layer2 = one_by_one(resnet.layer1), one_by_one(resnet.layer2)

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, I, J, K) in [0, 1] to (B, 128, I/8, ...) and (B, 64, I/4, ...), sizes rounded up."""
        fine = self.layer1(self.stem(volume))
        return self.layer2(fine), fine


def one_by_one(block: nn.Module) -> nn.Module:
    """Replace batch normalisation by instance normalisation of the same weights, in place."""
    for name, child in block.named_children():
        if isinstance(child, nn.BatchNorm3d):
            norm = nn.InstanceNorm3d(child.num_features, eps=child.eps, affine=True)
            norm.load_state_dict({key: value for key, value in child.state_dict().items() if key in ("weight", "bias")})
            setattr(block, name, norm)
        else:
            one_by_one(child)
    return block


def token_centres(shape: list[int], stride: int, device: torch.device) -> Tensor:
    """Voxel indices (i * j * k, 3) on which the tokens of a map of this shape are centred."""
    i = torch.arange(shape[0], device=device)
    j = torch.arange(shape[1], device=device)
    k = torch.arange(shape[2], device=device)
    return torch.cartesian_prod(i, j, k).reshape(-1, 3).float() * stride


class QuizNet(nn.Module):
    """Answers where points of one volume lie in another.

    Args:
        quizzer: settings of ``Quizzer`` (its width is the encoder's 128).
        head: "pointer" or "regression" (the paper's).
        head_settings: further arguments of the head.
        first_kernel, groups: see ``Encoder``.
        default_queries: per axis, the lattice that ``forward`` asks when it is given no queries.
    """

    def __init__(
        self,
        quizzer: dict | None = None,
        head: str = "pointer",
        head_settings: dict | None = None,
        first_kernel: int = 7,
        groups: int = 8,
        default_queries: int = 4,
    ) -> None:
        super().__init__()
        heads = {"pointer": PointerHead, "regression": RegressionHead}
        if head not in heads:
            raise ValueError(f"head: expected one of {sorted(heads)}, found {head!r}; change the config.")
        width, self.stride, self.fine_stride = 128, 8, 4
        self.encoder = Encoder(first_kernel, groups)
        self.lateral = nn.Conv3d(64, width, 1)
        self.quizzer = Quizzer(width, **(quizzer or {}))
        self.merge = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)
        self.head = heads[head](width, **(head_settings or {}))
        steps = (torch.arange(default_queries) + 0.5) * 2 / default_queries - 1
        self.register_buffer("lattice_grid", torch.cartesian_prod(steps, steps, steps)[None], persistent=False)

    def encode(self, volume: Tensor) -> Features:
        """Encode a volume (B, 1, I, J, K), values in [0, 1], at its own size; once, for both directions."""
        coarse, fine = self.encoder(volume)
        return Features(coarse, self.lateral(fine), list(volume.shape[2:]))

    def join(self, first: Features, second: Features) -> Joined:
        """Let the tokens of two encoded volumes exchange; done once for all queries in both.

        Up to here mixed precision is welcome; coordinates need float32, so what is handed on is float32.
        """
        first_shape, second_shape = list(first.coarse.shape[2:]), list(second.coarse.shape[2:])
        positions = self.quizzer.positions(
            from_middle(token_centres(first_shape, self.stride, first.coarse.device), first.shape),
            from_middle(token_centres(second_shape, self.stride, first.coarse.device), second.shape),
        )
        tokens = self.quizzer.exchange(
            first.coarse.flatten(2).transpose(1, 2), second.coarse.flatten(2).transpose(1, 2), positions
        ).float()
        count = first_shape[0] * first_shape[1] * first_shape[2]
        first_fine, second_fine = self.lift(tokens[:, :count], first), self.lift(tokens[:, count:], second)
        return Joined(first, second, tokens, positions, first_fine, second_fine)

    def lift(self, tokens: Tensor, features: Features) -> Tensor:
        """Bring exchanged stride-8 tokens (B, T, E) of a volume to stride 4 and join the encoder's own: (B, T', E)."""
        coarse_shape, fine_shape = list(features.coarse.shape[2:]), list(features.fine.shape[2:])
        maps = tokens.transpose(1, 2).unflatten(2, coarse_shape)
        # Fine token j sits on coarse token j / 2: corners aligned, and an even map repeats its last plane.
        lifted = functional.interpolate(maps, [2 * n - 1 for n in coarse_shape], mode="trilinear", align_corners=True)
        gap = [have - 2 * n + 1 for have, n in zip(fine_shape, coarse_shape)]  # noqa: B905 (TorchScript knows no strict)
        lifted = functional.pad(lifted, [0, gap[2], 0, gap[1], 0, gap[0]], mode="replicate")
        fine = (lifted + features.fine).flatten(2).transpose(1, 2)
        return self.norm(fine + self.merge(fine)).float()

    def look_up(self, joined: Joined, queries_grid: Tensor, backward: bool = False) -> Found:
        """Answer queries; each answer stands alone, so they may come in chunks.

        Args:
            joined: of ``join``.
            queries_grid: (B, Q, 3) in [-1, 1] on the first volume, or on the second one if ``backward``.
            backward: search the first volume instead of the second.

        Returns:
            The answers; points in voxels (ijk) of the searched volume.
        """
        asked, asked_fine = joined.first, joined.first_fine
        searched, searched_fine = joined.second, joined.second_fine
        if backward:
            asked, asked_fine, searched, searched_fine = searched, searched_fine, asked, asked_fine
        fine_shape = list(asked.fine.shape[2:])
        queries_ijk = grid_to_ijk(queries_grid, asked.shape)
        at_grid = ijk_to_grid(queries_ijk / self.fine_stride, fine_shape)
        maps = asked_fine.transpose(1, 2).unflatten(2, fine_shape)
        features = sample(maps.float(), at_grid, "bilinear", "border").transpose(1, 2)
        queries_at = from_middle(queries_ijk, asked.shape)
        found = self.quizzer.ask(features, queries_at, int(backward), joined.tokens, joined.positions)
        searched_at = token_centres(list(searched.fine.shape[2:]), self.fine_stride, queries_grid.device)
        return self.head(features, found, queries_grid, searched_fine, searched_at, searched.shape)

    def forward(self, image: Tensor, queries: Tensor | None = None) -> Tensor:
        """The tensor door: (B, 2, I, J, K) and queries (B, Q, 3) to answers (B, 3 + 2, Q).

        Args:
            image: channel 0 is asked (fixed), channel 1 searched (moving), values in [0, 1].
            queries: on channel 0's grid in [-1, 1]; a lattice when left out.

        Returns:
            Channels: the answer on channel 1's grid (3), its spread in voxels, the probability that it lies there at all.
        """
        joined = self.join(self.encode(image[:, :1]), self.encode(image[:, 1:]))
        if queries is None:
            queries = self.lattice_grid.expand(image.shape[0], -1, -1)
        return as_prediction(self.look_up(joined, queries), joined.second.shape)


def from_middle(points_ijk: Tensor, shape: list[int]) -> Tensor:
    """Voxel indices (..., 3) as voxels from the middle of a volume of this shape."""
    return points_ijk - (torch.tensor(shape, dtype=torch.float32, device=points_ijk.device) - 1) / 2


def as_prediction(found: Found, shape: list[int]) -> Tensor:
    """A head's answers as one tensor (B, 3 + 2, Q): grid point, spread in voxels, probability of an answer."""
    grid = ijk_to_grid(found.points, shape)
    return torch.cat([grid.transpose(1, 2), found.spread[:, None], found.answer.sigmoid()[:, None]], 1)
