"""How large a fault test runs: small in `make test`, large in `make faults` (FAULTS=long)."""

from __future__ import annotations

import os

LONG = os.environ.get("FAULTS") == "long"


def size(small: int, large: int) -> int:
    """The number for this run."""
    return large if LONG else small
