"""How values are said on a page: names, dates, sizes, times, the words of a timeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from flask import Blueprint
from markupsafe import Markup

from db.models import JobEvent, Patient
from db.states import JOB_FINISHED, DeliveryState, JobState
from db.types import utcnow

TONES: dict[DeliveryState, JobState] = {
    DeliveryState.WAITING: JobState.QUEUED,
    DeliveryState.SENDING: JobState.DELIVERING,
    DeliveryState.STORED: JobState.DONE,
    DeliveryState.COMMITTED: JobState.DONE,
    DeliveryState.FAILED: JobState.FAILED,
    DeliveryState.EXPIRED: JobState.FAILED,
    DeliveryState.CANCELLED: JobState.CANCELLED,
}
"""A delivery's colour and sign: those of the job's state that means the same to a reader."""

_HAPPENED = {
    "resend": "came again",
    "examined": "examined",
    "cancel-requested": "cancel asked for",
    "amendment": "amended",
    "conflict": "conflict",
}
_SEX = {"M": "male", "F": "female", "O": "other"}


def register(blueprint: Blueprint) -> None:
    """Give the templates these words as filters."""
    for name, function in _FILTERS.items():
        blueprint.add_app_template_filter(function, name)


def person(name: str) -> str:
    """A DICOM person name as people write it: `DOE^JANE^^DR` becomes `DOE, JANE, DR`."""
    groups = [group for group in name.split("=") if group.strip("^ ")]
    parts = (groups[0] if groups else "").split("^")
    return ", ".join(part.strip() for part in parts if part.strip())


def identity(patient: Patient) -> Markup:
    """Patient ID, date of birth and sex in one line."""
    parts: list[str] = [patient.patient_id or "no ID"]
    if patient.birth_date:
        parts.append(Markup("born {}").format(dicom_date(patient.birth_date)))
    if patient.sex:
        parts.append(_SEX.get(patient.sex, patient.sex))
    return Markup(", ").join(parts)


def dicom_date(value: str) -> str:
    """`20260131` as a <time> that the browser writes in its locale; anything else as it is."""
    try:
        day = date(int(value[:4]), int(value[4:6]), int(value[6:8]))
    except ValueError:
        return value
    return Markup('<time datetime="{0}" data-form="day">{0}</time>').format(day.isoformat())


def moment(value: datetime, form: str = "stamp") -> Markup:
    """A <time>: `form` is `stamp`, `clock` or `ago`; the browser writes it in its locale and zone."""
    return Markup('<time datetime="{}" data-form="{}">{}</time>').format(
        value.isoformat(timespec="milliseconds"), form, value.strftime("%Y-%m-%d %H:%M UTC")
    )


def size(value: float) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    unit = units[0]
    return f"{value:.1f} {unit}" if value < 10 and unit != "B" else f"{value:.0f} {unit}"


def seconds(value: float) -> str:
    """A duration, short."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 90:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min"


def share(value: float) -> str:
    """A part of the grey range in per cent, with two figures that count."""
    return f"{100 * value:.2g} %"


def status(code: int) -> str:
    """The status of an answer: DIMSE in hexadecimal, HTTP as it is."""
    return str(code) if 100 <= code < 600 and code not in _DIMSE_BELOW_600 else f"0x{code:04X}"


_DIMSE_BELOW_600 = frozenset(range(0x0105, 0x0125)) | {0x0210, 0x0211, 0x0212, 0x0213}


def tone(state: DeliveryState) -> str:
    """The colour and sign of a delivery's state."""
    return TONES[state].value


def shown(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Facts of a process that are short enough for a line."""
    return [(key.replace("_", " "), str(value)) for key, value in info.items() if _short(value)]


def _short(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and 0 < len(str(value)) <= 48


@dataclass(frozen=True)
class Line:
    """One entry of a timeline."""

    at: datetime
    words: str
    tone: str
    message: str
    end: bool


def timeline(events: Iterable[JobEvent]) -> list[Line]:
    """What happened to a job, oldest first."""
    return [_line(event) for event in events]


def _line(event: JobEvent) -> Line:
    message = [event.message] if event.message else []
    if event.kind == "state" and event.after:
        words, colour, end = event.after, event.after, JobState(event.after) in JOB_FINISHED
        if event.before and event.after == JobState.QUEUED:
            words = "back in the queue"
    elif event.kind == "delivery" and event.after:
        words, colour, end = f"delivery {event.after}", tone(DeliveryState(event.after)), False
    else:
        words, colour, end = _HAPPENED.get(event.kind, event.kind.replace("-", " ")), "queued", False
    if event.actor:
        message.append(f"by {event.actor}")
    return Line(event.at, words, colour, " · ".join(message), end)


def age(value: datetime) -> float:
    """Seconds since a moment."""
    return (utcnow() - value).total_seconds()


_FILTERS: dict[str, Callable[..., Any]] = {
    "person": person,
    "identity": identity,
    "dicom_date": dicom_date,
    "moment": moment,
    "bytes": size,
    "seconds": seconds,
    "status": status,
    "tone": tone,
    "shown": shown,
}
