"""Links to a result for colleagues: made, listed and ended by those who share, followed after a login."""

from __future__ import annotations

from datetime import datetime, timedelta

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from db import audit, queue, shares
from db.desk import ShareLink
from webui import auth
from webui.api.jobs import find
from webui.api.operations import answer, operation, read_body
from webui.errors import Conflict, Invalid, NotFound
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("shares", __name__)


class NewShare(BaseModel):
    model_config = ConfigDict(extra="forbid")

    days: float | None = Field(
        None, gt=0, le=3650, description="Until it ends; left out: as long as `web.share_days` allows."
    )


class ShareView(BaseModel):
    id: int
    job_id: int
    created_at: datetime
    expires_at: datetime
    mine: bool = Field(description="Whether the one who asks has made it.")

    @classmethod
    def of(cls, link: ShareLink) -> ShareView:
        return cls(
            id=link.id,
            job_id=link.job_id,
            created_at=link.created_at,
            expires_at=link.expires_at,
            mine=link.created_by == auth.actor().user_id,
        )


class NewShareView(ShareView):
    url: str = Field(description="The address; it is told this once.")


class Shares(BaseModel):
    shares: list[ShareView]


@blueprint.post("/jobs/<int:job_id>/share")
@auth.role("radiologist")
@operation(
    "Share a result by a link", tag="shares", body=NewShare, answers={201: NewShareView}, problems=(409,)
)
def create(job_id: int) -> Response:
    """Whoever follows the link must log in. 409 where there is no result."""
    return answer(made(job_id, read_body(NewShare)), 201)


@blueprint.get("/jobs/<int:job_id>/shares")
@auth.role("radiologist")
@operation("Open links to a result", tag="shares", answers={200: Shares})
def listing(job_id: int) -> Response:
    """One's own; an administrator sees everybody's."""
    with services().database.read() as session:
        find(session, job_id)
        return answer(Shares(shares=[ShareView.of(link) for link in visible(session, job_id)]))


@blueprint.post("/shares/<int:share_id>/revoke")
@auth.role("radiologist")
@operation("End a link", tag="shares", answers={200: ShareView})
def revoke(share_id: int) -> Response:
    """One's own; an administrator ends anybody's."""
    return answer(ended(share_id))


def made(job_id: int, wanted: NewShare) -> NewShareView:
    """A new link. Raises 404, 409, 422."""
    here, who = services(), auth.actor()
    most = here.settings.web.share_days
    days = most if wanted.days is None else wanted.days
    if days > most:
        raise Invalid(
            f"A link lasts {most:g} days at most.", errors=[{"field": "days", "message": f"at most {most:g}"}]
        )
    with here.database.write() as session:
        job = queue.get(session, job_id, lock=True) if 0 < job_id < 1 << 63 else None
        if job is None:
            raise NotFound("There is no such job.")
        try:
            token, link = shares.create(session, job, user_id=who.user_id, life=timedelta(days=days))
        except shares.NotShared as refusal:
            raise Conflict(str(refusal), kind="no-result") from None
        audit.record(
            session, who.user, "share.create", object_type="job", object_id=job_id,
            address=client_address(), detail={"share": link.id, "days": days},
        )  # fmt: skip
        base = (here.settings.web.public_url or request.url_root).rstrip("/")
        return NewShareView(**ShareView.of(link).model_dump(), url=f"{base}/s/{token}")


def visible(session: Session, job_id: int) -> list[ShareLink]:
    """The open links to a job that the actor may see and end."""
    who = auth.actor()
    return shares.of_job(session, job_id, user_id=None if who.may("admin") else who.user_id)


def ended(share_id: int) -> ShareView:
    """End a link. Raises 404, also for another person's."""
    who = auth.actor()
    with services().database.write() as session:
        link = shares.get(session, share_id) if share_id < 1 << 63 else None
        if link is None or not (link.created_by == who.user_id or who.may("admin")):
            raise NotFound("There is no such link of yours.")
        shares.revoke(link)
        audit.record(
            session, who.user, "share.revoke", object_type="job", object_id=link.job_id,
            address=client_address(), detail={"share": link.id},
        )  # fmt: skip
        return ShareView.of(link)
