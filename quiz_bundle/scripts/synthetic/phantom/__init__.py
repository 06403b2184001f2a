"""A procedural pelvis with named landmarks, in sessions whose points correspond exactly."""

from .patient import PelvisPhantom, add_noise, correspond

__all__ = ["PelvisPhantom", "add_noise", "correspond"]
