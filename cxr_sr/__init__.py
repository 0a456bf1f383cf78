"""The front door: command line, supervisor, scheduler, demo. It alone may import every room."""
