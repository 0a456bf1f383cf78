"""Sending a result where no rule sent it, because a person said so."""

from __future__ import annotations

from sqlalchemy.orm import Session

from db import deliveries, picks, results
from db.deliveries import Address
from db.models import Job
from db.states import DELIVERY_ARRIVED, DELIVERY_OPEN, DeliveryState, IllegalTransition, JobState
from db.transitions import move_delivery, move_job

SENDABLE = frozenset({JobState.DONE, JobState.DELIVERING, JobState.FAILED})
"""States of a job whose result nobody has to release first, and that was not turned down."""


def send(session: Session, job: Job, address: Address, *, actor: str) -> None:
    """Send a result to one more destination, or once more to one that it did not reach.

    Raises :class:`IllegalTransition`, also where it is there already, :class:`db.picks.NotPicked`.
    """
    session.flush()
    session.refresh(job, with_for_update={"key_share": True})
    if job.state not in SENDABLE:
        held = job.state == JobState.HELD
        raise _refused(job, "it waits for release" if held else "only a finished result is sent elsewhere")
    if results.kept(session, job) is None:
        raise _refused(job, "it has no result any more")
    known = {one.destination_name: one for one in deliveries.of_job(session, job) if one.what == "result"}
    before = known.get(address.name)
    if before is None:
        deliveries.add(session, job, address)
    elif before.state in DELIVERY_ARRIVED:
        raise _refused(job, f"{address.name} has it already")
    elif before.state in DELIVERY_OPEN:
        raise _refused(job, f"it is on its way to {address.name} already")
    else:
        picks.check(job.source, {**address.settings, "name": address.name})
        before.destination = address.settings
        deliveries.renew(before)
        move_delivery(session, before, DeliveryState.WAITING, actor=actor)
    if job.state != JobState.DELIVERING:
        move_job(session, job, JobState.DELIVERING, actor=actor)


def _refused(job: Job, why: str) -> IllegalTransition:
    return IllegalTransition("the job", job.state, JobState.DELIVERING, why)
