"""Typed settings, their defaults, and logging. Imports nothing else of the project."""

from __future__ import annotations

from config.errors import ConfigError
from config.load import load_settings
from config.settings import Destination, Rule, Settings

__all__ = ["ConfigError", "Destination", "Rule", "Settings", "load_settings"]
