"""A second opinion on a map that somebody else made: judged by the same evidence as ours, and compared with it."""

from .judging import Audit, audit

__all__ = ["Audit", "audit"]
