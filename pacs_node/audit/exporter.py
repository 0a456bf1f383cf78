"""Sends audit messages from what the database has recorded: it survives restarts and holds nothing up.

The queue is the database itself. A bookmark says how far its tables were told; it moves on when the messages
have arrived, so after a break some may come twice and none is left out while its row is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

import structlog
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from config import Settings
from db import Database
from db.exchange import Bookmark
from db.feed import Feed
from db.models import AuditEvent, JobEvent
from db.types import utcnow
from pacs_node.audit.compose import Composer, too_early
from pacs_node.audit.message import Message
from pacs_node.audit.sinks import Sink
from pacs_node.whereabouts import where

log = structlog.get_logger(__name__)

TRAIL, DELIVERIES = "audit.trail", "audit.deliveries"
AT_ONCE = 200
"""Messages that go to the sink together."""
MAX_PUT_OFF = 1000
"""Received objects whose study is awaited; of more, the oldest are told as they are."""
FRESH = timedelta(minutes=2)
"""How far back the first message of an installation reaches, so that its start is told."""


@dataclass(frozen=True)
class Backlog:
    """What is still to be told: how many rows at most, and how old the oldest is (None: nothing)."""

    rows: int
    oldest: datetime | None


class Exporter:
    """Tells a sink what was recorded since the last time. One at a time: the scheduler's leader runs it."""

    def __init__(self, settings: Settings, database: Database, sink: Sink) -> None:
        self.database, self.sink = database, sink
        self.composer = Composer(settings)
        self._readers: _Readers | None = None

    def run(self) -> int:
        """Tell all there is; returns how many messages went out.

        Raises :class:`pacs_node.audit.sinks.SinkError`; the rest is told at the next call.
        """
        sent, more = 0, True
        try:
            while more:
                count, more = self._tell()
                sent += count
        except BaseException:
            self._readers = None  # what they handed out is read again from the bookmarks
            raise
        return sent

    def _tell(self) -> tuple[int, bool]:
        """Tell one page of rows; how many messages, and whether there may be more."""
        readers = self._readers = self._readers or _Readers(self.database)
        rows, steps = readers.read()
        with self.database.read() as session:
            put_off, messages = self._messages(session, readers.put_off, rows, steps)
        encoded = iter([message.xml() for message in messages])
        while part := list(islice(encoded, AT_ONCE)):
            self.sink.send(part)
        if rows or steps or put_off != readers.put_off:
            readers.mark(put_off)
        return len(messages), bool(rows or steps)

    def _messages(
        self, session: Session, waiting: list[int], rows: list[AuditEvent], steps: list[JobEvent]
    ) -> tuple[list[int], list[Message]]:
        """What is put off, and the messages about the rest in the order in which it happened."""
        earlier = session.scalars(
            select(AuditEvent).where(AuditEvent.id.in_(waiting)).order_by(AuditEvent.id)
        )
        every = [*earlier, *rows]
        late = [row.id for row in every if too_early(session, row)][-MAX_PUT_OFF:]
        due = [row for row in every if row.id not in set(late)]
        composer = self.composer
        found = [_told(row, partial(composer.of_trail, session, row)) for row in due]
        moves = [step for step in steps if step.kind == "delivery"]
        found += [_told(step, partial(composer.of_delivery, session, step)) for step in moves]
        return late, sorted((message for message in found if message is not None), key=lambda m: m.at)


def _told(row: AuditEvent | JobEvent, compose: Callable[[], Message | None]) -> Message | None:
    """The message about a row; of one that cannot be made the log tells, and the next are told."""
    try:
        return compose()
    except SQLAlchemyError:
        raise
    except Exception as error:  # noqa: BLE001 - one row that nobody foresaw must not hold up all others
        log.error("audit.untellable", table=row.__tablename__, row=row.id, error=where(error))
        return None


class _Readers:
    """The two tables, read on from their bookmarks; without bookmarks, from the present."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._trail, self._steps = Feed(database, AuditEvent), Feed(database, JobEvent)
        with database.write() as session:
            trail = _bookmark(session, TRAIL, AuditEvent.at < utcnow() - FRESH)
            steps = _bookmark(session, DELIVERIES, None)
            self.put_off = list(trail.put_off)
            self._begin: tuple[int, int] | None = (trail.position, steps.position)

    def read(self) -> tuple[list[AuditEvent], list[JobEvent]]:
        """New rows of both."""
        begin, self._begin = self._begin or (None, None), None
        return self._trail.after(begin[0]), self._steps.after(begin[1])

    def mark(self, put_off: list[int]) -> None:
        """Everything handed out has been told, but for what is put off."""
        with self.database.write() as session:
            trail, steps = session.get_one(Bookmark, TRAIL), session.get_one(Bookmark, DELIVERIES)
            trail.position = max(trail.position, self._trail.settled or 0)
            steps.position = max(steps.position, self._steps.settled or 0)
            trail.put_off = self.put_off = put_off


def backlog(session: Session) -> Backlog:
    """How much waits; rows that no message is made of are counted too."""
    rows, oldest = 0, []
    for name, table, counts in (
        (TRAIL, AuditEvent, AuditEvent.id.is_not(None)),
        (DELIVERIES, JobEvent, JobEvent.kind == "delivery"),
    ):
        kept = session.get(Bookmark, name)
        if kept is None:
            continue
        waiting = (table.id > kept.position) & counts
        number, first = session.execute(select(func.count(table.id), func.min(table.at)).where(waiting)).one()
        rows += number
        oldest += [] if first is None else [first]
    return Backlog(rows, min(oldest, default=None))


def untold(session: Session, before: datetime) -> int:
    """Steps of deliveries older than `before` that nobody was told of: retention is about to take them."""
    kept = session.get(Bookmark, DELIVERIES)
    if kept is None:
        return 0
    lost = (JobEvent.id > kept.position) & (JobEvent.kind == "delivery") & (JobEvent.at < before)
    return session.scalar(select(func.count(JobEvent.id)).where(lost)) or 0


def _bookmark(session: Session, name: str, seen: ColumnElement[bool] | None) -> Bookmark:
    """The bookmark of that name; a new one lies behind the rows that are `seen` (None: all) already."""
    kept = session.get(Bookmark, name)
    if kept is None:
        table = AuditEvent if name == TRAIL else JobEvent
        newest = select(func.max(table.id))
        position = session.scalar(newest if seen is None else newest.where(seen)) or 0
        kept = Bookmark(name=name, position=position, put_off=[])
        session.add(kept)
        session.flush()
    return kept
