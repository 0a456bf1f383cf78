"""Addresses that want to hear when jobs end, and what is still to be said to each.

A call is a row before it is made, so none is forgotten; one that was made when its maker died is made again.
A receiver knows a repetition by the number of the event.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from db.desk import Webhook, WebhookCall
from db.engine import Database
from db.models import JobEvent
from db.states import JobState
from db.types import utcnow

STATES = (
    JobState.HELD,
    JobState.DONE,
    JobState.FAILED,
    JobState.SKIPPED,
    JobState.CANCELLED,
    JobState.RETRACTED,
)
"""States that can be told."""
TEST = "test"
"""What stands for the state in a call that only tries the address."""
LONGEST = timedelta(days=1)
"""A call that nobody took for so long is given up."""
MAX_WEBHOOKS = 32
SECRET_PREFIX = "whsec_"  # noqa: S105 - how a secret begins is none


class WebhookRefused(ValueError):
    """The name, the address or the states cannot be taken; `field` is which, the message says why."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def create(
    session: Session, name: str, url: str, states: Sequence[JobState], *, created_by: int | None
) -> Webhook:
    """A new address with a secret of its own. Raises :class:`WebhookRefused`."""
    name = name.strip()
    if not name or len(name) > 64 or not name.isprintable():
        raise WebhookRefused("name", "a webhook's name has 1 to 64 printable characters")
    unknown = set(states) - set(STATES)
    if unknown or not states:
        raise WebhookRefused("states", f"expected one or several of {', '.join(STATES)}")
    if (session.scalar(select(func.count(Webhook.id))) or 0) >= MAX_WEBHOOKS:
        raise WebhookRefused("name", f"there are {MAX_WEBHOOKS} webhooks already")
    if session.scalar(select(Webhook.id).where(Webhook.name == name)) is not None:
        raise WebhookRefused("name", f"there is a webhook {name!r} already")
    row = Webhook(
        name=name,
        url=checked(url),
        secret=SECRET_PREFIX + secrets.token_urlsafe(32),
        states=[state.value for state in STATES if state in states],
        created_by=created_by,
    )
    session.add(row)
    session.flush()
    return row


def checked(url: str) -> str:
    """An address that can be called: http or https, a host, no user and no fragment."""
    url = url.strip()
    if len(url) > 1024 or not url.isascii() or not url.isprintable() or " " in url:
        raise WebhookRefused("url", "the address has at most 1024 ASCII characters and no spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise WebhookRefused("url", "the address cannot be understood") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise WebhookRefused("url", "expected http://HOST/... or https://HOST/...")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise WebhookRefused("url", "the address must hold no user, no password and no #")
    return url


def listing(session: Session) -> list[Webhook]:
    """All addresses by name."""
    return list(session.scalars(select(Webhook).order_by(Webhook.name)))


def enable(webhook: Webhook) -> None:
    """Tell it again, of what happens from now on."""
    webhook.disabled_at = None


def disable(session: Session, webhook: Webhook) -> None:
    """Tell it nothing more; what waits is given up."""
    webhook.disabled_at = webhook.disabled_at or utcnow()
    waiting = (WebhookCall.webhook_id == webhook.id) & (WebhookCall.state == "waiting")
    _give_up(session, waiting, "the webhook was switched off")


def remove(session: Session, webhook: Webhook) -> None:
    """Forget an address and its calls."""
    session.execute(delete(WebhookCall).where(WebhookCall.webhook_id == webhook.id))
    session.delete(webhook)


def try_out(session: Session, webhook: Webhook) -> WebhookCall:
    """A call that tells of no job, to be made at once."""
    call = WebhookCall(webhook_id=webhook.id, job_state=TEST)
    session.add(call)
    session.flush()
    return call


def calls(
    session: Session, webhook_id: int, *, limit: int = 50, before: int | None = None
) -> list[WebhookCall]:
    """What was and is to be said to an address, newest first."""
    query = select(WebhookCall).where(WebhookCall.webhook_id == webhook_id)
    if before is not None:
        query = query.where(WebhookCall.id < before)
    return list(session.scalars(query.order_by(WebhookCall.id.desc()).limit(limit)))


def note(session: Session, events: Sequence[JobEvent]) -> int:
    """Make the calls that these events ask for; one that is there already is left alone. Returns how many."""
    told = [event for event in events if event.kind == "state" and event.after in STATES]
    hooks = list(session.scalars(select(Webhook).where(Webhook.disabled_at.is_(None)))) if told else []
    made = 0
    for hook in hooks:
        there = select(WebhookCall.event_id).where(
            WebhookCall.webhook_id == hook.id, WebhookCall.event_id.in_(event.id for event in told)
        )
        known = set(session.scalars(there))
        for event in told:
            if event.after in hook.states and event.at >= hook.created_at and event.id not in known:
                session.add(
                    WebhookCall(
                        webhook_id=hook.id, event_id=event.id, job_id=event.job_id, job_state=event.after
                    )
                )
                made += 1
    return made


def due(session: Session) -> list[int]:
    """The addresses that something is to be said to now."""
    query = select(WebhookCall.webhook_id).distinct().where(*_due())
    return sorted(session.scalars(query))


def next_due(session: Session, webhook_id: int) -> WebhookCall | None:
    """The oldest call to an address whose time has come."""
    query = select(WebhookCall).where(WebhookCall.webhook_id == webhook_id, *_due())
    return session.scalar(query.order_by(WebhookCall.id).limit(1))


def ended(session: Session, call_id: int, status: int) -> None:
    """The call was taken."""
    _change(session, call_id, state="done", status_code=status, message=None, ended_at=utcnow())


def put_off(session: Session, call: WebhookCall, then: datetime, status: int | None, why: str) -> None:
    """The call was not taken: try again at `then`, or never when that is too late.

    Without a status nobody was there at all: what else waits for that address is put off as well.
    """
    if then >= call.created_at + LONGEST:
        _change(session, call.id, state="failed", status_code=status, message=why, ended_at=utcnow())
    else:
        _change(session, call.id, not_before=then, status_code=status, message=why)
    if status is None:
        others = update(WebhookCall).where(
            WebhookCall.webhook_id == call.webhook_id,
            WebhookCall.state == "waiting",
            WebhookCall.not_before < then,
            WebhookCall.event_id.is_not(None),
        )
        session.execute(others.values(not_before=then))


def expire(database: Database) -> int:
    """Give up what has waited too long; returns how many calls."""
    old = (WebhookCall.state == "waiting") & (WebhookCall.created_at < utcnow() - LONGEST)
    with database.read() as session:
        if session.scalar(select(WebhookCall.id).where(old).limit(1)) is None:
            return 0
    with database.write() as session:
        return _give_up(session, old, None)


def _due() -> tuple[ColumnElement[bool], ...]:
    enabled = select(Webhook.id).where(Webhook.disabled_at.is_(None))
    return (
        WebhookCall.state == "waiting",
        WebhookCall.not_before <= utcnow(),
        WebhookCall.webhook_id.in_(enabled),
    )


def _change(session: Session, call_id: int, **values: object) -> None:
    """Note an attempt, unless the call has been ended or removed in the meantime."""
    call = update(WebhookCall).where(WebhookCall.id == call_id, WebhookCall.state == "waiting")
    session.execute(call.values(attempts=WebhookCall.attempts + 1, **values))


def _give_up(session: Session, which: ColumnElement[bool], why: str | None) -> int:
    values = {"state": "failed", "ended_at": utcnow()} | ({"message": why} if why else {})
    found = session.execute(update(WebhookCall).where(which).values(values))
    return int(found.rowcount)  # type: ignore[attr-defined]
