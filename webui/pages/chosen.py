"""Jobs chosen in the queue, or all that its filter finds: taken home in one archive, or sent on.

Their numbers, or the filter, come in a body.
"""

from __future__ import annotations

from flask import Blueprint, Response, abort, render_template, request
from flask_babel import gettext as _
from pydantic import ValidationError

from db import browse
from db.sending import SENDABLE
from webui import auth, trail
from webui.api import results as api
from webui.api.operations import validated
from webui.errors import Invalid
from webui.pages.queue import Wish
from webui.services import services


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/chosen/results.zip", view_func=chosen_zip, methods=["POST"])
    blueprint.add_url_rule("/chosen/send", view_func=chosen_send, methods=["POST"])


@auth.role("radiologist")
def chosen_zip() -> Response:
    """The archive."""
    wanted = {"jobs": _numbers()}
    kinds = request.form.getlist("kind")
    return api.zipped(validated(api.Bundle, wanted | ({"kind": kinds} if kinds else {})))


@auth.role("radiologist")
def chosen_send() -> str:
    """First which destinations, then what became of it."""
    numbers = _numbers()
    done = None
    error = ""
    if "destination" in request.form:
        done = api.send_many(
            validated(api.SendMany, {"jobs": numbers, "destination": request.form.getlist("destination")})
        )
    elif "confirm" in request.form:
        error = _("Choose a destination.")
    with services().database.read() as session:
        found = api.chosen_jobs(session, numbers)
        ready = [job.id for job in found if job.state in SENDABLE and api.has_result(job)]
    return render_template(
        "send.html",
        numbers=numbers,
        ready=len(ready),
        destinations=services().settings.destinations,
        done=done,
        error=error,
    )


def _numbers() -> list[int]:
    """The jobs that were chosen. Raises 422 for none, too many, or what is no number."""
    given = _matching() if request.form.get("all") else request.form.getlist("job")
    if not given:
        raise Invalid(_("Choose some jobs first."))
    if len(given) > api.MANY:
        raise Invalid(_("At most %(number)s jobs at once.", number=api.MANY))
    return validated(api.Numbers, {"jobs": given}).jobs


def _matching() -> list[int]:
    """The jobs that the queue's filter finds, at most one more than are taken at once."""
    try:
        asked = Wish.of(request.form).search()
    except ValidationError:
        abort(400)
    trail.searched("jobs.search", {"text": asked.text})
    with services().database.read() as session:
        return browse.ids(session, states=asked.state, search=asked.conditions(), limit=api.MANY + 1)
