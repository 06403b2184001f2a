"""What a user runs on the product itself: demo, commissioning, evaluation, calibration."""
