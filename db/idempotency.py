"""Requests that may be sent twice: the first one's answer is kept under the key that its sender chose.

Two requests with one key at the same time meet in the table: its unique constraint lets one of them in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError

from db.desk import IdempotencyKey
from db.engine import Database
from db.types import utcnow

KEPT = timedelta(hours=24)
"""How long an answer can be asked for again."""
PATIENCE = timedelta(minutes=10)
"""After this a request without an answer counts as one whose process died; the next one takes its place."""


class KeyBusy(Exception):
    """The first request with this key is still being answered."""


class KeyReused(Exception):
    """The key belongs to another request."""


@dataclass(frozen=True)
class Claim:
    """The right to do what a key stands for; `at` fences off a late one whose place was taken."""

    id: int
    at: datetime


@dataclass(frozen=True)
class Answered:
    """What the first request was told."""

    status: int
    answer: dict[str, Any]


def claim(database: Database, user_id: int, key: str, digest: str) -> Claim | Answered:
    """Begin a request, or get what was answered to it before.

    `digest` tells requests apart: 64 hexadecimal digits. Raises :class:`KeyBusy`, :class:`KeyReused`.
    """
    now = utcnow()
    try:
        with database.write() as session:
            row = IdempotencyKey(user_id=user_id, key=key, request_sha256=digest, at=now)
            session.add(row)
            session.flush()
            return Claim(row.id, now)
    except IntegrityError:
        return _second(database, user_id, key, digest, now)


def _second(database: Database, user_id: int, key: str, digest: str, now: datetime) -> Claim | Answered:
    with database.write() as session:
        found = select(IdempotencyKey).filter_by(user_id=user_id, key=key).with_for_update()
        row = session.scalar(found)
        if row is None:  # given up just now
            raise KeyBusy
        over = row.at < now - (PATIENCE if row.status is None else KEPT)
        if over:
            row.request_sha256, row.status, row.answer, row.at = digest, None, None, now
            return Claim(row.id, now)
        if row.request_sha256 != digest:
            raise KeyReused
        if row.status is None or row.answer is None:
            raise KeyBusy
        return Answered(row.status, row.answer)


def settle(database: Database, claim: Claim, status: int, answer: dict[str, Any]) -> None:
    """Keep the answer for whoever asks again."""
    with database.write() as session:
        session.execute(update(IdempotencyKey).where(*_ours(claim)).values(status=status, answer=answer))


def give_up(database: Database, claim: Claim) -> None:
    """Nothing came of it: the key is free again."""
    with database.write() as session:
        session.execute(delete(IdempotencyKey).where(*_ours(claim)))


def _ours(claim: Claim) -> tuple[Any, ...]:
    row = IdempotencyKey
    return row.id == claim.id, row.at == claim.at, row.status.is_(None)
