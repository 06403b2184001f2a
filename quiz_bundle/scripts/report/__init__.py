"""Stage 8: the files that a registration leaves behind."""
