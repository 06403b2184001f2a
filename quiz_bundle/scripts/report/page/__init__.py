"""The pages and pictures that people look at: a pair's report, a cohort's index, the report as PDF."""

from .document import render_page

__all__ = ["render_page"]
