"""A pair from files to result, stage by stage: load, standardise, ask and match, filter and fit, refine, assess."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import Tensor

from ..core.bundle import BUNDLE
from ..core.errors import InputError
from ..core.options import as_bool, as_choice, as_seed, as_uid
from ..core.rigid import RigidTransform, fit_translation, polish
from ..core.threads import free_threads
from ..images.dicom.dose import Dose, read_dose
from ..images.dicom.structures import StructureSet, read_structures
from ..images.hounsfield import no_hounsfield
from ..images.landmarks import PairedLandmarks, read_landmarks, read_points
from ..images.masks import check_touches, load_labels
from ..images.region import read_region
from ..images.volume_checks import check_field
from ..images.volumes import load_volume, standardise
from ..network.quiznet import QuizNet
from ..network.weights import load_weights, weights_sha256
from .answers import answer
from .assess import field_size, no_fit
from .bound import bound_of
from .carry import carry
from .metrics import inside_both, landmark_report
from .queries import select
from .region import in_region
from .result import Registration, Verdict
from .search import Fit, mark_inliers, search
from .settings import SearchSettings
from .settle import Settled, settle

VOLUMES = ("fixed", "moving", "fixed_region", "moving_labels")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What a user can choose for a registration; checked when made.

    Attributes:
        transform: "rigid" or "translation" (the paper's mean displacement).
        refine: let the body bend to where the intensities agree and take the nearest rigid map.
        seed: of all draws.
        amp: bfloat16 in the network.
        compare_points: body points at which intensities are compared.
        search: how the pair is searched.
        window: HU that become 0 and 1.
    """

    transform: str = "rigid"
    refine: bool = True
    seed: int = 0
    amp: bool = False
    compare_points: int = 20_000
    search: SearchSettings = field(default_factory=SearchSettings)
    window: tuple[float, float] = (-600.0, 600.0)

    def __post_init__(self) -> None:
        as_choice("transform", self.transform, ("rigid", "translation"))
        object.__setattr__(self, "refine", as_bool("refine", self.refine))
        object.__setattr__(self, "amp", as_bool("amp", self.amp))
        object.__setattr__(self, "seed", as_seed(self.seed))
        object.__setattr__(self, "window", (float(self.window[0]), float(self.window[1])))

    @classmethod
    def of(cls, search: Mapping[str, object] | None = None, **options: object) -> Options:
        """From a config's plain values."""
        return cls(search=SearchSettings.of(search), **options)  # type: ignore[arg-type]


class Stopwatch:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begin = self._lap = time.perf_counter()

    def lap(self, name: str) -> None:
        """Book the time since the last lap under a stage's name."""
        now = time.perf_counter()
        self.seconds[name], self._lap = now - self._lap, now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside under a stage's name."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    def total(self) -> dict[str, float]:
        """All stages and ``total``."""
        return {**self.seconds, "total": time.perf_counter() - self._begin}


def load_network(bundle: Path = BUNDLE, device: str | torch.device = "cpu", weights: str | Path | None = None) -> QuizNet:
    """The network of ``configs/inference.json`` in evaluation mode, with the shipped weights unless others are named.

    Raises:
        InputError: the weights are missing or those of another network.
    """
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.json")
    settings = {k: v for k, v in parser.get("network_def").items() if k != "_target_"}
    network = QuizNet(**settings)
    load_weights(network, weights or bundle / "models" / "model.pt")
    return network.to(device).eval()


