"""What is wrong with the configuration."""

from __future__ import annotations


class ConfigError(Exception):
    """The settings cannot be used; the message is one line: file or variable, key, what was expected."""
