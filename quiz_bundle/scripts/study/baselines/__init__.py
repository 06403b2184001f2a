"""The deformable methods of the paper's tables: ANTs SyN, VoxelMorph and TransMorph, each from a rigid start."""

from __future__ import annotations

from .methods import DEFORMABLE, Deform, deformable, trained_weights

__all__ = ["DEFORMABLE", "Deform", "deformable", "trained_weights"]
