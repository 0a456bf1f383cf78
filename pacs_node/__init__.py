"""DICOM: receive, decode, derive, deliver."""
