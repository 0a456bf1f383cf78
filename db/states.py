"""States of jobs and deliveries, and the only transitions that are legal."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"
    DELIVERING = "delivering"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    RETRACTED = "retracted"


class DeliveryState(StrEnum):
    WAITING = "waiting"
    SENDING = "sending"
    STORED = "stored"
    COMMITTED = "committed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Priority(IntEnum):
    """Order of processing; smaller goes first."""

    STAT = 0
    ROUTINE = 10
    BULK = 20


class Purpose(StrEnum):
    CLINICAL = "clinical"
    SHADOW = "shadow"
    MANUAL = "manual"


class Relation(StrEnum):
    """What a source is to an earlier one with the same SOP Instance UID."""

    ORIGINAL = "original"
    RESEND = "resend"
    AMENDMENT = "amendment"
    CONFLICT = "conflict"


J = JobState
JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    # running -> queued: a retry, or a lease that ran out; done -> delivering: sent once more or elsewhere;
    # cancelled -> held: a retry of a result that nobody has released yet
    J.QUEUED: frozenset({J.RUNNING, J.CANCELLED}),
    J.RUNNING: frozenset({J.QUEUED, J.HELD, J.DELIVERING, J.DONE, J.FAILED, J.SKIPPED, J.CANCELLED}),
    J.HELD: frozenset({J.DELIVERING, J.DONE, J.CANCELLED, J.RETRACTED}),
    J.DELIVERING: frozenset({J.DONE, J.FAILED, J.CANCELLED, J.RETRACTED}),
    J.DONE: frozenset({J.DELIVERING, J.RETRACTED}),
    J.FAILED: frozenset({J.QUEUED, J.DELIVERING, J.CANCELLED, J.RETRACTED}),
    J.SKIPPED: frozenset({J.QUEUED}),
    J.CANCELLED: frozenset({J.QUEUED, J.HELD, J.DELIVERING, J.RETRACTED}),
    J.RETRACTED: frozenset(),
}

D = DeliveryState
DELIVERY_TRANSITIONS: dict[DeliveryState, frozenset[DeliveryState]] = {
    D.WAITING: frozenset({D.SENDING, D.EXPIRED, D.CANCELLED, D.COMMITTED}),
    D.SENDING: frozenset({D.WAITING, D.STORED, D.FAILED, D.CANCELLED, D.EXPIRED}),
    # stored -> waiting: commitment was refused, it is sent again (or failed, when nobody wants it there any
    # more, or after too many times); cancelled -> stored: it was on its way and has arrived;
    # waiting, failed, expired -> committed: it was given up or to be sent again, and the promise came late
    D.STORED: frozenset({D.COMMITTED, D.WAITING, D.FAILED}),
    D.COMMITTED: frozenset(),
    D.FAILED: frozenset({D.WAITING, D.COMMITTED}),
    D.EXPIRED: frozenset({D.WAITING, D.COMMITTED}),
    D.CANCELLED: frozenset({D.WAITING, D.STORED}),
}

JOB_FINISHED = frozenset({J.DONE, J.FAILED, J.SKIPPED, J.CANCELLED, J.RETRACTED})
"""States in which nothing more happens by itself."""

DELIVERY_OPEN = frozenset({D.WAITING, D.SENDING})
"""Deliveries that still have to arrive."""

DELIVERY_ARRIVED = frozenset({D.STORED, D.COMMITTED})


class IllegalTransition(Exception):
    """The state does not allow what was asked; the message is for whoever asked."""

    def __init__(self, what: str, before: StrEnum, after: StrEnum, why: str = "") -> None:
        super().__init__(
            f"{what} is {before.value} and cannot become {after.value}" + (f": {why}" if why else "")
        )
        self.before, self.after = before, after


class NotNow(IllegalTransition):
    """The state does not allow a change that leads to no other state."""

    def __init__(self, what: str, before: StrEnum, why: str) -> None:
        Exception.__init__(self, f"{what} is {before.value}: {why}")
        self.before = self.after = before


def check_job(before: JobState, after: JobState) -> None:
    """Raise :class:`IllegalTransition` unless a job may go from `before` to `after`."""
    if after not in JOB_TRANSITIONS[before]:
        raise IllegalTransition("the job", before, after)


def check_delivery(before: DeliveryState, after: DeliveryState) -> None:
    """Raise :class:`IllegalTransition` unless a delivery may go from `before` to `after`."""
    if after not in DELIVERY_TRANSITIONS[before]:
        raise IllegalTransition("the delivery", before, after)
