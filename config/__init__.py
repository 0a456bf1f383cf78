"""Typed settings, their defaults, and logging. Imports nothing else of the project."""

from __future__ import annotations

from config.errors import ConfigError
from config.load import load_settings
from config.network import Archive, Destination, DicomTls, Peer
from config.settings import Rule, Settings

__all__ = ["Archive", "ConfigError", "Destination", "DicomTls", "Peer", "Rule", "Settings", "load_settings"]
