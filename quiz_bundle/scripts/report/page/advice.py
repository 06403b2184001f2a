"""What to do about each reason for which a registration was refused."""

from __future__ import annotations

import re

# Told apart by words of the reasons that `assess` gives; the first that fits is taken.
ADVICE = (
    (
        r"the m(ap|atrix) seems to be",
        "Export or save the map the other way as the sentence says, and audit that. As it stands, do not use it.",
    ),
    (
        r"our own map of this pair",
        "Look at the overlay: does the same vertebra lie on itself? Register the pair (`run inference`) and compare the two "
        "pages. Where parts of the body moved against each other, the two maps may be of different parts.",
    ),
    (
        r"no rigid map fits",
        "Check that both files are CTs of one patient and one part of the body: open them beside each other. If they are, "
        "crop the larger one to where they should meet, or give landmarks in 3D Slicer, and register again.",
    ),
    (
        r"values are no HU",
        "Export the scan again as CT images or NIfTI in HU, with its rescale slope and intercept applied; where 1024 was "
        "added, take it off. What a registration of other numbers finds is not to be used.",
    ),
    (
        r"left and right may be swapped",
        "Compare both headers: orientation, and whether the patient lay head or feet first, supine or prone. Look for the "
        "liver, the heart or a mark on one side. A scan whose sides are swapped has to be exported again.",
    ),
    (
        r"of two patients",
        "Check name, birth date and ID of both scans, and look at teeth, sinuses and vertebrae in the pictures. If it is "
        "one patient, bones may have changed (surgery, a fracture, years in between): then judge the overlay by eye.",
    ),
    (
        r"slices of one of the scans may be spaced wrongly",
        "Compare slice spacing and number of slices of both scans with their lengths: missing slices and a spacing that was "
        "typed in are the usual causes. Export the scan again.",
    ),
    (
        r"another part of the body",
        "See the parts in colours on this page and decide which of them the transform is for. Outline its bone in "
        "3D Slicer, or take a structure of the planning CT, and register again with that as `fixed_region`.",
    ),
    (
        r"along a line|in one place",
        "What could be compared covers too little of the body: see the map of matches. A moving scan with a larger field, "
        "or a run without `fixed_region` if one was given, shows more of it.",
    ),
    (
        r"scan's field lies inside|too little of the body",
        "Check the overlay: does the moving scan truly reach that far out of the fixed one? If so, use a fixed scan "
        "that covers more of it. If not, the place is wrong: do not use the transform.",
    ),
    (
        r"matches agree with the rigid map",
        "Look at the overlay and the map of matches. If bones lie on each other, the transform can be a start for a "
        "registration by hand; otherwise check that both scans show the same anatomy and patient.",
    ),
    (
        r"place is doubtful|expected error|correlat",
        "Check in the overlay and the checkerboard that the same vertebra and the same hip bones lie on each other: "
        "one vertebra off looks almost right. Repeat with `--refine false` and compare; give "
        "`fixed_region` (a bone) where soft parts have moved a lot. Without an independent check, do not use it.",
    ),
)
OTHERWISE = "Look at the pictures below, and do not use the transform without an independent check."


def advice_on(reason: str) -> str:
    """One or two sentences on what to do about a reason for refusal."""
    return next((advice for words, advice in ADVICE if re.search(words, reason, re.IGNORECASE)), OTHERWISE)
