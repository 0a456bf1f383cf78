"""Links to a result for colleagues inside the hospital: they end by themselves, and who follows one logs in.

The address holds a random token, the row its SHA-256, so that nobody who reads the database can follow it.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import results
from db.desk import ShareLink
from db.models import Job, Result
from db.states import JobState
from db.types import utcnow

_TOKEN_BYTES = 24
LONGEST_TOKEN = 128


class NotShared(Exception):
    """The job has no result that a link could lead to; a sentence for people."""


class Standing(StrEnum):
    """What a link is worth now."""

    OPEN = "open"
    EXPIRED = "expired"
    REVOKED = "revoked"
    GONE = "gone"
    """The result was taken back, or retention has taken it."""


def create(session: Session, job: Job, *, user_id: int, life: timedelta) -> tuple[str, ShareLink]:
    """A new link to a job's result: its token, told this once, and its row. Raises :class:`NotShared`."""
    session.flush()
    if job.state == JobState.RETRACTED or results.kept(session, job) is None:
        raise NotShared("There is no result to share.")
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    link = ShareLink(
        job_id=job.id, token_sha256=_digest(token), created_by=user_id, expires_at=utcnow() + life
    )
    session.add(link)
    session.flush()
    return token, link


def find(session: Session, token: str) -> ShareLink | None:
    """The link of a token, whatever it is worth."""
    if not 0 < len(token) <= LONGEST_TOKEN:
        return None
    return session.scalar(select(ShareLink).where(ShareLink.token_sha256 == _digest(token)))


def standing(session: Session, link: ShareLink) -> Standing:
    """What a link is worth now."""
    if link.revoked_at is not None:
        return Standing.REVOKED
    if link.expires_at <= utcnow():
        return Standing.EXPIRED
    job = session.get_one(Job, link.job_id)
    result = session.get(Result, job.result_id) if job.result_id is not None else None
    if job.state == JobState.RETRACTED or result is None or result.deleted_at is not None:
        return Standing.GONE
    return Standing.OPEN


def of_job(session: Session, job_id: int, *, user_id: int | None = None) -> list[ShareLink]:
    """The links to a job that can still be followed, newest first; of one person, or of all."""
    query = select(ShareLink).where(ShareLink.job_id == job_id, ShareLink.revoked_at.is_(None))
    query = query.where(ShareLink.expires_at > utcnow())
    if user_id is not None:
        query = query.where(ShareLink.created_by == user_id)
    return list(session.scalars(query.order_by(ShareLink.id.desc())))


def get(session: Session, link_id: int) -> ShareLink | None:
    """A link by its number."""
    return session.get(ShareLink, link_id)


def revoke(link: ShareLink) -> None:
    """End a link now; one that has ended stays as it is."""
    link.revoked_at = link.revoked_at or utcnow()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
