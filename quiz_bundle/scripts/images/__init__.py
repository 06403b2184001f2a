"""Stages 1 and 2: volumes from files, their frames and HU, masks, bodies and landmarks."""
