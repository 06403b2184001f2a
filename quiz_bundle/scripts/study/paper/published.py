"""The numbers printed in the paper's Tables 1 to 3, on the authors' data, and what is wrong with some of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A method's cells in the paper, as printed there; empty where it prints none.

    Attributes:
        tre: mean (sd), mm.
        rtre: over the diagonal in voxels; mean (sd).
        offset: mm.
        seconds: for a pair.
    """

    tre: str = ""
    rtre: str = ""
    offset: str = ""
    seconds: str = ""


# Tables 1 and 2: EBRT and BT scans of the authors' patients.
BRACHYTHERAPY = {
    "ants_syn": Published("60.268 (57.665)", "0.0822 (0.0787)", "23.242 (23.222)", "157.706"),
    "voxelmorph": Published("85.087 (45.619) [c]", "0.1214 (0.0602) [a]", "34.101 (18.560) [c]", "1.038"),
    "transmorph": Published("88.924 (44.146) [c]", "0.1214 (0.0602)", "32.319 (17.989) [c]", "0.914"),
    "ants_translation+voxelmorph": Published("62.280 (59.230)", "0.0850 (0.0808)", "24.041 (23.847)", "29.041"),
    "ants_translation+transmorph": Published("61.178 (58.506)", "0.0833 (0.0798)", "23.586 (23.541)", "28.917"),
    "quiz_paper": Published("33.235 (14.623)", "0.0453 (0.0199)", "11.947 (5.837)", "1.203"),
}
# Table 3: planning CT and CBCT, the public pelvic data.
CONE_BEAM = {
    "ants_translation": Published("11.650", "0.016", "5.422"),
    "ants_syn": Published("11.914", "0.016", "5.560"),
    "quiz_paper": Published("8.100", "0.110 [b]", "3.951"),
}
MISPRINTS = {
    "a": "a misprint: it repeats TransMorph's. 85.087 mm over the paper's voxel diagonal of 732.24 is 0.1162 (0.0623).",
    "b": "a misprint of 0.011: 8.100 mm over 732.24 is 0.0111.",
    "c": "VoxelMorph has the smaller TRE but the larger offset of the two: one of the paper's Tables 1 and 2 has probably "
    "exchanged them.",
}
EXPLAINED = (
    'Columns marked "paper" are printed in the paper and stem from the authors\' patients and machine (GPU, but SyN on the '
    "CPU): other data, for orientation, not for comparison, where the column does not say that the data are the same. "
    "Letters mark what is wrong in them."
)
