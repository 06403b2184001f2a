"""From a training item to what the network eats: draw or load a pair, pick queries, pack and collate."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, Randomizable, Transform
from torch import Tensor
from torch.utils.data import default_collate

from ..core.geometry import inside, mm_to_ijk, spacing_of
from ..images.landmarks import read_landmarks
from ..images.volume_checks import check_field
from ..images.volumes import AIR_HU, coarser, load_volume, make_volume
from ..network.padding import pad_together
from ..synthetic.correspondences import draw_true_pair
from ..synthetic.joints import Joints, find_joints, joints_beside, phantom_joints
from ..synthetic.painting import load_painting
from ..synthetic.phantom import PelvisPhantom
from ..synthetic.synthesis import PairRecipe, Source
from .close_up import close_up

FEMUR = 2  # among the labels of a painting


class LoadSourced(Transform):
    """Make a training item ready, once; what it returns can be cached.

    ``{"volume": file}``, ``{"labels", "mask", "seed"}`` and ``{"phantom": seed}`` get a ``source`` to draw pairs from;
    ``{"fixed", "moving", "landmarks"}`` become volumes of one spacing (the largest) with ``fixed_points`` and
    ``moving_points`` (N, 3) in RAS mm; ``near`` holds both at each smaller spacing, by its mm.

    Args:
        spacings: voxel sizes (mm) that the recipes use.
        joints: whether to look for joints, for recipes that bend.
    """

    def __init__(self, spacings: Sequence[float] = (6.0, 3.0), joints: bool = False) -> None:
        self.spacings, self.joints = sorted({float(s) for s in spacings}), joints

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return the loaded item."""
        kind = next((kind for kind in ("volume", "labels", "phantom") if kind in data), None)
        if kind == "volume":
            volume = load_volume(data["volume"])
        elif kind == "labels":
            volume = load_painting(data["labels"], data["mask"], int(data["seed"]))
        elif kind == "phantom":
            session = PelvisPhantom(int(data["phantom"])).session("ebrt", spacing=(self.spacings[0],) * 3)
            volume = session.volume
        if kind:
            joints = None
            if self.joints:
                joints = phantom_joints(session) if kind == "phantom" else self._joints(volume, kind, data)
            source = Source.from_volume(volume, self.spacings, f"{kind} {data[kind]}", joints)
            return {"source": source, "draw": data.get("draw", 0)}
        fixed, moving = load_volume(data["fixed"]), load_volume(data["moving"])
        landmarks = read_landmarks(data["landmarks"], fixed.affine, moving.affine)
        for key, volume in (("fixed", fixed), ("moving", moving)):
            check_field(volume, data[key])
        *near, (whole_fixed, whole_moving) = [
            [coarser(volume, spacing, AIR_HU) for volume in (fixed, moving)] for spacing in self.spacings
        ]
        return {
            "fixed": whole_fixed,
            "moving": whole_moving,
            **({"near": dict(zip(self.spacings, near, strict=False))} if near else {}),
            "fixed_points": landmarks.fixed_mm,
            "moving_points": landmarks.moving_mm,
        }

    @staticmethod
    def _joints(volume: MetaTensor, kind: str, data: Mapping[Hashable, object]) -> Joints:
        """What can bend in a CT, or in a painting, which tells where its femora are."""
        if kind == "labels":
            femur = load_volume(data["labels"], labels=True)
            return find_joints(volume, make_volume((femur.as_tensor() == FEMUR).float(), femur.affine))
        return joints_beside(data["volume"], volume)


class Untracedd(MapTransform):
    """Take from volumes MONAI's record of what was done to them, so that a cache of them is read back safely.

    ``PersistentDataset`` then loads tensors and plain values only (``weights_only``), never code.
    """

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return a copy of the dictionary with the keys' volumes, their voxels, affines and other meta the same."""
        volumes = {key: data[key] for key in self.key_iterator(data)}
        return {**data, **{key: make_volume(v.as_tensor(), v.affine, v.meta) for key, v in volumes.items()}}