def register(
    fixed: str | Path | MetaTensor,
    moving: str | Path | MetaTensor,
    *,
    network: QuizNet | None = None,
    options: Options | None = None,
    queries: str | Path | None = None,
    queries_in: str = "fixed",
    landmarks: str | Path | Sequence[str] | PairedLandmarks | None = None,
    fixed_region: str | Path | MetaTensor | None = None,
    fixed_region_roi: int | str | None = None,
    structures: str | Path | StructureSet | None = None,
    dose: str | Path | Dose | None = None,
    moving_labels: str | Path | MetaTensor | None = None,
    fixed_series: str | None = None,
    moving_series: str | None = None,
) -> Registration:
    """Register a moving CT to a fixed one.

    Args:
        fixed, moving: files, DICOM folders, or volumes (1, I, J, K) in HU with their affines, on any device.
        network: of ``load_network`` when left out.
        options: see ``Options``.
        queries: file of points to look up in the fixed (or, with ``queries_in``, the moving) image.
        queries_in: "fixed" or "moving".
        landmarks: corresponding points to measure the error at; never used in the fit.
        fixed_region: mask on the fixed image, or an RTSTRUCT of its series; matches inside it make the fit.
        fixed_region_roi: number or name of the structure in that RTSTRUCT.
        structures, dose: RTSTRUCT and RTDOSE of either series, carried to the other if the result is accepted.
        moving_labels: label map on the moving image, carried over to the fixed grid by the report.
        fixed_series, moving_series: series UID of the scan to take where its DICOM folder holds several.

    Returns:
        The result that ``report.write_outputs`` writes; a registration that failed has ``verdict.accepted`` False.

    Raises:
        InputError: an input is bad.
    """
    watch = Stopwatch()
    network = network or load_network()
    options = options or Options()
    with watch.stage("load"):
        case = load_case(
            {
                "fixed": fixed,
                "moving": moving,
                "fixed_series": fixed_series,
                "moving_series": moving_series,
                "queries": queries,
                "queries_in": queries_in,
                "landmarks": landmarks,
                "fixed_region": fixed_region,
                "fixed_region_roi": fixed_region_roi,
                "structures": structures,
                "dose": dose,
                "moving_labels": moving_labels,
            }
        )
    with watch.stage("standardise"):
        pair = [standardise(case[key], options.search.spacing, options.window) for key in ("fixed", "moving")]
    generator = torch.Generator().manual_seed(options.seed)
    with watch.stage("match"):
        found = search(network, *pair, options.search, generator, options.amp)
    return conclude(case, pair, found, network, options, watch)


def load_case(inputs: Mapping[str, object]) -> dict[str, object]:
    """Load whatever of a case is still a path, onto the CPU; ``landmarks`` and ``queries`` become points in RAS mm."""
    case = dict(inputs)
    for key, value in case.items():
        if key in VOLUMES and isinstance(value, Tensor):  # the network moves what it reads; all else is done on the CPU
            case[key] = value.cpu()
    for key in ("fixed", "moving"):
        if case.get(key) is not None and not isinstance(case[key], Tensor):
            series = case.get(f"{key}_series")
            case[key] = load_volume(case[key], series_uid=None if series is None else as_uid(f"{key}_series", series))
    fixed, moving = case["fixed"], case["moving"]
    for key in ("fixed", "moving"):
        check_field(case[key], _called(inputs, key))
    if case.get("moving_labels") is not None and not isinstance(case["moving_labels"], Tensor):
        case["moving_labels"] = load_labels(case["moving_labels"])
    if case.get("fixed_region") is not None and not isinstance(case["fixed_region"], Tensor):
        case["fixed_region"] = read_region(case["fixed_region"], case.get("fixed_region_roi"), fixed, moving)
    elif case.get("fixed_region_roi") is not None and case.get("fixed_region") is None:
        raise InputError("fixed_region_roi", "an RTSTRUCT as fixed_region beside it", "none", "give --fixed_region FILE")
    for key, kind in (("fixed_region", "fixed"), ("moving_labels", "moving")):
        if case.get(key) is not None:
            check_touches(case[key], case[kind], _called(inputs, key), kind)
    for key, read in (("structures", read_structures), ("dose", read_dose)):
        if isinstance(case.get(key), (str, os.PathLike)):
            case[key] = read(case[key], fixed, moving)
    if case.get("landmarks") is not None:
        case["landmarks"] = read_landmarks(case["landmarks"], _file_affine(fixed), _file_affine(moving))
        inside_both(case["landmarks"], fixed, moving)  # refused now, before anything is computed
    as_choice("queries_in", case.get("queries_in") or "fixed", ("fixed", "moving"))
    if case.get("queries") is not None and not isinstance(case["queries"], tuple):
        case["queries"] = read_points(case["queries"])
    return case


def _called(inputs: Mapping[str, object], key: str) -> object:
    """What an input is called in a message: its path, or its role if it is no path."""
    return inputs[key] if isinstance(inputs[key], (str, os.PathLike)) else key


def _file_affine(volume: MetaTensor) -> Tensor:
    return torch.as_tensor(volume.meta.get("original_affine", volume.affine))


