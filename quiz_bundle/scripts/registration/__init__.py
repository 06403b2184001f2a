"""Stages 3 to 7: from two volumes to a rigid map and a verdict on it."""

from .register import Options, load_network, register

__all__ = ["Options", "load_network", "register"]
