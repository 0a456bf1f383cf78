"""Whether the audit trail is what was written: each row by its chain, each chain by its seals, the seals by
each other and by a digest that somebody kept elsewhere.

Findings name rows, chains and seals by number; nothing of it is about a patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from db import audit, chain, seals
from db.chain import Head
from db.engine import Database
from db.models import AuditEvent, AuditSeal

KEPT = 100
"""Findings that are told one by one; the others are counted."""
TOLD = 5
"""Findings that stand in the trail itself."""
AT_ONCE = 1000
ACTION = "audit.verify"


class Kind(StrEnum):
    """What is wrong."""

    CHANGED = "changed"
    """A row, or the digest before it, is not what was written."""
    MISSING = "missing"
    """Rows of a chain are not there."""
    REWRITTEN = "rewritten"
    """A chain fits together, but not with its seal."""
    FOREIGN = "foreign"
    """A row is there that nobody recorded in that place."""
    BEFORE = "before"
    """The rows from before there were chains are not those that were sealed."""
    SEAL_CHANGED = "seal-changed"
    SEAL_MISSING = "seal-missing"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; ids of the row and the seal where there are such."""

    kind: Kind
    message: str
    row: int | None = None
    seal: int | None = None


@dataclass
class Report:
    """What was read and what was found."""

    rows: int = 0
    """In chains."""
    chains: int = 0
    seals: int = 0
    unsealed: int = 0
    """Rows later than the last seal: of these only the middle is certain."""
    before: int = 0
    """Rows from before there were chains."""
    head: str | None = None
    """Digest of the last seal: keep it elsewhere."""
    count: int = 0
    """Of findings."""
    findings: list[Finding] = field(default_factory=list)
    """The first of them."""

    @property
    def sound(self) -> bool:
        return not self.count

    def add(self, kind: Kind, message: str, *, row: int | None = None, seal: int | None = None) -> None:
        self.count += 1
        if len(self.findings) < KEPT:
            self.findings.append(Finding(kind, message, row, seal))


def verify(database: Database, *, head: str | None = None) -> Report:
    """Read the whole trail in parts, beside writers. `head`: digest of a seal that must be there."""
    return _Verifier(database).run(head)


def note(session: Session, actor: str, report: Report) -> None:
    """Write into the trail who has verified it, and with what result."""
    detail = {
        "rows": report.rows,
        "seals": report.seals,
        "head": report.head,
        "findings": report.count,
        "first": [one.message for one in report.findings[:TOLD]],
    }
    outcome = "success" if report.sound else "failure"
    audit.record(session, actor, ACTION, object_type="audit", outcome=outcome, detail=detail)


def last(session: Session) -> AuditEvent | None:
    """The entry about the last time that the trail was verified."""
    query = select(AuditEvent).where(AuditEvent.action == ACTION).order_by(AuditEvent.id.desc()).limit(1)
    return session.scalars(query).first()


