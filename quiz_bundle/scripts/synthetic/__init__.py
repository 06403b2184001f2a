"""Pairs of known truth: anatomy that is moved, cut, deformed and made to look different."""
