"""The MONAI Deploy application: a folder of DICOM in, a registration object and a report out."""
