"""Typed settings, their defaults, and logging. Imports nothing else of the project."""

from __future__ import annotations

from config.settings import Destination, Rule, Settings

__all__ = ["Destination", "Rule", "Settings"]
