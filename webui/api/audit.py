"""The audit trail for administrators: by what its entries are about, page by page, or all of it as a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from db import audit, chain, seals, verification
from db.models import AuditEvent, AuditSeal
from webui import auth
from webui.api.operations import answer, operation, read_query
from webui.api.values import Day
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("audit", __name__)

Words = Annotated[str, StringConstraints(strip_whitespace=True, max_length=128)]
COLUMNS = (
    "id", "at", "actor", "action", "object_type", "object_id", "address", "outcome", "detail",
    "chain", "number", "detail_sha256", "digest",
)  # fmt: skip


class Filters(BaseModel):
    """All that are given must fit. Nothing of it is about a patient."""

    model_config = ConfigDict(extra="forbid")

    actor: Words = Field("", description="A user's name, or a role.")
    action: Words = Field(
        "", description="An action, or its beginning with a dot: `job.`.", examples=["job.retry"]
    )
    object_type: Words = Field("", examples=["job"])
    object_id: Words = ""
    outcome: Words = Field("", examples=["failure"])
    since: Day | None = Field(None, description="The first day, in UTC.")
    until: Day | None = Field(None, description="The last day, in UTC.")

    @property
    def wanted(self) -> audit.Filter:
        return audit.Filter(
            actor=self.actor or None,
            action=self.action or None,
            object_type=self.object_type or None,
            object_id=self.object_id or None,
            outcome=self.outcome or None,
            since=_midnight(self.since) if self.since else None,
            until=_midnight(self.until) + timedelta(days=1) if self.until else None,
        )


class AuditQuery(Filters):
    limit: int = Field(100, ge=1, le=1000)
    cursor: int | None = Field(None, ge=1, description="`next` of the page before.")


class ExportQuery(Filters):
    format: Literal["csv", "json"] = Field("csv", description="json: one object a line.")


class EntryView(BaseModel):
    """Who did what to what, when and from where, and how it ended."""

    id: int
    at: datetime
    actor: str
    action: str
    object_type: str | None
    object_id: str | None
    address: str | None
    outcome: str
    detail: dict[str, Any] = Field(description="What was searched for is left out: it may name patients.")
    chain: str | None = Field(description="Which chain of digests it stands in; null before there were any.")
    number: int | None = Field(description="Its place in the chain, from 1, without gaps.")
    detail_sha256: str = Field(description="Of the whole detail, also of what is left out here.")
    digest: str | None = Field(description="SHA-256 over the entry and the digest before it (docs/audit.md).")

    @classmethod
    def of(cls, row: AuditEvent) -> EntryView:
        return cls(
            id=row.id,
            at=row.at,
            actor=row.actor,
            action=row.action,
            object_type=row.object_type,
            object_id=row.object_id,
            address=row.address,
            outcome=row.outcome,
            detail=audit.shown(row.detail),
            chain=row.chain,
            number=row.number,
            detail_sha256=chain.detail_sha256(row.detail),
            digest=row.digest,
        )


class AuditPage(BaseModel):
    """Newest first; `next` is the cursor of the following page."""

    entries: list[EntryView]
    next: int | None


class SealView(BaseModel):
    """How far each chain had come at a moment."""

    id: int
    at: datetime
    rows: int = Field(description="Entries sealed by it that were not sealed before.")
    position: int = Field(description="The largest id of an entry that was there.")
    heads: dict[str, list[Any]] = Field(
        description="Of each chain that had grown: number and digest of its last entry."
    )
    before: dict[str, Any] | None = Field(description="Of the first seal: the entries without a chain.")
    previous: str = Field(description="Digest of the seal before it.")
    digest: str

    @classmethod
    def of(cls, row: AuditSeal) -> SealView:
        return cls.model_validate({name: getattr(row, name) for name in cls.model_fields})


class SealQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=1000)
    cursor: int | None = Field(None, ge=1, description="`next` of the page before.")


class SealPage(BaseModel):
    """Newest first; `next` is the cursor of the following page."""

    seals: list[SealView]
    next: int | None
    verified: EntryView | None = Field(description="The last time that the trail was verified, by whom.")


@blueprint.get("/audit")
@auth.role("admin")
@operation("Read the audit trail", tag="administration", query=AuditQuery, answers={200: AuditPage})
def trail() -> Response:
    """Newest first."""
    return answer(page(read_query(AuditQuery)))


@blueprint.get("/audit/export")
@auth.role("admin")
@operation(
    "Export the audit trail", tag="administration", query=ExportQuery,
    answers={200: "text/csv, application/x-ndjson"},
)  # fmt: skip
def export() -> Response:
    """Everything that fits, newest first: as CSV, or with `format=json` an object a line
    (`application/x-ndjson`)."""
    query = read_query(ExportQuery)
    here = services()
    with here.database.write() as session:
        asked = query.model_dump(mode="json", exclude_defaults=True)
        audit.record(session, auth.actor().user, "audit.export", address=client_address(), detail=asked)
    rows = (EntryView.of(row) for row in audit.every(here.database, query.wanted))
    as_text, kind, suffix = FORMS[query.format]
    name = f"audit-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.{suffix}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(as_text(rows), content_type=kind, headers=headers)


@blueprint.get("/audit/seals")
@auth.role("admin")
@operation(
    "Read the seals of the audit trail", tag="administration", query=SealQuery, answers={200: SealPage}
)
def audit_seals() -> Response:
    """Newest first. Who keeps the digest of a seal can find out later whether the trail was replaced."""
    return answer(seal_page(read_query(SealQuery)))


def seal_page(query: SealQuery) -> SealPage:
    """What the page and the route show."""
    with services().database.read() as session:
        rows, cursor = seals.page(session, limit=query.limit, before=query.cursor)
        last = verification.last(session)
        return SealPage(
            seals=[SealView.of(row) for row in rows],
            next=cursor,
            verified=None if last is None else EntryView.of(last),
        )


def page(query: AuditQuery) -> AuditPage:
    """What the page and the route show."""
    with services().database.read() as session:
        rows, cursor = audit.page(session, query.wanted, limit=query.limit, before=query.cursor)
        return AuditPage(entries=[EntryView.of(row) for row in rows], next=cursor)


def _as_csv(rows: Iterator[EntryView]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for row in rows:
        said = row.model_dump(mode="json")
        said["detail"] = json.dumps(said["detail"], ensure_ascii=False) if said["detail"] else ""
        writer.writerow([_plain(said[column]) for column in COLUMNS])
        if buffer.tell() > 1 << 15:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _as_lines(rows: Iterator[EntryView]) -> Iterator[str]:
    for row in rows:
        yield row.model_dump_json() + "\n"


def _plain(value: Any) -> Any:
    """A cell that a spreadsheet takes for text and for no formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


_Form = tuple[Callable[[Iterator[EntryView]], Iterator[str]], str, str]
FORMS: dict[str, _Form] = {
    "csv": (_as_csv, "text/csv; charset=utf-8", "csv"),
    "json": (_as_lines, "application/x-ndjson", "ndjson"),
}
