"""Audit messages in the format of DICOM (PS3.15 A.5): what they say, when, and where they go."""
