"""The doors: inferer and handlers, cases and cohorts, exit statuses, MONAI Label, MONAI Deploy."""
