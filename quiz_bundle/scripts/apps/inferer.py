"""The tensor door for whole pairs: MONAI's inferer interface round the search, and how a pair travels in one tensor."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import MapTransform
from torch import Tensor

from ..core.rigid import RigidTransform
from ..network.padding import pad_together
from ..registration.register import Options
from ..registration.result import Matches
from ..registration.search import Fit, search

ROWS = 9  # fixed mm (3), moving mm (3), confidence, cycle error in mm, inlier


def pack_pair(fixed: MetaTensor, moving: MetaTensor) -> MetaTensor:
    """Two standardised volumes (1, I, J, K) as one image (2, I, J, K), padded with air; its meta knows the way back."""
    image = torch.cat(pad_together([v.as_tensor() for v in (fixed, moving)]))
    meta = {
        "moving_affine": moving.affine.clone(),
        "sizes": torch.tensor([fixed.shape[1:], moving.shape[1:]]),
        "window": fixed.meta.get("window"),
    }
    return MetaTensor(image, affine=fixed.affine, meta={k: v for k, v in meta.items() if v is not None})


def unpack_pair(image: MetaTensor) -> tuple[MetaTensor, MetaTensor]:
    """The two volumes of ``pack_pair``, from (2, I, J, K) or a batch of one (1, 2, I, J, K)."""
    plain = image.as_tensor()
    batched = plain.ndim == 5
    if batched and plain.shape[0] != 1:
        raise ValueError(f"pair: expected one pair at a time, found a batch of {plain.shape[0]}; use batch size 1.")
    plain = plain[0] if batched else plain

    def single(value: Tensor, dimensions: int) -> Tensor:
        value = torch.as_tensor(value)
        return value[0] if value.ndim > dimensions else value

    sizes = single(image.meta["sizes"], 2).tolist()
    affines = single(image.affine, 2), single(image.meta["moving_affine"], 2)
    window = image.meta.get("window")
    if window is not None and len(window) == 1:
        window = window[0]
    meta = {} if window is None else {"window": tuple(float(torch.as_tensor(w).flatten()[0]) for w in window)}
    fixed, moving = (
        MetaTensor(plain[c : c + 1, :i, :j, :k].cpu(), affine=a.cpu(), meta=dict(meta))
        for c, ((i, j, k), a) in enumerate(zip(sizes, affines, strict=True))
    )
    return fixed, moving


def fit_to_tensor(fit: Fit) -> MetaTensor:
    """A fit as one tensor of matches (1, 9, M), float64; what is not a row rides in the meta."""
    meta = {key: getattr(fit, key) for key in ("asked", "spacing", "peak_ratio")}
    if fit.transform is not None and fit.start is not None:
        meta["maps"] = torch.stack([fit.transform.matrix, fit.start.matrix])
    return MetaTensor(_rows(fit.matches)[None], meta=meta)


def tensor_to_fit(pred: MetaTensor) -> Fit:
    """Undo ``fit_to_tensor``, from (9, M) or a batch of one."""
    maps: list[RigidTransform | None] = [None, None]
    if "maps" in pred.meta:
        maps = [RigidTransform(matrix) for matrix in torch.as_tensor(pred.meta["maps"]).cpu().reshape(2, 4, 4)]
    kinds = {"asked": int, "spacing": float, "peak_ratio": float}
    return Fit(*maps, _matches(pred.as_tensor()), **{key: kind(pred.meta[key]) for key, kind in kinds.items()})


def _rows(m: Matches) -> Tensor:
    numbers = torch.stack([m.confidence, m.cycle_error_mm, m.inlier.double()], 1)
    return torch.cat([m.fixed_mm, m.moving_mm, numbers], 1).T.contiguous()


def _matches(rows: Tensor) -> Matches:
    rows = rows.double().cpu().reshape(ROWS, -1).T
    return Matches(rows[:, :3], rows[:, 3:6], rows[:, 6], rows[:, 7], rows[:, 8] > 0.5)


class PackPaird(MapTransform):
    """Join two standardised volumes under one key for the network.

    Args:
        keys: the fixed and the moving volume.
        output: key of the image (2, I, J, K).
    """

    def __init__(self, keys: KeysCollection, output: str = "image") -> None:
        super().__init__(keys)
        self.output = output

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return the dictionary with the image in it and without the two volumes."""
        fixed, moving = (data[key] for key in self.keys)
        rest = {key: value for key, value in data.items() if key not in self.keys}
        if "watch" in rest:
            rest["watch"].lap("standardise")
        return {**rest, self.output: pack_pair(fixed, moving)}


class QuizInferer(Inferer):
    """Searches a packed pair: image (1, 2, I, J, K) to matches (1, 9, M) in mm.

    Args:
        options: of the registration.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def __call__(self, inputs: MetaTensor, network: torch.nn.Module, *args: object, **kwargs: object) -> MetaTensor:
        """Find the matches of one pair."""
        generator = torch.Generator().manual_seed(self.options.seed)
        return fit_to_tensor(search(network, *unpack_pair(inputs), self.options.search, generator, self.options.amp))
