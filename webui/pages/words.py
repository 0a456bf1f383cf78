"""How values are said on a page, in the reader's language: names, dates, sizes, times, states, a timeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from babel.dates import format_date, format_time
from babel.numbers import format_decimal
from flask import Blueprint
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from markupsafe import Markup

from db.models import JobEvent, Patient
from db.states import JOB_FINISHED, DeliveryState, JobState
from db.types import utcnow
from webui.language import locale

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

STATES = {
    "queued": lazy_gettext("queued"),
    "running": lazy_gettext("running"),
    "held": lazy_gettext("held"),
    "delivering": lazy_gettext("delivering"),
    "done": lazy_gettext("done"),
    "failed": lazy_gettext("failed"),
    "skipped": lazy_gettext("skipped"),
    "cancelled": lazy_gettext("cancelled"),
    "retracted": lazy_gettext("retracted"),
    # of deliveries
    "waiting": lazy_gettext("waiting"),
    "sending": lazy_gettext("sending"),
    "stored": lazy_gettext("stored"),
    "committed": lazy_gettext("committed"),
    "expired": lazy_gettext("expired"),
    # of batches and their studies
    "open": lazy_gettext("open"),
    "paused": lazy_gettext("paused"),
    "finished": lazy_gettext("finished"),
    "fetching": lazy_gettext("fetching"),
    "fetched": lazy_gettext("fetched"),
}
"""The words of states; in addresses, forms and the interface for programs they stay as they are."""

_HAPPENED = {
    "resend": lazy_gettext("came again"),
    "examined": lazy_gettext("examined"),
    "cancel-requested": lazy_gettext("cancel asked for"),
    "priority": lazy_gettext("priority changed"),
    "amendment": lazy_gettext("amended"),
    "conflict": lazy_gettext("conflict"),
    "purged-early": lazy_gettext("removed early"),
}
_SEX = {"M": lazy_gettext("male"), "F": lazy_gettext("female"), "O": lazy_gettext("other")}


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
    parts: list[str] = [patient.patient_id or _("no ID")]
    if patient.birth_date:
        parts.append(Markup("{} {}").format(_("born"), dicom_date(patient.birth_date)))
    if patient.sex:
        parts.append(str(_SEX.get(patient.sex, patient.sex)))
    return Markup(", ").join(parts)


def dicom_date(value: str) -> str:
    """`20260131` as a <time> that the browser writes in its locale; anything else as it is."""
    try:
        day = date(int(value[:4]), int(value[4:6]), int(value[6:8]))
    except ValueError:
        return value
    said = format_date(day, "medium", locale=locale())
    return Markup('<time datetime="{}" data-form="day">{}</time>').format(day.isoformat(), said)


def moment(value: datetime, form: str = "stamp") -> Markup:
    """A <time>: `form` is `stamp`, `second`, `clock` or `ago`; the browser writes it in its zone."""
    here, of_utc = locale(), value.astimezone(UTC)
    fine = "medium" if form == "second" else "short"
    said = f"{format_date(of_utc, 'medium', locale=here)}, {format_time(of_utc, fine, locale=here)} UTC"
    return Markup('<time datetime="{}" data-form="{}">{}</time>').format(
        value.isoformat(timespec="milliseconds"), form, said
    )


def size(value: float) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{number(value, 1 if value < 10 and units[0] != 'B' else 0)} {units[0]}"


def number(value: float, places: int = 0) -> str:
    """A number with that many places, in the reader's manner."""
    return format_decimal(value, f"#,##0.{'0' * places}".rstrip("."), locale=locale())


def seconds(value: float) -> str:
    """A duration, short."""
    if value < 1:
        return f"{number(value * 1000)} ms"
    if value < 90:
        return f"{number(value, 1 if value < 10 else 0)} s"
    return f"{number(value / 60)} min"


def share(value: float) -> str:
    """A part of the grey range in per cent, with two figures that count."""
    return f"{format_decimal(float(f'{100 * value:.2g}'), '0.######', locale=locale())} %"


def status(code: int) -> str:
    """The status of an answer: DIMSE in hexadecimal, HTTP as it is."""
    return str(code) if 100 <= code < 600 and code not in _DIMSE_BELOW_600 else f"0x{code:04X}"


_DIMSE_BELOW_600 = frozenset(range(0x0105, 0x0125)) | {0x0210, 0x0211, 0x0212, 0x0213}


def tone(state: DeliveryState) -> str:
    """The colour and sign of a delivery's state."""
    return TONES[state].value


def spoken(state: str) -> str:
    """The word of a state in the reader's language; any other text as it is."""
    return str(STATES.get(state, state))


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
        words, colour, end = spoken(event.after), event.after, JobState(event.after) in JOB_FINISHED
        if event.before and event.after == JobState.QUEUED:
            words = _("back in the queue")
    elif event.kind == "delivery" and event.after:
        words = _("delivery %(state)s", state=spoken(event.after))
        colour, end = tone(DeliveryState(event.after)), False
    else:
        words, colour, end = str(_HAPPENED.get(event.kind, event.kind.replace("-", " "))), "queued", False
    if event.actor:
        message.append(_("by %(name)s", name=event.actor))
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
    "number": number,
    "spoken": spoken,
    "status": status,
    "tone": tone,
    "shown": shown,
}