class DrawPaird(Randomizable, Transform):
    """Draw a pair of known truth from an item's ``source``, or the look at a loaded pair that a recipe asks for.

    A loaded pair stays whole at the largest spacing, as the first pass of a registration sees it; recipes of a smaller one
    get a close-up of it (``close_up``), as the second pass does.

    Args:
        recipes: arguments of ``PairRecipe``, one dictionary each.
        chances: how often each recipe is used; equal when left out.
        points: correspondences per pair.
        frozen: derive the draw from the item's ``draw`` number alone (for validation).
    """

    def __init__(
        self,
        recipes: Sequence[Mapping[str, object]],
        chances: Sequence[float] | None = None,
        points: int = 1024,
        frozen: bool = False,
    ) -> None:
        self.recipes = [PairRecipe(**recipe) for recipe in recipes]
        chances = np.ones(len(self.recipes)) if chances is None else np.asarray(chances, float)
        self.chances, self.points, self.frozen = chances / chances.sum(), points, frozen

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Return ``fixed`` and ``moving`` (1, I, J, K) in HU and their true ``fixed_points``, ``moving_points`` in mm.

        ``parts`` (N,) says which part of the body each point goes with (``Motion.followed``).
        ``drawn`` tells ``ForRealPairs`` that chance has had its share already.
        """
        near = data.get("near")
        if "source" not in data and not near:
            return dict(data)
        random = np.random.RandomState(int(data.get("draw", 0))) if self.frozen else self.R
        recipe = self.recipes[random.choice(len(self.recipes), p=self.chances)]
        if "source" not in data:
            pair = {key: value for key, value in data.items() if key != "near"}
            if recipe.spacing in near:
                points = data["fixed_points"], data["moving_points"]
                pair["fixed"], pair["moving"] = close_up(near[recipe.spacing], points, recipe, random)
            return pair
        pair, fixed_mm, moving_mm = draw_true_pair(data["source"], recipe, self.points, random)
        points = {"fixed_points": fixed_mm, "moving_points": moving_mm, "parts": pair.motion.followed(moving_mm)}
        return {"fixed": pair.fixed, "moving": pair.moving, **points, "drawn": True}


class ForRealPairs(Compose):
    """Transforms, one after the other, for pairs that were loaded; pairs that were drawn pass."""

    def __call__(self, data: Mapping[Hashable, object], *args: object, **options: object) -> Mapping[Hashable, object]:
        """Apply them, unless the pair was drawn by ``DrawPaird``."""
        return data if data.get("drawn") else super().__call__(data, *args, **options)


class PackQueriesd(Randomizable, MapTransform):
    """Choose queries for both directions and pack a pair for the network.

    The network's first volume is the fixed or the moving one, by chance. Of the points that lie in the asked field,
    ``queries`` are drawn; at most a quarter has no answer in the searched field. Points drawn twice fill up what is missing.

    Args:
        queries: number Q of queries in each direction.
        fixed_first: probability that the network's first volume is the fixed one.
    """

    def __init__(self, queries: int = 192, fixed_first: float = 0.5) -> None:
        MapTransform.__init__(self, ("fixed", "moving"))
        self.queries, self.fixed_first = queries, fixed_first

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, Tensor]:
        """Return ``image`` (2, I, J, K), ``queries`` (2, Q, 3) in voxels, ``label`` (2, Q, 14) and ``sizes`` (2, 3).

        A label is the target in voxels of the searched volume (3), whether it lies in its field (1), the query in voxels of
        the asked volume (3), the voxel sizes in mm of the searched (3) and of the asked volume (3), and the part of the
        body that the point goes with (1): 0 for a body that moves as one, -1 for none.
        """
        keys = ("fixed", "moving") if self.R.uniform() < self.fixed_first else ("moving", "fixed")
        volumes = [data[key] for key in keys]
        points = [data[f"{key}_points"] for key in keys]
        visible = [inside(p, v.affine, v.shape[1:]) for p, v in zip(points, volumes, strict=True)]
        voxels = [mm_to_ijk(p, v.affine) for p, v in zip(points, volumes, strict=True)]
        parts = data.get("parts", torch.zeros(len(points[0])))
        queries, labels = [], []
        for asked, searched in ((0, 1), (1, 0)):
            answered = (visible[asked] & visible[searched]).nonzero()[:, 0].numpy()
            silent = (visible[asked] & ~visible[searched]).nonzero()[:, 0].numpy()
            few = min(len(silent), self.queries // 4)
            chosen = np.concatenate([self.R.permutation(silent)[:few], self._draw(answered, self.queries - few)])
            if len(chosen) < self.queries:  # no point has an answer: only silent ones, or none at all
                chosen = self._draw(silent if len(silent) else np.arange(len(points[0])), self.queries)
            chosen = torch.as_tensor(chosen.astype(np.int64))
            has = (visible[asked] & visible[searched])[chosen]
            queries.append(voxels[asked][chosen])
            steps = torch.cat([spacing_of(volumes[searched].affine), spacing_of(volumes[asked].affine)])
            row = [voxels[searched][chosen], has[:, None].double(), voxels[asked][chosen], steps.expand(len(chosen), 6)]
            row.append(parts[chosen, None].double())
            labels.append(torch.cat(row, -1))
        return {
            "image": torch.cat(pad_together([v.as_tensor()[None] for v in volumes]), 1)[0],
            "queries": torch.stack(queries).float(),
            "label": torch.stack(labels).float(),
            "sizes": torch.tensor([v.shape[1:] for v in volumes]),
        }

    def _draw(self, candidates: np.ndarray, count: int) -> np.ndarray:
        if len(candidates) == 0:
            return candidates
        return self.R.choice(candidates, count, replace=len(candidates) < count)


def collate_pairs(items: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stack packed pairs into a batch; images are padded to one shape, ``sizes`` remembers their own."""
    images = pad_together([item["image"] for item in items])
    return default_collate([{**item, "image": image} for item, image in zip(items, images, strict=True)])
