"""DICOM objects that are written: the spatial registration and the report as a document."""
