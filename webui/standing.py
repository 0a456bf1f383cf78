"""Why something is not in the PACS: where an object stands, in one sentence.

The sentence is for people in a hurry: what it waits for, since when, and what somebody has said of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from flask_babel import gettext as _
from flask_babel import ngettext
from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session

from db import browse, dashboard, pauses, presence
from db.models import Delivery, Job, JobEvent, PeerStatus
from db.states import DeliveryState, JobState, Relation
from db.types import utcnow
from webui import trail
from webui.pages.words import moment, number
from webui.services import Services

SHOWN = 10
"""Objects that an answer shows; the queue has the others."""


@dataclass(frozen=True)
class Surroundings:
    """What holds for all objects at this moment."""

    paused: dict[str, datetime] = field(default_factory=dict)
    """Since when something stands still, by the words of :mod:`db.pauses`."""
    peers: dict[str, PeerStatus] = field(default_factory=dict)
    roles: frozenset[str] = frozenset()
    """Those of which a process is alive."""
    now: datetime = field(default_factory=utcnow)


@dataclass(frozen=True)
class Object:
    """One object, and where it stands."""

    job: Job
    sentence: Markup


@dataclass(frozen=True)
class Answer:
    """What was asked, and the objects that it is about, newest first."""

    text: str
    objects: list[Object]
    more: bool
    unexamined: int
    """Received objects of which nobody knows yet whose they are, :data:`db.dashboard.MANY` at most."""


def answer(here: Services, text: str) -> Answer:
    """Why what the text is about is not in the PACS: name or ID of a patient, accession number, or a UID."""
    trail.searched("jobs.search", {"text": text})
    with here.database.read() as session:
        found = browse.jobs(session, limit=SHOWN, search=browse.Search(text=text.replace(", ", "^")))
        around = surroundings(session)
        return Answer(
            text,
            [Object(job, sentence(session, job, around)) for job in found.jobs],
            found.next_cursor is not None,
            dashboard.unexamined(session),
        )


def surroundings(session: Session) -> Surroundings:
    """Read them."""
    return Surroundings(
        paused={pause.what: pause.at for pause in pauses.all_pauses(session)},
        peers={peer.name: peer for peer in session.scalars(select(PeerStatus))},
        roles=frozenset(row.role for row in presence.alive(session)),
    )


def sentence(session: Session, job: Job, around: Surroundings) -> Markup:
    """Where the object of a job stands; source and deliveries are loaded with it."""
    match job.state:
        case JobState.QUEUED:
            return _queued(session, job, around)
        case JobState.RUNNING:
            since = moment(job.started_at or job.created_at)
            return _say(_("A worker has been at it since %(since)s."), since=since)
        case JobState.HELD:
            made = moment(job.result.created_at if job.result else job.updated_at)
            return _say(_("Enhanced at %(at)s; it waits for a person to release it."), at=made)
        case JobState.DELIVERING:
            return _all(_delivery(one, around) for one in _wanted(job))
        case JobState.DONE:
            if not job.deliveries:
                return _say(_("Done; no rule and no person sends it anywhere."))
            return _all(_delivery(one, around) for one in _wanted(job))
        case JobState.FAILED:
            return _failed(job, around)
        case JobState.SKIPPED:
            return _skipped(job)
        case JobState.CANCELLED:
            who = _last_actor(session, job)
            if who:
                return _say(_("Cancelled by %(who)s."), who=who)
            return _say(_("Cancelled on request."))
        case JobState.RETRACTED:
            return _say(_("The result was taken back: %(why)s"), why=_ended(job.reason))


def _queued(session: Session, job: Job, around: Surroundings) -> Markup:
    if pauses.PROCESSING in around.paused:
        since = moment(around.paused[pauses.PROCESSING])
        return _say(_("It waits: processing has been paused since %(since)s."), since=since)
    if job.not_before > around.now:
        return _say(
            _("It is tried again at %(at)s, after attempt %(attempts)s: %(why)s"),
            at=moment(job.not_before),
            attempts=number(job.attempts),
            why=_ended(job.reason),
        )
    if "worker" not in around.roles:
        return _say(_("It waits for a worker, and none is running."))
    before = dashboard.before_in_queue(session, job)
    if before == 0:
        return _say(_("It waits for a worker and is the next."))
    words = ngettext(
        "It waits for a worker; one other is before it.",
        "It waits for a worker; %(num)s others are before it.",
        before,
    )
    return _say(words)


def _failed(job: Job, around: Surroundings) -> Markup:
    lost = [one for one in _wanted(job) if one.state in {DeliveryState.FAILED, DeliveryState.EXPIRED}]
    if job.reason_code == "delivery" and lost:
        return _all(_delivery(one, around) for one in _wanted(job))
    return _say(_("Failed after %(attempts)s: %(why)s"), attempts=_attempts(job), why=_ended(job.reason))


def _attempts(of: Job | Delivery) -> str:
    return ngettext("one attempt", "%(num)s attempts", of.attempts)


def _skipped(job: Job) -> Markup:
    why = _ended(job.reason)
    if job.reason_code == "rule" or (job.rule and job.source.relation != Relation.RESEND):
        return _say(_("Not enhanced, by the rule “%(rule)s”: %(why)s"), rule=job.rule or "", why=why)
    return _say(_("Not enhanced: %(why)s"), why=why)


def _wanted(job: Job) -> list[Delivery]:
    """Deliveries of the result, then of the original; notes are about what is taken back."""
    return [one for what in ("result", "original") for one in job.deliveries if one.what == what]


def _delivery(delivery: Delivery, around: Surroundings) -> Markup:
    """A clause about one delivery, without a full stop."""
    where = delivery.destination_name
    thing = _("Original") if delivery.what == "original" else _("Result")
    match delivery.state:
        case DeliveryState.COMMITTED:
            at = moment(delivery.committed_at or delivery.updated_at)
            return _say(_("%(thing)s in %(where)s, which has promised to keep it since %(at)s"), thing=thing,
                        where=where, at=at)  # fmt: skip
        case DeliveryState.STORED:
            at = moment(delivery.stored_at or delivery.updated_at)
            if delivery.commitment:
                words = _("%(thing)s in %(where)s since %(at)s, its promise to keep it is awaited")
            else:
                words = _("%(thing)s in %(where)s since %(at)s")
            return _say(words, thing=thing, where=where, at=at)
        case DeliveryState.SENDING:
            return _say(_("%(thing)s on its way to %(where)s now"), thing=thing, where=where)
        case DeliveryState.WAITING:
            return _waiting(delivery, thing, around)
        case DeliveryState.FAILED:
            said = delivery.comment or _("no reason was given")
            return _say(
                _("%(thing)s refused by %(where)s: %(why)s"), thing=thing, where=where, why=_bare(said)
            )
        case DeliveryState.EXPIRED:
            said = delivery.comment or _("it did not answer")
            return _say(
                _("%(thing)s given up for %(where)s after %(attempts)s: %(why)s"), thing=thing,
                where=where, attempts=_attempts(delivery), why=_bare(said),
            )  # fmt: skip
        case DeliveryState.CANCELLED:
            return _say(_("%(thing)s not sent to %(where)s, the delivery was cancelled"), thing=thing,
                        where=where)  # fmt: skip


def _waiting(delivery: Delivery, thing: str, around: Surroundings) -> Markup:
    where = delivery.destination_name
    stands = around.paused.get(pauses.of_destination(where))
    if stands is not None:
        return _say(_("%(thing)s waits: delivery to %(where)s has been paused since %(since)s"), thing=thing,
                    where=where, since=moment(stands))  # fmt: skip
    peer = around.peers.get(where)
    if peer is not None and not peer.reachable:
        return _say(
            _("%(thing)s waits: %(where)s has been unreachable since %(since)s (%(why)s)"), thing=thing,
            where=where, since=moment(peer.changed_at or peer.checked_at),
            why=_bare(peer.message or _("no answer")),
        )  # fmt: skip
    if "sender" not in around.roles:
        return _say(
            _("%(thing)s waits to go to %(where)s, and no sender is running"), thing=thing, where=where
        )
    if delivery.not_before > around.now:
        return _say(
            _("%(thing)s is sent to %(where)s again at %(at)s, after attempt %(attempts)s: %(why)s"),
            thing=thing, where=where, at=moment(delivery.not_before), attempts=number(delivery.attempts),
            why=_bare(delivery.comment or _("no reason was given")),
        )  # fmt: skip
    return _say(_("%(thing)s waits to go to %(where)s"), thing=thing, where=where)


def _last_actor(session: Session, job: Job) -> str | None:
    query = select(JobEvent.actor).where(JobEvent.job_id == job.id, JobEvent.after == job.state.value)
    return session.scalar(query.order_by(JobEvent.id.desc()).limit(1))


def _say(words: str, **values: object) -> Markup:
    """Marked words with values put in; what is no markup is escaped."""
    return Markup(words) % values if values else Markup(words)  # noqa: S704 - words of ours


def _all(clauses: Iterable[Markup]) -> Markup:
    joined = Markup("; ").join(clauses)
    return joined + "." if joined else Markup(_("Nothing of it is sent anywhere."))  # noqa: S704 - words of ours


def _bare(text: str) -> str:
    return text.strip().rstrip(".")


def _ended(text: str | None) -> str:
    return f"{_bare(text)}." if text and _bare(text) else _("no reason was given.")
