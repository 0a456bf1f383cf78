"""A derived object against its source, for unit and interop tests: by our rule book, and by a validator."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pydicom import Dataset

from pacs_node import soundness

_KNOWN_FALSE_ALARMS = ("Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID",)


def check_derived(source: Dataset, derived: Dataset, scale: int) -> None:
    """Assert that `derived` is a sound enlargement of `source` by `scale`."""
    pair = soundness.Pair.of_datasets(source, derived)
    assert pair.scale == scale
    found = [str(finding) for finding in soundness.check(pair)]
    assert not found, "\n".join(found)


def new_errors(validator: Path, source: Path, derived: Path) -> list[str]:
    """Errors that `dciodvfy` finds in `derived` and not in `source`."""
    return sorted(errors(validator, derived) - errors(validator, source))


def errors(validator: Path, path: Path) -> set[str]:
    """Errors that `dciodvfy` finds in a file, without its known false alarms."""
    done = subprocess.run([validator, path], capture_output=True, text=True, errors="replace", timeout=60)
    lines = (done.stdout + done.stderr).splitlines()
    return {line for line in lines if "Error" in line and not any(k in line for k in _KNOWN_FALSE_ALARMS)}
