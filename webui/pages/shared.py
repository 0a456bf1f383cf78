"""Where a shared link leads: to the page of its job, after a login, as long as it is good for anything."""

from __future__ import annotations

from flask import Blueprint, redirect, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as AnyResponse

from db import audit, shares
from db.shares import Standing
from webui import auth
from webui.errors import ApiProblem
from webui.security import client_address
from webui.services import services


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/s/<token>", view_func=follow)


@auth.role("radiologist")
def follow(token: str) -> AnyResponse:
    """On to the job, or a page that says why not."""
    here = services()
    with here.database.read() as session:
        link = shares.find(session, token)
        standing = shares.standing(session, link) if link is not None else None
        job_id = link.job_id if link is not None else None
    with here.database.write() as session:
        audit.record(
            session,
            auth.actor().user,
            "share.follow",
            object_type="job" if job_id else None,
            object_id=job_id,
            address=client_address(),
            outcome="success" if standing == Standing.OPEN else "refused",
            detail={"share": link.id} if link is not None else {},
        )
    if standing is None:
        raise ApiProblem(_("This link leads nowhere. Was all of it copied?"), status=404, kind="no-share")
    if standing != Standing.OPEN:
        raise ApiProblem(_words(standing), status=410, kind="share-over")
    return redirect(url_for("pages.job", job_id=job_id), 303)


def _words(standing: Standing) -> str:
    return {
        Standing.EXPIRED: _("This link has expired. Ask whoever sent it for a new one."),
        Standing.REVOKED: _("This link was ended by whoever made it."),
    }.get(standing, _("The result that this link led to is no longer kept here."))
