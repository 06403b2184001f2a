"""Which pairs a run consists of, and how each is made when its turn comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monai.data import MetaTensor

from ..core.errors import InputError
from ..images.image_files import find_images
from ..images.landmarks import read_landmarks
from ..images.volumes import load_volume
from .joints import Joints, joints_beside, phantom_joints
from .phantom import PelvisPhantom, PhantomSession
from .regime_recipes import REGIMES
from .regimes import EvaluationCase, draw_case, real_case

REAL = "real"  # stands where the regime's name stands for pairs of known truth
FIRST_PHANTOM = 1000  # training draws its phantoms from 0 on
PHANTOM_MM = {"usual": 360.0, "long": 900.0}  # of the reference; long where the moving scan lies anywhere along it
PHANTOM_SPACING = (2.5, 2.5, 3.0)


@dataclass(frozen=True)
class Planned:
    """A pair to be made.

    Attributes:
        volume: name of the reference in the table.
        regime: name in ``REGIMES``, or ``REAL``.
        seed: of the draw.
        number: how many pairs of its regime come before it.
        source: file or phantom that the reference is; empty for a real pair.
        other: the same for what an unrelated moving scan is drawn from.
        pair: the datalist's entry of a real pair.
    """

    volume: str
    regime: str
    seed: int
    number: int
    source: str = ""
    other: str = ""
    pair: Mapping = field(default_factory=dict)

    @property
    def name(self) -> tuple[str, str, str]:
        """The first columns of its rows."""
        return self.volume, self.regime, str(self.seed)


def plan_pairs(
    sources: Sequence[str],
    regimes: Sequence[str],
    cases: int,
    seed: int,
    unrelated: Sequence[str] = (),
    real_pairs: Sequence[Mapping] = (),
) -> list[Planned]:
    """All pairs of a run: ``cases`` of each regime, their references taken from the sources in turn.

    They are ordered by source and regime, so that each is loaded once.

    Raises:
        InputError: unrelated pairs are asked for, but nothing to draw them from; two sources, or real pairs, of one name.
    """
    check_names("volume", map(volume_name, sources))
    check_names("datalist", map(_pair_name, real_pairs))
    drawn = []
    for source in sources:
        for regime in regimes:
            for number in range(sources.index(source), cases, len(sources)):
                other = ""
                if REGIMES[regime].unrelated:
                    if not unrelated:
                        remedy = "give --unrelated FILE, or leave the regime out"
                        raise InputError("unrelated", f"a CT for the regime {regime}", "none", remedy)
                    other = unrelated[number % len(unrelated)]
                drawn.append(Planned(volume_name(source), regime, seed + number, number, source, other))
    for number, pair in enumerate(real_pairs):
        drawn.append(Planned(_pair_name(pair), REAL, 0, number, pair=pair))
    return drawn


def ct_files(given: Sequence[str]) -> list[str]:
    """CT files, and those below folders; a folder without any may be a DICOM series and is taken as it is."""
    files = []
    for place in given:
        below = find_images(place) if Path(place).is_dir() else []
        files += map(str, below or [place])
    return files


def volume_name(source: str) -> str:
    """What tables call a CT file or a phantom."""
    return Path(source).name


def check_names(option: str, names: Iterable[str]) -> None:
    """Refuse a name that comes twice: its rows would be taken for those of one volume.

    Raises:
        InputError: it does.
    """
    names = list(names)
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        found = f"{names.count(twice[0])} called {twice[0]!r}"
        raise InputError(option, "names that differ, without their folders", found, "rename all but one")


def phantom_sources(count: int, first: int = FIRST_PHANTOM) -> list[str]:
    """Names of phantoms, by default of those that no training draws."""
    return [f"phantom-{first + number}" for number in range(count)]


class Maker:
    """Makes planned pairs; keeps the volumes that it loaded last."""

    def __init__(self, kept: int = 2) -> None:
        self._kept, self._loaded = kept, dict[tuple[str, float], MetaTensor | PhantomSession]()
        self._jointed: tuple[str, Joints] = "", Joints()

    def make(self, planned: Planned) -> EvaluationCase:
        """Make a pair.

        Raises:
            InputError: a file is no CT, a CT is too short for its regime, or a real pair has no landmarks.
        """
        if planned.regime == REAL:
            return _real(planned.volume, planned.pair)
        length = PHANTOM_MM["usual" if REGIMES[planned.regime].max_offset else "long"]
        other = self.volume(planned.other) if planned.other else None
        volume = self.volume(planned.source, length)
        joints = self.joints(planned.source, length) if REGIMES[planned.regime].part else None
        return draw_case(volume, planned.regime, planned.seed, other, joints)

    def joints(self, source: str, length_mm: float) -> Joints:
        """What bends in a CT file, with the structures beside it, or in a phantom."""
        if source != self._jointed[0]:
            loaded = self._load(source, length_mm)
            found = phantom_joints(loaded) if isinstance(loaded, PhantomSession) else joints_beside(source, loaded)
            self._jointed = source, found
        return self._jointed[1]

    def volume(self, source: str, length_mm: float = PHANTOM_MM["usual"]) -> MetaTensor:
        """A CT file, or a phantom of a length."""
        loaded = self._load(source, length_mm)
        return loaded if isinstance(loaded, MetaTensor) else loaded.volume

    def _load(self, source: str, length_mm: float) -> MetaTensor | PhantomSession:
        phantom = source.startswith("phantom-")
        key = (source, length_mm if phantom else 0.0)
        if key not in self._loaded:
            while len(self._loaded) >= self._kept:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[key] = _phantom(source, length_mm) if phantom else load_volume(source)
        return self._loaded[key]


def _phantom(source: str, length_mm: float) -> PhantomSession:
    return PelvisPhantom(int(source.split("-")[1]), length_mm).session("ebrt", spacing=PHANTOM_SPACING)


def _pair_name(pair: Mapping) -> str:
    return str(pair.get("name") or Path(pair["fixed"]).parent.name)


def _real(name: str, pair: Mapping) -> EvaluationCase:
    if "landmarks" not in pair:
        raise InputError("datalist", "landmarks with each pair", f"none with {name}", "add them")
    fixed, moving = load_volume(pair["fixed"]), load_volume(pair["moving"])
    return real_case(name, fixed, moving, read_landmarks(pair["landmarks"], fixed.affine, moving.affine))
