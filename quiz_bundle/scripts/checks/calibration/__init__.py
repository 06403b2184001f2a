"""``run calibration``: hard pairs of known truth, and the constants of the verdict that fit them."""

from .run import run_calibration

__all__ = ["run_calibration"]
