"""Pseudo-CTs painted from label maps of bones and muscles."""

from .volume import load_painting, paint

__all__ = ["load_painting", "paint"]
