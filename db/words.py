"""Words of patients' names, folded, so that people are found by the beginning of any part of their name.

An index over the folded words answers in the same way on both engines: neither SQLite nor PostgreSQL would
use one for a text in the middle of a column, nor agree on upper and lower case beyond ASCII.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, ForeignKey, Index, String, and_, event, insert
from sqlalchemy.orm import Mapped, Mapper, mapped_column

from db.models import Base, Patient

_LONGEST = 64
_LAST = "\U0010ffff"
_WORD = re.compile(r"[^\W_]+")

Word = String(_LONGEST).with_variant(String(_LONGEST, collation="C"), "postgresql")
"""Compared by code points, so that a range of words is a prefix."""


class PatientWord(Base):
    """One folded word of a patient's name; made with the patient, who never changes."""

    __tablename__ = "patient_word"
    patient_fk: Mapped[int] = mapped_column(ForeignKey("patient.id"), primary_key=True)
    word: Mapped[str] = mapped_column(Word, primary_key=True)
    __table_args__ = (Index("ix_patient_word", "word", "patient_fk"),)


def folded(text: str) -> str:
    """Without marks and without upper case: `Müller` and `MULLER` are one."""
    apart = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in apart if not unicodedata.combining(letter)).casefold()


def words_of(text: str) -> list[str]:
    """The folded words of a name or of a search, each once, in their order."""
    return list(dict.fromkeys(word[:_LONGEST] for word in _WORD.findall(folded(text))))


def begins(prefix: str, table: type[PatientWord] = PatientWord) -> ColumnElement[bool]:
    """Whether a :class:`PatientWord` (or an alias of it) begins so; answered by the index."""
    return and_(table.word >= prefix, table.word < prefix + _LAST)


def rows(patients: Iterable[tuple[int, str]]) -> list[dict[str, Any]]:
    """The rows of :class:`PatientWord` for patients given by id and name."""
    return [{"patient_fk": number, "word": word} for number, name in patients for word in words_of(name)]


@event.listens_for(Patient, "after_insert")
def _note(_mapper: Mapper[Patient], connection: Connection, patient: Patient) -> None:
    found = rows([(patient.id, patient.name or "")])
    if found:
        connection.execute(insert(PatientWord), found)
