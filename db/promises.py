"""What a destination's promise to keep an object, or its refusal, does to the delivery and its job."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from db import deliveries
from db.models import Delivery
from db.states import (
    DELIVERY_ARRIVED,
    DELIVERY_OPEN,
    DeliveryState,
    IllegalTransition,
    JobState,
    check_delivery,
)
from db.transitions import move_delivery, move_job
from db.types import utcnow


def committed(session: Session, delivery_id: int, *, actor: str) -> Delivery:
    """The destination promised to keep the object; the job may be done already. Raises IllegalTransition.

    A promise that comes late, when the delivery had been given up, is a promise all the same.
    """
    delivery = deliveries.lock(session, delivery_id)
    job = delivery.job
    if delivery.stored_at is None:
        raise IllegalTransition(
            "the delivery", delivery.state, DeliveryState.COMMITTED, "it never arrived there"
        )
    move_delivery(session, delivery, DeliveryState.COMMITTED, status_code=delivery.status_code, actor=actor)
    delivery.committed_at = utcnow()
    session.flush()
    arrived = all(one.state in DELIVERY_ARRIVED for one in deliveries.of_job(session, job))
    if job.state == JobState.FAILED and job.reason_code == deliveries.UNDELIVERED and arrived:
        move_job(session, job, JobState.DELIVERING, actor=actor)
    deliveries.settle(session, job, actor=actor)
    return delivery


def not_committed(
    session: Session, delivery_id: int, comment: str, *, pause: timedelta = timedelta(0), actor: str
) -> Delivery:
    """The destination does not have what it said it had: the object is sent once more, after `pause`.

    Where the job was cancelled or retracted meanwhile it is left at that: there is nothing to take back.
    Raises IllegalTransition.
    """
    delivery = deliveries.lock(session, delivery_id)
    job = delivery.job
    if job.state in {JobState.CANCELLED, JobState.RETRACTED}:
        move_delivery(session, delivery, DeliveryState.FAILED, comment=comment, actor=actor)
        for note in deliveries.of_job(session, job):
            same = note.what == "note" and note.destination_name == delivery.destination_name
            if same and note.state in DELIVERY_OPEN:
                move_delivery(session, note, DeliveryState.CANCELLED, comment=comment, actor=actor)
        return delivery
    check_delivery(delivery.state, DeliveryState.WAITING)
    deliveries.renew(delivery)
    delivery.not_before = utcnow() + pause
    move_delivery(session, delivery, DeliveryState.WAITING, comment=comment, actor=actor)
    if job.state != JobState.DELIVERING:
        move_job(session, job, JobState.DELIVERING, actor=actor)
    return delivery


def unconfirmed(session: Session, delivery_id: int, comment: str, *, actor: str) -> Delivery:
    """The destination said that it has the object and does not promise to keep it: nothing more is tried,
    and its job says so. Raises IllegalTransition."""
    delivery = deliveries.lock(session, delivery_id)
    job = delivery.job
    move_delivery(session, delivery, DeliveryState.FAILED, comment=comment, actor=actor)
    if job.state == JobState.DONE or (
        job.state == JobState.FAILED and job.reason_code == deliveries.UNDELIVERED
    ):
        move_job(session, job, JobState.DELIVERING, actor=actor)
    deliveries.settle(session, job, actor=actor)
    return delivery
