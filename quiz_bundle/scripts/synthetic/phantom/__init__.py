"""A procedural pelvis with named landmarks, in sessions whose points correspond exactly."""

from .patient import PelvisPhantom, PhantomSession, add_noise, correspond

__all__ = ["PelvisPhantom", "PhantomSession", "add_noise", "correspond"]