@free_threads()
def conclude(
    case: Mapping[str, object],
    pair: Sequence[MetaTensor],
    found: Fit,
    network: QuizNet,
    options: Options,
    watch: Stopwatch,
) -> Registration:
    """From matches to the result: stages 6 and 7, landmarks and queries.

    Args:
        case: of ``load_case``.
        pair: the standardised volumes.
        found: what ``search`` returned.
    """
    fixed, moving, region = case["fixed"], case["moving"], case.get("fixed_region")
    body = found.start
    with watch.stage("fit"):
        found = final_fit(found, options, region)
    settled = Settled(None, found.matches, no_fit(found.asked), [])
    if found.transform is not None:
        settled = settle(
            found,
            body,
            (fixed, moving),
            pair,
            region,
            refined=options.refine and options.transform == "rigid",
            limit_mm=options.search.fit.threshold * found.spacing,
            points=options.compare_points,
            seed=options.seed,
            stage=watch.stage,
        )
    transform = settled.transform
    verdict, notes = judge_values(settled.verdict, fixed, moving)
    if transform is not None:
        with watch.stage("assess"):
            verdict = replace(verdict, bound=bound_of(verdict, max(pair, key=field_size)))
    carried = None
    if case.get("structures") is not None or case.get("dose") is not None:
        with watch.stage("carry"):
            carried = carry(case, fixed, moving, transform, verdict.accepted)
    marks = case.get("landmarks")
    answers = None
    if case.get("queries") is not None:
        with watch.stage("queries"):
            asked_in = case.get("queries_in") or "fixed"
            answers = answer(case["queries"], asked_in, pair, network, transform, options.search, options.amp)
    return Registration(
        fixed=fixed,
        moving=moving,
        fixed_to_moving=transform,
        matches=settled.matches,
        verdict=verdict,
        parts=settled.parts,
        seconds=watch.total(),
        device=str(next(network.parameters()).device),
        weights_sha256=weights_sha256(network),
        landmarks=None if marks is None else landmark_report(transform, marks, fixed, moving),
        landmark_points=marks,
        answers=answers,
        moving_labels=case.get("moving_labels"),
        carried=carried,
        notes=notes,
        options={
            "transform": options.transform,
            "refine": options.refine,
            "seed": options.seed,
            "amp": options.amp,
            "spacing_mm": options.search.spacing,
            "coarse_spacing_mm": options.search.coarse_spacing,
            "queries_per_pass": options.search.match.queries,
            "hu_window": list(options.window),
            "queries_in": case.get("queries_in") or "fixed",
            "fingerprint": case.get("fingerprint", ""),
        },
    )


def judge_values(verdict: Verdict, fixed: MetaTensor, moving: MetaTensor) -> tuple[Verdict, dict[str, str]]:
    """The verdict, with a reason for each scan whose values are clearly no HU, and a note on each where they may be none."""
    notes = {}
    for role, scan in (("moving", moving), ("fixed", fixed)):
        found = no_hounsfield(scan)
        if found is None:
            continue
        why, clearly = found
        sentence = f"The {role} scan's values {'are' if clearly else 'may be'} no HU: {why}."
        logger.warning(sentence)
        notes[role] = sentence
        if clearly:
            verdict = replace(verdict, accepted=False, reasons=[sentence, *verdict.reasons])
    return verdict, notes


def final_fit(found: Fit, options: Options, fixed_region: MetaTensor | None) -> Fit:
    """The fit that is handed out: over the matches of a region if one is given, and of the kind that was asked for."""
    matches, transform = found.matches, found.transform
    if transform is None:
        return found
    if fixed_region is not None:
        threshold = options.search.fit.threshold * found.spacing
        matches = select(matches, in_region(matches.fixed_mm, fixed_region))
        transform = polish(transform, matches.fixed_mm, matches.moving_mm, matches.confidence, options.search.fit.reach)
        matches = mark_inliers(matches, transform, threshold)
    if options.transform == "translation":
        if not matches.inlier.any():
            return replace(found, transform=None, matches=matches)
        kept = select(matches, matches.inlier)
        transform = RigidTransform(fit_translation(kept.fixed_mm, kept.moving_mm))
    return replace(found, transform=transform, matches=matches)
