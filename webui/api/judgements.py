"""What readers think of results: said on a job, read and taken out by administrators. No patient's name."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from db import Database, audit, judgements, queue
from db.desk import Judgement
from db.judgements import Filter, Judged
from webui import auth
from webui.api.jobs import find
from webui.api.operations import answer, operation, read_body, read_query
from webui.api.values import Day, Number
from webui.errors import Conflict, NotFound
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("judgements", __name__)

Verdict = Literal["good", "bad", "invented"]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=judgements.LONGEST_NOTE)]
Side = Annotated[Number, Field(ge=0, lt=1 << 16)]


class Region(BaseModel):
    """A region in pixels of the result."""

    model_config = ConfigDict(extra="forbid")

    x: Side
    y: Side
    width: Annotated[Number, Field(ge=1, lt=1 << 16)]
    height: Annotated[Number, Field(ge=1, lt=1 << 16)]


class NewJudgement(BaseModel):
    model_config = ConfigDict(extra="forbid")

    verdict: Verdict = Field(description="`invented`: it shows detail that is not in the original.")
    note: Annotated[str, StringConstraints(strip_whitespace=True, max_length=judgements.LONGEST_NOTE)] = (
        Field("", description="For those who train the next model; no patient data.")
    )
    rectangle: Region | None = Field(None, description="Where in the result.")


class JudgementView(BaseModel):
    job_id: int
    reader: str
    mine: bool = Field(description="Whether it is that of the one who asks.")
    verdict: Verdict
    note: str
    rectangle: Region | None
    at: datetime

    @classmethod
    def of(cls, row: Judgement) -> JudgementView:
        return cls(
            job_id=row.job_id,
            reader=row.actor,
            mine=row.user_id == auth.actor().user_id,
            verdict=row.verdict,
            note=row.note,
            rectangle=Region.model_validate(row.rectangle) if row.rectangle else None,
            at=row.at,
        )


class Judgements(BaseModel):
    judgements: list[JudgementView]


class JudgedView(BaseModel):
    """A judgement with what it is about."""

    id: int
    job_id: int
    reader: str
    verdict: Verdict
    note: str
    rectangle: Region | None
    at: datetime
    model: str | None
    version: str | None
    weights: str | None = Field(description="SHA-256 of the model's file.")
    scale: int | None
    rows: int
    columns: int
    sop_instance_uid: str = Field(description="Of the result.")
    series_instance_uid: str
    figures: dict[str, Any] = Field(description="Measured when the result was made.")

    @classmethod
    def of(cls, one: Judged) -> JudgedView:
        row, result, model = one.judgement, one.result, one.model
        return cls(
            id=row.id,
            job_id=row.job_id,
            reader=row.actor,
            verdict=row.verdict,
            note=row.note,
            rectangle=Region.model_validate(row.rectangle) if row.rectangle else None,
            at=row.at,
            model=model.name if model else None,
            version=model.version if model else None,
            weights=model.digest if model else None,
            scale=row.scale,
            rows=result.rows,
            columns=result.columns,
            sop_instance_uid=result.sop_instance_uid,
            series_instance_uid=result.series_instance_uid,
            figures=result.figures,
        )


class JudgedPage(BaseModel):
    """Newest first; `next` is the cursor of the following page."""

    judgements: list[JudgedView]
    next: str | None


class Wanted(BaseModel):
    """All that are given must fit."""

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict | Literal[""] = ""
    model: Annotated[str, StringConstraints(max_length=200)] = Field(
        "", description="Name of a model, or name and version with a space between."
    )
    since: Day | Literal[""] = Field("", description="The first day, in UTC.")
    until: Day | Literal[""] = Field("", description="The last day, in UTC.")

    @property
    def filter(self) -> Filter:
        return Filter(
            verdict=self.verdict,
            model=self.model,
            since=_midnight(self.since) if self.since else None,
            until=_midnight(self.until) + timedelta(days=1) if self.until else None,
        )

    @property
    def asked(self) -> dict[str, str]:
        """The filters that are set, as the query has them."""
        return {name: str(value) for name in Wanted.model_fields if (value := getattr(self, name))}


class WantedPage(Wanted):
    limit: int = Field(50, ge=1, le=500)
    cursor: int | None = Field(None, ge=1, description="`next` of the page before.")


@blueprint.get("/jobs/<int:job_id>/judgements")
@auth.role("radiologist")
@operation("What readers think of a result", tag="judgements", answers={200: Judgements})
def of_job(job_id: int) -> Response:
    """Oldest first."""
    with services().database.read() as session:
        find(session, job_id)
        return answer(
            Judgements(judgements=[JudgementView.of(row) for row in judgements.of_job(session, job_id)])
        )


@blueprint.post("/jobs/<int:job_id>/judgement")
@auth.role("radiologist")
@operation(
    "Say what you think of a result", tag="judgements", body=NewJudgement, answers={200: JudgementView},
    problems=(409,),
)  # fmt: skip
def judge(job_id: int) -> Response:
    """Instead of what the same reader said before. 409 where there is no result, or the rectangle lies
    outside of it."""
    return answer(said(job_id, read_body(NewJudgement)))


@blueprint.post("/jobs/<int:job_id>/judgement/withdraw")
@auth.role("radiologist")
@operation("Take your judgement back", tag="judgements", answers={200: Judgements})
def withdraw(job_id: int) -> Response:
    """404 where the reader has said nothing."""
    taken_back(job_id)
    return of_job(job_id)


@blueprint.get("/judgements")
@auth.role("admin")
@operation("Judgements of all results", tag="judgements", query=WantedPage, answers={200: JudgedPage})
def listing() -> Response:
    """Newest first, with model, scale, figures and UIDs of each result and without its patient."""
    wanted = read_query(WantedPage)
    with services().database.read() as session:
        found, cursor = judgements.page(session, wanted.filter, limit=wanted.limit, before=wanted.cursor)
        page = JudgedPage(
            judgements=[JudgedView.of(one) for one in found],
            next=str(cursor) if cursor is not None else None,
        )
    taken_out(wanted, "json")
    return answer(page)


@blueprint.get("/judgements.csv")
@auth.role("admin")
@operation("Judgements of all results as a table", tag="judgements", query=Wanted, answers={200: "text/csv"})
def table() -> Response:
    """All that the filters choose, newest first."""
    wanted = read_query(Wanted)
    taken_out(wanted, "csv")
    response = Response(_table(services().database, wanted.filter), content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = 'attachment; filename="cxr-sr-judgements.csv"'
    return response


COLUMNS = (
    "id", "at", "job_id", "verdict", "note", "x", "y", "width", "height", "reader", "model", "version",
    "weights", "scale", "rows", "columns", "sop_instance_uid", "series_instance_uid", "consistency_rms",
    "consistency_p999", "consistency_maximum", "bound_median", "bound_p99",
)  # fmt: skip
"""Of the table; figures are parts of the grey range."""


def said(job_id: int, wanted: NewJudgement) -> JudgementView:
    """Write a judgement down. Raises 404, 409."""
    who = auth.actor()
    region = judgements.Rectangle(**wanted.rectangle.model_dump()) if wanted.rectangle else None
    with services().database.write() as session:
        job = queue.get(session, job_id, lock=True) if 0 < job_id < 1 << 63 else None
        if job is None:
            raise NotFound("There is no such job.")
        try:
            row = judgements.put(
                session, job, user_id=who.user_id, actor=who.user, verdict=wanted.verdict, note=wanted.note,
                rectangle=region,
            )  # fmt: skip
        except judgements.NotJudged as refusal:
            raise Conflict(str(refusal), kind="not-judged") from None
        audit.record(
            session, who.user, "judgement.put", object_type="job", object_id=job_id,
            address=client_address(), detail={"verdict": wanted.verdict},
        )  # fmt: skip
        return JudgementView.of(row)


def taken_back(job_id: int) -> None:
    """Remove the actor's judgement. Raises 404."""
    who = auth.actor()
    with services().database.write() as session:
        if not (0 < job_id < 1 << 63 and judgements.withdraw(session, job_id, who.user_id)):
            raise NotFound("There is no judgement of yours on this job.")
        audit.record(
            session, who.user, "judgement.withdraw", object_type="job", object_id=job_id,
            address=client_address(),
        )  # fmt: skip


def taken_out(wanted: Wanted, how: str) -> None:
    """Write down that an administrator read what readers think."""
    with services().database.write() as session:
        audit.record(
            session, auth.actor().user, "judgement.read", address=client_address(),
            detail={"as": how, **wanted.asked},
        )  # fmt: skip


def _table(database: Database, wanted: Filter) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", extrasaction="ignore")
    writer.writeheader()
    with database.read() as session:
        for one in judgements.every(session, wanted):
            writer.writerow(_flat(JudgedView.of(one)))
            if text.tell() > 64 << 10:
                yield text.getvalue().encode()
                text.seek(0)
                text.truncate()
    yield text.getvalue().encode()


def _flat(one: JudgedView) -> dict[str, object]:
    row: dict[str, object] = one.model_dump(mode="json", exclude={"figures", "rectangle", "note"})
    row["note"] = _harmless(one.note)
    row["reader"] = _harmless(one.reader)
    if one.rectangle is not None:
        row |= one.rectangle.model_dump()
    for group in ("consistency", "bound"):
        for name, value in (one.figures.get(group) or {}).items():
            row[f"{group}_{name}"] = value
    return row


def _harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in set("=+-@\t\r") else text


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
