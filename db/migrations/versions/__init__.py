"""Revisions, in the order of their file names."""
