"""How a pair is searched, as numbers, by stage; lengths in mm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..core.options import settings_of


@dataclass(frozen=True)
class MatchSettings:
    """Stages 3 to 5: what is asked, where, and which answers are believed.

    Attributes:
        queries, zoom_queries: points asked in each volume, in the coarse pass and in the zoomed one.
        zoom_passes: number of zoomed passes; 0 answers from the coarse pass.
        margin: how far beyond the moving field a zoomed pass looks.
        tile, overlap: longest edge of the tiles of a zoomed pass, and what neighbours share. Tiles bound the memory only:
            the more a tile shows, the more matches are right.
        cycle_limit: largest cycle error, in voxels of the pass.
    """

    queries: int = 1000
    zoom_queries: int = 500
    zoom_passes: int = 1
    margin: float = 15.0
    tile: float = 320.0
    overlap: float = 36.0
    cycle_limit: float = 4.0


@dataclass(frozen=True)
class FitSettings:
    """Stage 6, the fit to the matches.

    Attributes:
        reach: distance at which a match has no say any more.
        threshold: distance to the fit within which a match is an inlier, in voxels of the pass.
    """

    reach: float = 27.0
    threshold: float = 4.0


@dataclass(frozen=True)
class CandidateSettings:
    """Stage 6, the choice between places: which maps are tried on the intensities, and how.

    Attributes:
        most: different maps of the coarse matches that are tried.
        hypotheses: random triples behind them.
        points, steps: body points and L-BFGS steps of each trial.
        patches: small patches in which its outcome is judged.
        certain: correlation from which on no further candidate is tried.
        convincing: correlation below which a sweep of starts is tried besides.
        slips, turns: steps along the body and turns in degrees at which the best place is tried again.
        same_place: mean distance in the body up to which two maps are of one place.
        rounds: how often at most, as long as a neighbour turns out to be better by ``tolerance``.
        tolerance: difference of correlations that tells no place from another.
    """

    most: int = 8
    hypotheses: int = 2048
    points: int = 4000
    steps: int = 6
    patches: int = 400
    certain: float = 0.7
    convincing: float = 0.5
    slips: Sequence[float] = (-35.0, -20.0, 20.0, 35.0)
    turns: Sequence[float] = (-15.0, 15.0)
    same_place: float = 12.0
    rounds: int = 3
    tolerance: float = 0.05


@dataclass(frozen=True)
class SearchSettings:
    """How a pair is searched.

    Attributes:
        spacing: voxel size of the zoomed pass; the standardised volumes have it.
        coarse_spacing: voxel size of the pass over the whole of both volumes.
        match, fit, candidates: by stage.
    """

    spacing: float = 3.0
    coarse_spacing: float = 6.0
    match: MatchSettings = field(default_factory=MatchSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    candidates: CandidateSettings = field(default_factory=CandidateSettings)

    @classmethod
    def of(cls, values: Mapping[str, object] | None = None) -> SearchSettings:
        """From a config's plain values, those of a stage in a mapping of its own.

        Raises:
            InputError: there is no such setting; names the nearest one.
        """
        return settings_of(cls, "search", values)
