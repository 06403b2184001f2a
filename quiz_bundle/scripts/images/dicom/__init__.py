"""DICOM: series of slices in, registration objects out."""
