"""Whether the numbers in a scan are HU: air at -1000, fat at -100, water at 0, bone above 300."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch import Tensor

LOOKED_AT = 500_000  # voxels, about
OUTLIERS = 0.001  # share of the voxels that may be anything
# What tells the numbers that a scanner stores from the HU they stand for. Measured on some 70 scans of the pool and of the
# calibration: of HU at most 1.1 % lie in the band, and at most 44 % of what is above bone's least; of HU + 1024 at least
# 1.9 % and 54 %.
BONE_HU, TISSUE_STORED = 300.0, (824.0, 1224.0)  # soft tissue with 1000 or 1024 added
STORED, STORED_OF_BONE = 0.015, 0.5
LEAST_RANGE_HU = 300.0  # from fat to bone
# Where most of what is no air lies: in the scans above between -112 and 62 HU. A CBCT's may be farther off; beyond the
# second limit a window for tissue shows nothing of it.
THIN_HU, BIN_HU, DOUBTFUL_HU, FAR_HU = -500.0, 25.0, 250.0, 600.0


def no_hounsfield(volume: MetaTensor) -> tuple[str, bool] | None:
    """What speaks against the values of a scan (1, I, J, K) being HU.

    Returns:
        A clause, and whether it speaks clearly: a CBCT's values often are HU but roughly. None where nothing does.
    """
    values = _sample(volume)
    low, high = _range(values)
    shown = f"they lie between {low:.4g} and {high:.4g}"
    if high - low < LEAST_RANGE_HU:
        return f"{shown}, and from fat to bone it is more than {LEAST_RANGE_HU:.0f} HU", True
    if low >= 0:
        return f"{shown}, and fat and air are below 0 HU", True
    band = float(((values >= TISSUE_STORED[0]) & (values <= TISSUE_STORED[1])).double().mean())
    bone = float((values > BONE_HU).double().mean())
    if band > STORED and band > STORED_OF_BONE * bone:
        return (
            f"{100 * band:.0f} % of them lie about {sum(TISSUE_STORED) / 2:.0f}, as of tissue to which 1024 was added",
            True,
        )
    dense = values[values > THIN_HU]
    if not len(dense):
        return None
    bins = torch.bincount(((dense - THIN_HU) / BIN_HU).floor().clamp_max(10_000).long())
    most = THIN_HU + BIN_HU * (int(bins.argmax()) + 0.5)
    if abs(most) <= DOUBTFUL_HU:
        return None
    return f"most of what is no air lies about {most:.0f}, and water is 0 HU", abs(most) > FAR_HU


def _sample(volume: MetaTensor) -> Tensor:
    """About ``LOOKED_AT`` voxels, evenly spread."""
    data = volume.as_tensor()[0]
    step = max(1, round((data.numel() / LOOKED_AT) ** (1 / 3)))
    return data[::step, ::step, ::step].flatten().float()


def _range(values: Tensor) -> tuple[float, float]:
    """Between which values all but outliers lie."""
    spared = int(OUTLIERS * len(values))
    return float(values.kthvalue(1 + spared).values), float(values.kthvalue(len(values) - spared).values)
