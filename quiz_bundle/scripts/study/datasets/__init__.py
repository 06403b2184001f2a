"""Data sets of pairs with landmarks, made or converted by one command each, as a folder with a ``datalist.json``."""

from .known_truth import known_truth
from .pelvic_reference import pelvic_reference
from .pelvic_table import tell_table
from .phantom_cohort import phantom_cohort

__all__ = ["known_truth", "pelvic_reference", "phantom_cohort", "tell_table"]