class _Verifier:
    def __init__(self, database: Database) -> None:
        self.database, self.report = database, Report()
        self.reached: dict[str, Head] = {}
        """Of each chain, the last row that was read."""
        self.broken: set[str] = set()
        self.known: set[str] = set()
        """Digests of the seals."""

    def run(self, head: str | None) -> Report:
        report = self.report
        there = self._lengths()
        try:
            for one in self._seals():
                self._chains_of(one)
        except (ValueError, TypeError) as error:
            report.add(Kind.SEAL_CHANGED, f"a seal after {report.seals} others cannot be read: {error}")
        sealed = report.rows
        for name, (number, count) in there.items():
            self._walk(name, number)
            if count != self.reached[name].number and number == self.reached[name].number:
                self._number_of_rows(name, number, count)
        report.unsealed, report.chains = report.rows - sealed, len(self.reached)
        self._rows_before()
        if head is not None and head.lower() not in self.known:
            report.add(Kind.SEAL_MISSING, f"no seal has the digest {head}: what it sealed is not here")
        return report

    def _lengths(self) -> dict[str, tuple[int, int]]:
        """Largest number and count of rows of each chain, as they are now."""
        query = select(AuditEvent.chain, func.max(AuditEvent.number), func.count(AuditEvent.id))
        query = query.where(AuditEvent.chain.is_not(None)).group_by(AuditEvent.chain)
        with self.database.read() as session:
            return {str(name): (number or 0, count) for name, number, count in session.execute(query)}

    def _seals(self) -> Iterator[AuditSeal]:
        """The seals that are what was written, in order."""
        report, previous = self.report, chain.BEGIN
        self.first: AuditSeal | None = None
        for one in seals.seals(self.database):
            self.first = self.first or one
            report.seals += 1
            if one.previous != previous:
                report.add(
                    Kind.SEAL_MISSING,
                    f"seal {one.id} does not follow the one before it: a seal is missing or was made anew",
                    seal=one.id,
                )
            previous = report.head = one.digest
            self.known.add(one.digest)
            if seals.digest(one) == one.digest:
                yield one
            else:
                report.add(Kind.SEAL_CHANGED, f"seal {one.id} was changed", seal=one.id)

    def _chains_of(self, one: AuditSeal) -> None:
        """Each chain as far as the seal has it."""
        for name, (number, digest) in one.heads.items():
            self._walk(name, number, one.id)
            found = self.reached[name]
            if found.number < number:
                numbers = _numbers(found.number + 1, number)
                self._break(
                    name, Kind.MISSING, f"chain {name}: {numbers} missing, sealed by {one.id}", seal=one.id
                )
                self.reached[name] = Head(number, digest)
            elif found.number == number and found.digest != digest:
                message = f"chain {name}: up to number {number} it is not what seal {one.id} has sealed"
                self._break(name, Kind.REWRITTEN, message, seal=one.id)

    def _walk(self, name: str, last: int, seal: int | None = None) -> None:
        """Read a chain on to that number."""
        at = self.reached.setdefault(name, Head())
        for place, row in self._rows(name, at.number, last):
            self.report.rows += 1
            if row is not None:
                self._told_seal(row)
            if place.number > at.number + 1:
                message = f"chain {name}: {_numbers(at.number + 1, place.number - 1)} missing"
                self._break(name, Kind.MISSING, f"{message} before row {place.id}", row=place.id, seal=seal)
            elif place.number < at.number + 1:
                message = f"row {place.id}: chain {name} has number {place.number} already"
                self._break(name, Kind.FOREIGN, message, row=place.id)
                continue
            elif row is None or row.digest != chain.digest(chain.canonical(row), at.digest):
                message = f"row {place.id} was changed, or what stood before it in chain {name}"
                self._break(name, Kind.CHANGED, message, row=place.id)
            at = self.reached[name] = Head(place.number, place.digest)

    def _rows(self, name: str, after: int, last: int) -> Iterator[tuple[Row[Any], Row[Any] | None]]:
        """Id, number and digest of a chain's rows later than `after`, to `last`, and the rows, read in parts.

        None for a row whose columns are not even readable any more.
        """
        while after < last:
            here = (AuditEvent.chain == name) & (AuditEvent.number > after) & (AuditEvent.number <= last)
            order = (AuditEvent.number, AuditEvent.id)
            try:
                found = self._read(select(*seals.ENTRY).where(here).order_by(*order).limit(AT_ONCE))
                yield from ((row, row) for row in found)
            except ValueError:
                places = select(AuditEvent.id, AuditEvent.number, AuditEvent.digest)
                found = self._read(places.where(here).order_by(*order).limit(AT_ONCE))
                yield from ((place, self._readable(place.id)) for place in found)
            if len(found) < AT_ONCE:
                return
            after = found[-1].number

    def _readable(self, number: int) -> Row[Any] | None:
        try:
            return self._read(select(*seals.ENTRY).where(AuditEvent.id == number))[0]
        except ValueError:
            return None

    def _read(self, query: Select[*tuple[Any, ...]]) -> list[Row[Any]]:
        with self.database.read() as session:
            return list(session.execute(query))

    def _told_seal(self, row: Row[Any]) -> None:
        """The trail tells of each seal: those it tells of must be there."""
        said = row.detail if isinstance(row.detail, dict) else {}
        if row.action == "audit.seal" and said.get("digest") not in self.known:
            number = said.get("seal")
            message = f"seal {number}, of which row {row.id} tells, is missing or was made anew"
            self.report.add(Kind.SEAL_MISSING, message, row=row.id)

    def _number_of_rows(self, name: str, number: int, count: int) -> None:
        if name not in self.broken:
            self._break(name, Kind.FOREIGN, f"chain {name} has {count} rows for its {number} numbers")

    def _rows_before(self) -> None:
        """The rows without a chain are those of the first seal, and no others."""
        if self.first is None:
            self.report.before = seals.unchained(self.database)["rows"]
            return
        sealed = self.first.before or {"rows": 0, "last": 0, "digest": chain.BEGIN}
        try:
            found = seals.unchained(self.database, last=sealed["last"])
        except ValueError:
            found = {"rows": 0}
        self.report.before = found["rows"]
        if found != sealed:
            self.report.add(
                Kind.BEFORE,
                f"the rows from before there were chains, to id {sealed['last']}, are not those that were "
                f"sealed: {sealed['rows']} then, {found['rows']} now",
                seal=self.first.id,
            )
        with self.database.read() as session:
            query = select(AuditEvent.id).where(AuditEvent.chain.is_(None), AuditEvent.id > sealed["last"])
            for number in session.scalars(query.order_by(AuditEvent.id).limit(KEPT)):
                self.report.add(Kind.FOREIGN, f"row {number} is in no chain", row=number)

    def _break(
        self, name: str, kind: Kind, message: str, *, row: int | None = None, seal: int | None = None
    ) -> None:
        self.broken.add(name)
        self.report.add(kind, message, row=row, seal=seal)


def _numbers(first: int, last: int) -> str:
    return f"number {first} is" if first == last else f"numbers {first} to {last} are"
