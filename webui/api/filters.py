"""Which jobs are meant: the filters that the list, the search, the bulk changes and the queue page share."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from db import browse
from db.browse import Cursor, Sort
from db.states import JobState, Priority
from webui.api.models import PriorityName
from webui.api.values import Day

Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=324)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=64)]


class Filters(BaseModel):
    """What is asked of a job beside its state; all that are given must fit. Holds no patient data."""

    model_config = ConfigDict(extra="forbid")

    rule: Name = Field("", description="The rule that decided about it.")
    destination: Name = Field("", description="Something of it goes there.")
    model: Name = Field("", description="The model's name.")
    priority: PriorityName | None = None
    origin: Name = Field("", description="`dimse`, `upload`, `stow`, `fetch` or `demo`.")
    received_from: Day | None = Field(None, description="The first day, in UTC.")
    received_to: Day | None = Field(None, description="The last day, in UTC.")
    batch: int | None = Field(None, ge=1, lt=1 << 63)

    def conditions(self, **more: Any) -> browse.Search:
        """The same for the database."""
        return browse.Search(
            rule=self.rule,
            destination=self.destination,
            model=self.model,
            priority=None if self.priority is None else Priority[self.priority.upper()],
            origin_kind=self.origin,
            received_from=_midnight(self.received_from) if self.received_from else None,
            received_to=_midnight(self.received_to) + timedelta(days=1) if self.received_to else None,
            batch_id=self.batch,
            **more,
        )


class Paged(BaseModel):
    """Where in a list one is, and in which order it goes."""

    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = Field(None, description="`next` of the page before.")
    sort: Sort = Field(Sort.NEWEST, description="`priority` is the order of processing.")

    @field_validator("cursor", mode="before")
    @classmethod
    def _known(cls, value: Any) -> str | None:
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise ValueError("must be `next` of the page before")
        return str(Cursor.parse(value))

    @property
    def after(self) -> Cursor | None:
        return Cursor.parse(self.cursor) if self.cursor else None


class ListQuery(Filters, Paged):
    state: str | None = Field(None, description="One state or several with commas between them.")

    @field_validator("state")
    @classmethod
    def _names(cls, value: str | None) -> str | None:
        for name in filter(None, (value or "").split(",")):
            if name not in set(JobState):
                raise ValueError(f"expected {', '.join(JobState)}")
        return value or None

    @property
    def states(self) -> list[JobState] | None:
        return [JobState(name) for name in self.state.split(",") if name] if self.state else None


class Wanted(Filters):
    """Filters with those that may name a patient: only ever in a body."""

    patient: Text = Field("", description="Beginnings of words of the patient's name, or the whole ID.")
    text: Text = Field(
        "",
        description="Beginnings of words of the name; or wholly a patient's ID, accession number or UID.",
    )
    accession: Text = ""
    uid: Text = Field("", description="Study, series or instance UID, of source or result.")
    study_from: Day | None = None
    study_to: Day | None = None
    state: list[JobState] | None = None

    def conditions(self, **more: Any) -> browse.Search:
        """The same for the database."""
        return super().conditions(
            text=self.text,
            patient=self.patient,
            accession_number=self.accession,
            uid=self.uid,
            study_date_from=f"{self.study_from:%Y%m%d}" if self.study_from else "",
            study_date_to=f"{self.study_to:%Y%m%d}" if self.study_to else "",
            **more,
        )

    @property
    def asked(self) -> dict[str, str]:
        """What was searched for, in words."""
        others = {"limit", "cursor", "sort", "state"}
        said = self.model_dump(mode="json", exclude=others, exclude_none=True)
        return {name: str(value) for name, value in said.items() if value}


class Search(Wanted, Paged):
    """All that are given must fit."""


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
