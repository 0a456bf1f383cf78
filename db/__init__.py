"""The state of the node: tables, the job queue, the object store and the door that both intakes share.

Knows nothing of DICOM, HTTP or networks.
"""

from __future__ import annotations

from db import words as _words  # noqa: F401 - a patient's words are made wherever patients are
from db.engine import Database

__all__ = ["Database"]
