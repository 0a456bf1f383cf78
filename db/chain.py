"""Rows of the audit trail in chains: each carries a number without gaps and a digest over the row before it.

A transaction that records something holds a chain of its process alone and gives it back when it is over, so
nobody waits for anybody: a process has as many chains as it ever had such transactions at once. What was
rolled back is taken off the chain again. Where it is not known whether a commit took place, the chain is
given up and another begun: a chain may end at any row, only its middle must be whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session, SessionTransaction

from db.models import AuditEvent

BEGIN = "0" * 64
"""What the first row of a chain follows."""
FIELDS = ("chain", "number", "actor", "action", "object_type", "object_id", "address", "outcome")
"""Columns of a row that its digest is over, beside `at`, the digest of `detail` and the digest before it."""
_LANE, _COMMITTING = "audit.chain", "audit.committing"


@dataclass(frozen=True)
class Head:
    """The last row of a chain; number 0 where it has none."""

    number: int = 0
    digest: str = BEGIN


@dataclass
class Lane:
    """A chain in the hands of one transaction."""

    chain: str
    base: Head = field(default_factory=Head)
    """As the transaction found it."""
    head: Head = field(default_factory=Head)
    """With what the transaction has recorded."""
    marks: dict[SessionTransaction, Head] = field(default_factory=dict)
    """`head` at the begin of each savepoint that is open."""


class Chains:
    """The chains of this process in one database; safe to share between threads."""

    def __init__(self) -> None:
        self._lock, self._process = threading.Lock(), uuid.uuid4().hex
        self._begun, self._free = 0, list[Lane]()

    def take(self) -> Lane:
        """A chain that nobody holds."""
        with self._lock:
            if self._free:
                return self._free.pop()
            self._begun += 1
            return Lane(f"{self._process}.{self._begun}")

    def give_back(self, lane: Lane, head: Head) -> None:
        """The transaction is over; the chain ends at `head` now."""
        lane.base = lane.head = head
        lane.marks.clear()
        with self._lock:
            self._free.append(lane)


_of_engine: WeakKeyDictionary[Engine, Chains] = WeakKeyDictionary()
_guard = threading.Lock()


class Entry(Protocol):
    """A row of the trail, as the ORM or a plain query has it."""

    @property
    def at(self) -> Any: ...
    @property
    def detail(self) -> Any: ...


def append(session: Session, row: AuditEvent) -> None:
    """Put a new row at the end of the transaction's chain; its columns must not change afterwards."""
    lane: Lane | None = session.info.get(_LANE)
    if lane is None:
        lane = session.info[_LANE] = _chains(session).take()
    row.chain, row.number = lane.chain, lane.head.number + 1
    row.digest = digest(canonical(row), lane.head.digest)
    lane.head = Head(row.number, row.digest)


def canonical(row: Entry) -> dict[str, Any]:
    """What a row's digest is over. Of its detail it is a digest too: so a row can be checked without it."""
    said = {name: getattr(row, name) for name in FIELDS}
    return {**said, "at": moment(row.at), "detail_sha256": detail_sha256(row.detail)}


def detail_sha256(detail: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of an entry's detail."""
    return hashlib.sha256(_json(_same(detail))).hexdigest()


def digest(said: Mapping[str, Any], previous: str) -> str:
    """SHA-256 of the canonical JSON of `said` and of the digest before it."""
    return hashlib.sha256(_json({**said, "previous": previous})).hexdigest()


def _json(value: Any) -> bytes:
    """JSON in UTF-8, keys in the order of their code points, no blanks."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def moment(at: datetime) -> str:
    """A time in UTC, to the microsecond."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _same(value: Any) -> Any:
    """Numbers as they come back from every engine: whole ones without a fraction."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _same(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_same(item) for item in value]
    return value


def _chains(session: Session) -> Chains:
    engine = session.get_bind().engine
    with _guard:
        return _of_engine.setdefault(engine, Chains())


def _forget_all() -> None:
    """A forked process has chains of its own."""
    global _guard
    _guard = threading.Lock()
    _of_engine.clear()


os.register_at_fork(after_in_child=_forget_all)


@event.listens_for(Session, "after_transaction_create")
def _begun(session: Session, transaction: SessionTransaction) -> None:
    lane: Lane | None = session.info.get(_LANE)
    if transaction.nested and lane is not None:
        lane.marks[transaction] = lane.head


@event.listens_for(Session, "before_commit")
def _committing(session: Session) -> None:
    if not session.in_nested_transaction():
        session.info[_COMMITTING] = True


@event.listens_for(Session, "after_commit")
def _committed(session: Session) -> None:
    if session.in_nested_transaction():
        return
    session.info.pop(_COMMITTING, None)
    lane: Lane | None = session.info.pop(_LANE, None)
    if lane is not None:
        _chains(session).give_back(lane, lane.head)


@event.listens_for(Session, "after_rollback")
def _rolled_back(session: Session) -> None:
    lane: Lane | None = session.info.get(_LANE)
    nested = session.get_nested_transaction()
    if nested is not None:
        if lane is not None:
            lane.head = lane.marks.pop(nested, lane.base)
        return
    uncertain = session.info.pop(_COMMITTING, False)
    session.info.pop(_LANE, None)
    if lane is not None and not uncertain:
        _chains(session).give_back(lane, lane.base)
