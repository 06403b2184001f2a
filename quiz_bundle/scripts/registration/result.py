"""What a registration is: the plain records that the stages hand on and the files are written from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from monai.data import MetaTensor
from torch import Tensor

from ..core.rigid import RigidTransform
from ..images.landmarks import PairedLandmarks

if TYPE_CHECKING:
    from .carry import Carried


@dataclass
class Matches:
    """Correspondences that passed the filters, RAS mm, float64.

    Attributes:
        fixed_mm, moving_mm: (M, 3), the two ends of each match.
        confidence: (M,) in [0, 1].
        cycle_error_mm: (M,), mm between a query and its round trip.
        inlier: (M,) bool, whether the fitted map agrees with the match.
    """

    fixed_mm: Tensor
    moving_mm: Tensor
    confidence: Tensor
    cycle_error_mm: Tensor
    inlier: Tensor

    def __len__(self) -> int:
        return len(self.fixed_mm)


@dataclass(frozen=True)
class AnatomyMatch:
    """Whether two scans show one patient.

    Attributes:
        score: how alike they are once the body may bend, [0, 1]; 1 is one patient's.
        doubt: whether they may be of two.
    """

    score: float
    doubt: bool


@dataclass(frozen=True)
class ErrorBound:
    """A bound on the TRE that holds for a new patient with 95 %.

    Attributes:
        mm: the bound; NaN where there is none.
        patients: how many stand behind it; None for a region of which too few do.
        basis: what they and their pairs are, or why there is no bound, in a sentence.
    """

    mm: float
    patients: int | None
    basis: str


@dataclass
class Verdict:
    """Whether a registration can be trusted, and why not.

    Attributes:
        accepted: the answer.
        reasons: sentences, empty when accepted.
        expected_tre_mm: expected TRE over the moving scan's body in the common field.
        expected_tre_90_mm: the band that should hold the true TRE in 90 % of cases.
        overlap: fraction of the moving field of view inside the fixed one, [0, 1].
        evidence: the numbers that it rests on, by name; none without a fit.
        anatomy: whether the scans show one patient; None where too little can be compared.
        scan_doubts: those of the reasons that speak against the scans, whatever the map.
        bound: on the error; None without a fit.
    """

    accepted: bool
    reasons: list[str]
    expected_tre_mm: float
    expected_tre_90_mm: tuple[float, float]
    overlap: float
    evidence: dict[str, float] = field(default_factory=dict)
    anatomy: AnatomyMatch | None = None
    scan_doubts: list[str] = field(default_factory=list)
    bound: ErrorBound | None = None


@dataclass
class Answers:
    """Query points looked up in the other image, RAS mm; rows of NaN have no answer.

    Attributes:
        labels: (Q,) names of the queries.
        asked_mm: (Q, 3) where they were asked.
        answer_mm: (Q, 3) the matcher's answers.
        confidence: (Q,) in [0, 1].
        rigid_mm: (Q, 3) the answers of the fitted rigid map.
    """

    labels: list[str]
    asked_mm: Tensor
    answer_mm: Tensor
    confidence: Tensor
    rigid_mm: Tensor


@dataclass
class Part:
    """A part of the body that moved as one.

    Attributes:
        fixed_to_moving: its map, RAS mm.
        places_mm: (P, 3) points of it in the fixed scan, RAS mm.
        share: of the compared body, [0, 1].
        expected_tre_mm: of its map, on it.
        chosen_by: "region" where the user named it, "default" otherwise.
    """

    fixed_to_moving: RigidTransform
    places_mm: Tensor
    share: float
    expected_tre_mm: float
    chosen_by: str = "default"


@dataclass
class Registration:
    """The whole result of one pair: everything the output files are written from.

    Attributes:
        fixed, moving: volumes as loaded (1, I, J, K), HU.
        fixed_to_moving: maps fixed points to moving points, RAS mm; None when no fit exists.
        seconds: time per stage and ``total``.
        parts: what the body moved in, the one whose map is handed out first; empty without a fit.
        landmarks: errors at given landmarks (``metrics.landmark_report``).
        options: the options as used.
        carried: structures and dose on the other scan; None if there were none.
        notes: what is odd about the scans, a sentence by the role; none where nothing is.
    """

    fixed: MetaTensor
    moving: MetaTensor
    fixed_to_moving: RigidTransform | None
    matches: Matches
    verdict: Verdict
    seconds: dict[str, float] = field(default_factory=dict)
    device: str = "cpu"
    weights_sha256: str = ""
    landmarks: dict | None = None
    landmark_points: PairedLandmarks | None = None
    answers: Answers | None = None
    moving_labels: MetaTensor | None = None
    options: dict = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    carried: Carried | None = None
    notes: dict[str, str] = field(default_factory=dict)
