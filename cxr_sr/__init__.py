"""The front door: command line and supervisor."""
