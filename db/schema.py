"""The tables as a whole: bring them up to date, check them, copy them, put a copy back."""

from __future__ import annotations

from db.backup import BackupError, backup, restore
from db.revisions import SchemaError, check, head, installation_uuid, upgrade

__all__ = [
    "BackupError",
    "SchemaError",
    "backup",
    "check",
    "head",
    "installation_uuid",
    "restore",
    "upgrade",
]
