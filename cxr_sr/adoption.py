"""Taking in again what lies in the store without a row, after a copy of the database was put back.

How an object came is not known any more. Unless a person says otherwise it is therefore treated as an upload:
enhanced, and sent nowhere that nobody chose.
"""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from db.intake import Arrival, Origin, intake
from db.objects import ObjectStore
from db.states import Purpose

if TYPE_CHECKING:
    from config import Settings
    from db import Database

_PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".tif": "image/tiff"}


@dataclass(frozen=True)
class Adopted:
    """The job of an object that was taken in again; `known`: the same bytes were there already."""

    job_id: int
    known: bool


def adopt(
    settings: Settings, database: Database, store: ObjectStore, key: str, *, by_rules: bool, actor: str
) -> Adopted:
    """Take one object in by the common door, then remove the nameless one.

    by_rules: as if a modality had sent it now. Raises what :func:`db.intake.intake` raises, and OSError.
    """
    suffix = Path(key).suffix
    copy = store.spool / f"adopt-{uuid.uuid4().hex}.part"
    try:
        with store.open(key) as stream, copy.open("xb") as target:
            shutil.copyfileobj(stream, target, 1 << 20)
        arrival = _arrival(copy, suffix, by_rules)
        origin = Origin("dimse" if by_rules and suffix == ".dcm" else "upload", actor=actor)
        taken = intake(database, store, arrival, origin, max_waiting=settings.queue.max_waiting)
    finally:
        copy.unlink(missing_ok=True)
    store.delete(key)
    return Adopted(taken.job_id, taken.resend)


def _arrival(file: Path, suffix: str, by_rules: bool) -> Arrival:
    purpose = Purpose.CLINICAL if by_rules and suffix == ".dcm" else Purpose.MANUAL
    if suffix in _PICTURES:
        return Arrival(file, _PICTURES[suffix], suffix, purpose=purpose)
    from pacs_node import header

    sop_class = instance = syntax = None
    try:
        with file.open("rb") as stream:
            part10 = header.read_part10(stream)
        sop_class, instance = part10.sop_class_uid, part10.sop_instance_uid
        syntax = part10.transfer_syntax_uid
    except header.HeaderError:  # the worker says what is wrong with it
        pass
    return Arrival(
        file, "application/dicom", suffix, sop_class_uid=sop_class, sop_instance_uid=instance,
        transfer_syntax_uid=syntax, purpose=purpose,
    )  # fmt: skip
