"""The built front end: addresses of its hashed files, from the manifest that Vite writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flask import url_for

DIST = Path(__file__).parent / "static" / "dist"
MANIFEST = DIST / "manifest.json"

_FONTS = "node_modules/@fontsource-variable/atkinson-hyperlegible-next/files"
FONT = f"{_FONTS}/atkinson-hyperlegible-next-latin-wght-normal.woff2"
"""The font of nearly every word: pages ask for it before the style sheet does."""

_ENTRIES = {
    "main.js": ("src/main.ts", "file"),
    "main.css": ("src/main.ts", "css"),
    "theme.js": ("src/theme.ts", "file"),
    "mark.svg": ("src/mark.svg", "file"),
    "text.woff2": (FONT, "file"),
}

_read: tuple[int, dict[str, str]] = (-1, {})


def asset(name: str) -> str | None:
    """The address of one of the files that pages name; None while the front end is not built.

    Pages work without it, plainly. Raises :class:`KeyError` for another name.
    """
    if name not in _ENTRIES:
        raise KeyError(name)
    file = files().get(name)
    return None if file is None else url_for("static", filename=f"dist/{file}")


def files() -> dict[str, str]:
    """Names to files below `static/dist`; read again when the front end was built again."""
    global _read
    try:
        stamp = MANIFEST.stat().st_mtime_ns
    except OSError:
        return {}
    if _read[0] != stamp:
        try:
            _read = (stamp, _load())
        except (OSError, ValueError, LookupError):  # it is being built at this moment
            return {}
    return _read[1]


def _load() -> dict[str, str]:
    manifest: dict[str, Any] = json.loads(MANIFEST.read_text("utf-8"))
    found = {}
    for name, (entry, key) in _ENTRIES.items():
        value = manifest[entry][key]
        found[name] = value[0] if isinstance(value, list) else value
    return found
