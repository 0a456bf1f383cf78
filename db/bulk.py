"""The same change to many jobs: a few in each transaction, so that nobody waits long for the write lock.

A job whose state does not allow the change stays as it is and the others go on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy.orm import Session

from db import audit, browse, queue
from db.browse import Cursor, Search
from db.engine import Database
from db.models import Job
from db.states import IllegalTransition, JobState, Priority

MOST = 500
"""Jobs that are changed at one request."""
_AT_ONCE = 25
"""Jobs that are changed in one transaction."""


class Action(StrEnum):
    """What can be done to many jobs."""

    RETRY = "retry"
    CANCEL = "cancel"
    PRIORITY = "priority"


STATES: dict[Action, tuple[JobState, ...]] = {
    Action.RETRY: (JobState.FAILED, JobState.SKIPPED, JobState.CANCELLED),
    Action.CANCEL: (
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.HELD,
        JobState.DELIVERING,
        JobState.FAILED,
    ),
    Action.PRIORITY: (JobState.QUEUED, JobState.RUNNING, JobState.HELD, JobState.DELIVERING),
}
"""The states in which each is of use; of the jobs that match a filter only these are taken."""


@dataclass(frozen=True)
class Refusal:
    """A job that was not changed, and why."""

    id: int
    reason: str


@dataclass
class Outcome:
    """What became of the jobs."""

    done: list[int] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    next_cursor: Cursor | None = None
    """Where to go on: more jobs match the filter."""


def change(
    database: Database,
    action: Action,
    numbers: Sequence[int],
    *,
    actor: str,
    address: str | None = None,
    priority: Priority | None = None,
) -> Outcome:
    """Change these jobs, at most :data:`MOST`, each with its entry in the audit trail.

    priority: for :attr:`Action.PRIORITY`.
    """
    outcome = Outcome()
    wanted = sorted(set(numbers))[:MOST]
    for part in _parts(wanted):
        with database.write() as session:
            for number in part:
                job = queue.get(session, number, lock=True) if 0 < number < 1 << 63 else None
                why = "there is no such job" if job is None else _one(session, action, job, priority, actor)
                if why is not None:
                    outcome.refused.append(Refusal(number, why))
                    continue
                outcome.done.append(number)
                audit.record(
                    session, actor, f"job.{action}", object_type="job", object_id=number, address=address
                )
    return outcome


def change_matching(
    database: Database,
    action: Action,
    *,
    states: Collection[JobState] | None = None,
    search: Search | None = None,
    after: Cursor | None = None,
    actor: str,
    address: str | None = None,
    priority: Priority | None = None,
) -> Outcome:
    """Change the jobs that match, newest first from the cursor on; with `next_cursor` there are more."""
    wanted = [state for state in STATES[action] if states is None or state in states]
    with database.read() as session:
        found = browse.ids(session, states=wanted, search=search, after=after, limit=MOST + 1)
    outcome = change(database, action, found[:MOST], actor=actor, address=address, priority=priority)
    if len(found) > MOST:
        outcome.next_cursor = Cursor(found[MOST - 1])
    return outcome


def _one(session: Session, action: Action, job: Job, priority: Priority | None, actor: str) -> str | None:
    """Why the job was left as it is; None when it was changed."""
    try:
        with session.begin_nested():
            if action is Action.RETRY:
                queue.retry(session, job, actor=actor)
            elif action is Action.CANCEL:
                queue.cancel(session, job, actor=actor)
            else:
                assert priority is not None
                queue.reprioritise(session, job, priority, actor=actor)
    except IllegalTransition as error:
        return str(error)
    return None


def _parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for begin in range(0, len(numbers), _AT_ONCE):
        yield numbers[begin : begin + _AT_ONCE]
