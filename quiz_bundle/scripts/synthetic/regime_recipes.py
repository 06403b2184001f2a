"""The regimes of the benchmark: what is drawn in each, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

from .synthesis import PairRecipe

AXIAL, CORONAL = 2, 1
ORGANS_MM = 50.0  # standard deviation of the Gaussian within which organs move


@dataclass
class Regime(PairRecipe):
    """A recipe, and how its moving scan is taken and stored.

    Attributes:
        slice_mm: thickness of the moving scan's slices; within them its voxels are ``spacing`` wide.
        slice_axis: RAS axis across the slices.
        orientations: voxel orders, one of which is drawn.
        prone: the couch lies in front of the patient.
        turned_header: the header says supine of a patient who lies prone: it is off by 180 degrees about z.
        mirrored: left and right of the patient are swapped in the moving scan only. No rigid map is right; the truth is
            where the scans agree but for the side.
        organ_motion_rms: RMS displacement along each axis in the middle of the moving field, mm; it falls off to the
            deformation's within ``ORGANS_MM``. 0 for a deformation that is everywhere alike.
        unrelated: the moving scan is drawn from another volume. There is no truth; all that is right is to refuse.
        part: the part of the body that the moving field is centred on and errors are measured at, at its bone; empty for
            a body that moves as one.
        posture: what bends: "hips", "neck", "lumbar"; or slides and fills: "organs".
        least_bend: share of the largest turn that one of the joints has at least.
        above_mm: from the middle of the part's joints to the middle of the moving field, along z; ``max_offset`` shifts it.
    """

    slice_mm: float = 3.0
    slice_axis: int = AXIAL
    orientations: tuple[str, ...] = ("RAS", "LPS", "LAS", "RSA")
    prone: bool = False
    turned_header: bool = False
    mirrored: bool = False
    organ_motion_rms: float = 0.0
    unrelated: bool = False
    part: str = ""
    posture: str = ""
    least_bend: float = 0.5
    above_mm: float = 0.0


def regime(x: float, y: float, z: float, **settings: object) -> Regime:
    """A regime whose moving field is exactly x, y, z mm; R1's nuisances unless said otherwise."""
    usual = {
        "spacing": 2.0,
        "max_turn": 10.0,
        "max_offset": 80.0,
        "deformation_rms": (3.0, 3.0),
        "correlation": (40.0, 60.0),
        "couch": 0.5,
        "bubbles": 0.0,
        "applicator": 0.0,
        "cbct": 0.0,
        "noise": (15.0, 25.0),
        "points": 4000,
    }
    return Regime(moving_extent=((x, x), (y, y), (z, z)), **{**usual, **settings})  # type: ignore[arg-type]


def _r1(**settings: object) -> Regime:
    return regime(260, 240, 160, **settings)


def _part(x: float, y: float, z: float, **settings: object) -> Regime:
    return regime(x, y, z, **{"max_offset": 25.0, "deformation_rms": (2.0, 2.0), **settings})


HARD = {"max_offset": 120.0, "noise": (40.0, 80.0)}
# Offset and turn are relative to aligned geometric centres; an offset of None is anywhere along the reference. What
# follows a hyphen changes how the case is seen, not where it lies: R1-thick of a seed has the pose of R1 of that seed.
REGIMES: dict[str, Regime] = {
    "R1": _r1(),
    "R2": regime(200, 180, 100, max_offset=120.0, max_turn=30.0),
    "R3": _r1(max_offset=None),
    "R4": _r1(applicator=1.0, organ_motion_rms=6.0, noise=(35.0, 55.0)),
    "R5": _r1(cbct=1.0),
    "R4-deformed": _r1(applicator=1.0, deformation_rms=(6.0, 6.0), noise=(35.0, 55.0)),
    "R1-thin": _r1(spacing=1.0, slice_mm=1.0),
    "R1-thick": _r1(slice_mm=5.0),
    "R1-coronal": _r1(slice_mm=5.0, slice_axis=CORONAL, orientations=("LIP", "RSA")),
    "R1-feet-first": _r1(orientations=("RPI",)),
    "R1-prone": _r1(orientations=("RAS", "LAI"), prone=True),
    "R1-turned-header": _r1(prone=True, turned_header=True),
    "R1-mirrored": _r1(mirrored=True),
    # A few vertebrae or half a hip, turned any way: what a search has to find.
    "H0": regime(80, 80, 40, max_offset=120.0, max_turn=90.0),
    # Pairs to judge the verdict by: a good part of them is lost.
    "H1": regime(110, 100, 60, max_offset=130.0, max_turn=60.0, deformation_rms=(5.0, 5.0), noise=(60.0, 100.0)),
    "H2": regime(130, 120, 70, max_turn=50.0, deformation_rms=(4.0, 4.0), **HARD),
    "H3": regime(
        120,
        120,
        60,
        max_offset=130.0,
        max_turn=50.0,
        deformation_rms=(5.0, 5.0),
        noise=(60.0, 100.0),
        cbct=1.0,
        applicator=0.5,
    ),
    "H4": regime(150, 140, 80, max_turn=40.0, deformation_rms=(5.0, 5.0), applicator=1.0, **HARD),
    "H5": regime(180, 180, 90, max_turn=40.0, deformation_rms=(4.0, 4.0), cbct=1.0, **HARD),
    # Parts that moved against each other; the field is centred on the one that is measured: no other part has as much bone
    # within 60 mm of its middle, which is how a registration that is told nothing chooses (``registration.parts``).
    "A1": _part(260, 240, 160, part="pelvis", posture="hips", above_mm=15.0),
    "A2": _part(260, 240, 180, part="skull", posture="neck", above_mm=0.0),
    "A3": _part(260, 240, 160, part="pelvis", posture="lumbar", above_mm=-15.0),
    "A4": _part(260, 240, 160, part="bones", posture="organs", max_offset=60.0),
    "unrelated": _r1(unrelated=True),
}
