"""Seals of the audit trail: at intervals a row says how far each chain has come, over the seal before it.

A chain alone does not show that its end was cut off, or that the whole of it was written anew. A seal does,
and who keeps its digest elsewhere (the log, an audit repository) notices when the seals themselves were.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from db import audit, chain
from db.engine import Database
from db.models import AuditEvent, AuditSeal
from db.types import utcnow

WINDOW = 10_000
"""Ids before the last seal that are looked at again: on PostgreSQL a smaller id may be committed later."""
ENTRY = (
    AuditEvent.id, AuditEvent.at, AuditEvent.actor, AuditEvent.action, AuditEvent.object_type,
    AuditEvent.object_id, AuditEvent.address, AuditEvent.outcome, AuditEvent.detail, AuditEvent.chain,
    AuditEvent.number, AuditEvent.digest,
)  # fmt: skip
"""Columns of an entry."""


class Sealer:
    """Makes the seals; the scheduler's leader alone does. It remembers what the seals before say."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._last: AuditSeal | None = None
        self._sealed: dict[str, int] = {}
        """Chain to the number of its last sealed row."""
        self._looked_at_all = False

    def seal(self, actor: str = "scheduler") -> AuditSeal | None:
        """Seal what has been added since; None where nothing has, but for the entry about the last seal."""
        for one in seals(self.database, after=self._last.id if self._last else 0):
            self._remember(one)
        with self.database.read() as session:
            position = session.scalar(select(func.max(AuditEvent.id))) or 0
            heads = self._heads(session)
        rows = sum(number - self._sealed.get(name, 0) for name, (number, _) in heads.items())
        if self._last is not None and rows <= 1:
            return None
        made = AuditSeal(
            at=utcnow(),
            rows=rows,
            position=position,
            heads=heads,
            before=unchained(self.database) if self._last is None else None,
            previous=self._last.digest if self._last else chain.BEGIN,
        )
        made.digest = digest(made)
        with self.database.write() as session:
            session.add(made)
            session.flush()
            said = {"seal": made.id, "digest": made.digest}
            audit.record(session, actor, "audit.seal", object_type="audit", detail=said)
        self._remember(made)
        self._looked_at_all = True
        return made

    def _remember(self, one: AuditSeal) -> None:
        self._last = one
        self._sealed |= {name: number for name, (number, _) in one.heads.items()}

    def _heads(self, session: Session) -> dict[str, list[Any]]:
        """Number and digest of the last row of each chain that is longer than when it was sealed."""
        query = select(AuditEvent.chain, func.max(AuditEvent.number)).where(AuditEvent.chain.is_not(None))
        if self._looked_at_all and self._last is not None:
            query = query.where(AuditEvent.id > self._last.position - WINDOW)
        grown = [
            (name, number)
            for name, number in session.execute(query.group_by(AuditEvent.chain))
            if name is not None and number is not None and number > self._sealed.get(name, 0)
        ]
        of_row = select(AuditEvent.digest)
        return {
            name: [
                number,
                session.scalar(of_row.where(AuditEvent.chain == name, AuditEvent.number == number)),
            ]
            for name, number in grown
        }


def _digest_of(session: Session, name: str, number: int) -> str | None:
    row = (AuditEvent.chain == name) & (AuditEvent.number == number)
    return session.scalar(select(AuditEvent.digest).where(row))


def digest(one: AuditSeal) -> str:
    """What a seal's digest must be."""
    said = {
        "at": chain.moment(one.at), "rows": one.rows, "position": one.position, "heads": one.heads,
        "before": one.before,
    }  # fmt: skip
    return chain.digest(said, one.previous)


def seals(database: Database, *, after: int = 0, at_once: int = 500) -> Iterator[AuditSeal]:
    """All seals later than that id, in order, read in parts."""
    while True:
        query = select(AuditSeal).where(AuditSeal.id > after).order_by(AuditSeal.id).limit(at_once)
        with database.read() as session:
            found = list(session.scalars(query))
        yield from found
        if len(found) < at_once:
            return
        after = found[-1].id


def page(
    session: Session, *, limit: int = 100, before: int | None = None
) -> tuple[list[AuditSeal], int | None]:
    """Seals, newest first, and the id to go on before; None where these were the last."""
    query = select(AuditSeal).order_by(AuditSeal.id.desc()).limit(limit + 1)
    rows = list(session.scalars(query if before is None else query.where(AuditSeal.id < before)))
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None


def newest(session: Session) -> AuditSeal | None:
    """The last seal."""
    return next(iter(page(session, limit=1)[0]), None)


def unchained(database: Database, *, last: int | None = None, at_once: int = 1000) -> dict[str, Any]:
    """Count, last id and digest of the rows that were there before chains were; up to the id `last`."""
    count, reached, folded = 0, 0, chain.BEGIN
    while found := _without_chain(database, reached, last, at_once):
        for row in found:
            folded = chain.digest({"id": row.id, **chain.canonical(row)}, folded)
        count, reached = count + len(found), found[-1].id
    return {"rows": count, "last": reached, "digest": folded}


def _without_chain(database: Database, after: int, last: int | None, at_once: int) -> list[Row[Any]]:
    query = select(*ENTRY).where(AuditEvent.chain.is_(None), AuditEvent.id > after)
    if last is not None:
        query = query.where(AuditEvent.id <= last)
    with database.read() as session:
        return list(session.execute(query.order_by(AuditEvent.id).limit(at_once)))
