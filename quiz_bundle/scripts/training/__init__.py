"""Training: items, pairs, augmentation, losses, validation, the resetter of stage two."""
