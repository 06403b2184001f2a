"""The methods of the paper's tables and figures: their order, their names in words, their colours."""

from __future__ import annotations

FLOORS = {
    "best_translation": "best translation there is",
    "best_rigid": "best rigid map there is",
}
# Okabe and Ito's colours, told apart with every kind of colour vision; what follows QUIZ has dashes in the figures.
COLOURS = {
    "best_translation": "#8a949c",
    "best_rigid": "#8a949c",
    "centres": "#5b6b78",
    "elastix": "#8c6d1f",
    "ants_translation": "#000000",
    "ants_syn": "#d55e00",
    "ants_syn_only": "#d55e00",
    "voxelmorph": "#009e73",
    "transmorph": "#cc79a7",
    "voxelmorph_smooth": "#009e73",
    "transmorph_smooth": "#cc79a7",
    "voxelmorph_after_quiz": "#009e73",
    "transmorph_after_quiz": "#cc79a7",
    "voxelmorph_tuned": "#009e73",
    "transmorph_tuned": "#cc79a7",
    "quiz_paper": "#56b4e9",
    "quiz": "#0072b2",
}
PARTS = {
    "centres": "aligned centres",
    "elastix": "elastix rigid",
    "ants_translation": "ANTs translation",
    "ants_syn": "ANTs SyN",
    "ants_syn_only": "ANTs SyN without its affine stage",
    "voxelmorph": "VoxelMorph",
    "transmorph": "TransMorph",
    "voxelmorph_smooth": "VoxelMorph, smoothness 1",
    "transmorph_smooth": "TransMorph, smoothness 1",
    "voxelmorph_after_quiz": "VoxelMorph trained on pairs after QUIZ",
    "transmorph_after_quiz": "TransMorph trained on pairs after QUIZ",
    "voxelmorph_tuned": "VoxelMorph tuned on the pair",
    "transmorph_tuned": "TransMorph tuned on the pair",
    "voxelmorph_smooth_tuned": "VoxelMorph, smoothness 1, tuned on the pair",
    "transmorph_smooth_tuned": "TransMorph, smoothness 1, tuned on the pair",
    "quiz_paper": "QUIZ as in the paper",
    "quiz": "QUIZ as shipped",
    "quiz_region": "QUIZ, region given",
}
ORDER = (
    *FLOORS,
    "centres",
    "elastix",
    "ants_translation",
    "ants_syn",
    "voxelmorph",
    "transmorph",
    "ants_translation+voxelmorph",
    "ants_translation+transmorph",
    "ants_translation+voxelmorph_smooth",
    "ants_translation+transmorph_smooth",
    "ants_translation+transmorph_tuned",
    "quiz_paper",
    "quiz",
    "quiz+ants_syn",
    "quiz+ants_syn_only",
    "quiz+voxelmorph",
    "quiz+transmorph",
    "quiz+voxelmorph_smooth",
    "quiz+transmorph_smooth",
    "quiz+voxelmorph_after_quiz",
    "quiz+transmorph_after_quiz",
    "quiz+transmorph_tuned",
    "quiz+voxelmorph_smooth_tuned",
)
SETS = {
    "phantom": "EBRT/BT, phantom cohort",
    "known_truth": "EBRT/BT-like pairs of known truth from real CTs",
    "cbct": "CT/CBCT-like pairs of known truth from real CTs",
    "pelvic_reference": "CT/CBCT pairs of TCIA's Pelvic-Reference-Data",
}
PUBLIC = "pelvic_reference"  # the paper's own public data, which are not in this repository


def spoken(method: str) -> str:
    """A method's name in words; QUIZ loses its "as shipped" where something follows it."""
    if method in FLOORS:
        return FLOORS[method]
    first, _, second = method.partition("+")
    if not second:
        return PARTS.get(method, method)
    return f"{'QUIZ' if first == 'quiz' else spoken(first)}, then {spoken(second)}"


def place(method: str) -> tuple[int, str]:
    """What to sort methods by."""
    return (ORDER.index(method) if method in ORDER else len(ORDER), method)


def colour(method: str) -> str:
    """A method's colour, that of its last part."""
    return COLOURS.get(method.rpartition("+")[2], "#5b6b78")
