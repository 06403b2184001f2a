"""Figures 2 to 8 of the paper, on data of known truth."""

from .draw import draw_figures

__all__ = ["draw_figures"]
