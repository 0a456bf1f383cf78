"""The queue: what is on each stage, and the jobs, by pages, filters and searches; changes to many at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, abort, redirect, render_template, request, url_for
from flask_babel import gettext as _
from flask_babel import ngettext
from pydantic import ValidationError
from sqlalchemy import select
from werkzeug.wrappers import Response as AnyResponse

from db import browse, pauses
from db.browse import Cursor, Sort
from db.bulk import Outcome
from db.models import ModelVersion
from db.states import JobState
from webui import auth, trail
from webui.api import bulk
from webui.api import pauses as pauses_api
from webui.api.filters import Search, Wanted
from webui.errors import ApiProblem
from webui.services import services

PAGE = 50
ORIGINS = ("dimse", "upload", "stow", "fetch", "demo")
PRIORITIES = ("stat", "routine", "bulk")
_FIELDS = {
    "state": "state", "rule": "rule", "destination": "destination", "model": "model", "priority": "priority",
    "origin": "origin", "since": "received_from", "until": "received_to", "sort": "sort",
}  # fmt: skip
"""Names in addresses and forms, and in the interface for programs."""


@dataclass(frozen=True)
class Wish:
    """What the page is asked for. `text` is patient data: it comes in a body, never stands in an address."""

    text: str = ""
    state: str = ""
    rule: str = ""
    destination: str = ""
    model: str = ""
    priority: str = ""
    origin: str = ""
    since: str = ""
    until: str = ""
    sort: str = ""
    after: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str], **more: str) -> Wish:
        """From a form or an address."""
        said = {name: given.get(name, "").strip()[:128] for name in (*_FIELDS, "after")}
        return cls(**{**said, "text": given.get("q", "").strip()[:128], **more})

    @property
    def active(self) -> bool:
        """Whether it may name a patient: then it is asked for in a body."""
        return bool(self.text)

    @property
    def filtered(self) -> bool:
        """Whether anything narrows the list beside the state."""
        return any(getattr(self, f.name) for f in fields(self) if f.name not in {"state", "sort", "after"})

    @property
    def narrowed(self) -> int:
        """How many filters are set that the page folds away."""
        return sum(map(bool, (self.rule, self.destination, self.model, self.priority, self.origin)))

    def address(self, **other: str) -> str:
        """The page's address for this without its text, with `other` in place of its own."""
        said = {name: getattr(self, name) for name in (*_FIELDS, "after")} | other
        return url_for("pages.queue", **{name: value for name, value in said.items() if value})

    def hidden(self) -> list[tuple[str, str]]:
        """The same as fields of a form."""
        return [("q", self.text), *((name, getattr(self, name)) for name in (*_FIELDS, "after"))]

    def search(self) -> Search:
        """The same as a request of the interface for programs. Raises ValidationError."""
        said = {theirs: getattr(self, ours) for ours, theirs in _FIELDS.items() if getattr(self, ours)}
        said |= {"state": [self.state]} if self.state else {}
        text = self.text.replace(", ", "^")
        return Search.model_validate({**said, "text": text, "cursor": self.after or None, "limit": PAGE})

    def wanted(self) -> dict[str, Any]:
        """The filter alone, for a change of all that match."""
        return self.search().model_dump(include=set(Wanted.model_fields))


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/queue", view_func=queue)
    blueprint.add_url_rule("/queue", view_func=queue_post, methods=["POST"])
    blueprint.add_url_rule("/queue/bulk", view_func=change, methods=["POST"], endpoint="queue_bulk")
    blueprint.add_url_rule("/queue/pause", view_func=pause, methods=["POST"], endpoint="queue_pause")
    blueprint.add_url_rule(
        "/jobs/<int:job_id>/priority", view_func=priority, methods=["POST"], endpoint="queue_priority"
    )


@auth.role("radiologist")
def queue() -> str:
    """All jobs, or those that fit the filters."""
    return _page(Wish.of(request.args, text=""))


@auth.role("radiologist")
def queue_post() -> str | AnyResponse:
    """Jobs about a patient, an accession number or a UID. Without such a text the page has an address."""
    form = request.form
    wish = Wish.of(form)
    if "only" in form:  # another state: its first page
        wish = Wish.of(form, state=form["only"].strip()[:16], after="")
    elif "first" in form or "next" in form:
        wish = Wish.of(form, after=form.get("next", "")[:32])
    if not wish.active:
        _asked(wish)
        return redirect(wish.address(), 303)
    return _page(wish)


@auth.role("radiologist")
def change() -> str:
    """The chosen jobs, or all that match, tried again, cancelled or put before others."""
    form, wish = request.form, Wish.of(request.form)
    said: dict[str, Any] = {"action": form.get("action", "")}
    if said["action"] == "priority":
        said["priority"] = form.get("new_priority", "")
    if form.get("all"):
        said["filter"] = wish.wanted() if _asked(wish) else None
    else:
        chosen = [number for number in form.getlist("job") if number.isdecimal() and len(number) < 19]
        if not chosen:
            return _page(wish, message=_("No job was chosen."), tone="failed")
        said["ids"] = chosen
    try:
        outcome = bulk.apply(bulk.BulkChange.model_validate(said))
    except ValidationError:
        abort(400)
    return _page(wish, message=_told(outcome), tone="failed" if outcome.refused else "done")


@auth.role("radiologist")
def priority(job_id: int) -> AnyResponse:
    """One job before others or after them, as a plain form post."""
    said = {"action": "priority", "ids": [job_id], "priority": request.form.get("priority", "")}
    try:
        bulk.apply(bulk.BulkChange.model_validate(said))
    except ValidationError:
        abort(400)
    return redirect(url_for("pages.job", job_id=job_id), 303)


@auth.role("admin")
def pause() -> AnyResponse:
    """Let something stand still or go on, as a plain form post; back to the page that asked."""
    form = request.form
    what = form.get("what", "")[:80]
    try:
        if form.get("go") == "on":
            pauses_api.go_on(what)
        else:
            pauses_api.stop(what, form.get("reason", "").strip()[:256])
    except ApiProblem as problem:
        if problem.status == 404:
            raise
    came = urlsplit(request.referrer or "").path
    return redirect(came if came in {"/system", "/dashboard"} else url_for("pages.queue"), 303)


def _told(outcome: Outcome) -> str:
    """What became of the jobs, in words."""
    said = [ngettext("%(num)d job changed.", "%(num)d jobs changed.", len(outcome.done))]
    if outcome.next_cursor is not None:
        said.append(_("There are more: press again."))
    if outcome.refused:
        left = len(outcome.refused)
        said.append(ngettext("%(num)d job was left as it is:", "%(num)d jobs were left as they are:", left))
        said += [f"{one.id}: {one.reason}." for one in outcome.refused[:5]]
        said += ["…"] if left > 5 else []
    return " ".join(said)


def _asked(wish: Wish) -> Search:
    """The wish for the database; what no page of ours asks for is a bad request."""
    try:
        return wish.search()
    except ValidationError:
        abort(400)


def _page(wish: Wish, *, message: str = "", tone: str = "done") -> str:
    asked = _asked(wish)
    trail.listed()
    trail.searched("jobs.search", {"text": asked.text})
    here = services()
    search = asked.conditions()
    with here.database.read() as session:
        counts = browse.counts(session)
        page = browse.jobs(
            session, states=asked.state, limit=PAGE, after=asked.after, search=search, sort=asked.sort
        )
        if not wish.after and page.next_cursor is None:
            matched = len(page.jobs)
        elif wish.filtered:
            matched = browse.count(session, states=asked.state, search=search)
        else:
            matched = counts[JobState(wish.state)] if wish.state else sum(counts.values())
        return render_template(
            "queue.html",
            jobs=page.jobs,
            next_after=str(page.next_cursor) if page.next_cursor is not None else "",
            counts=[("", sum(counts.values())), *((name.value, counts[name]) for name in JobState)],
            matched=min(matched, browse.MOST_COUNTED) if wish.filtered else matched,
            more=wish.filtered and matched > browse.MOST_COUNTED,
            chosen=wish.state or None,
            wish=wish,
            choices=_choices(wish, list(session.scalars(select(ModelVersion.name).distinct()))),
            sorts=list(Sort),
            pauses=pauses.all_pauses(session),
            pausable=pausable(),
            message=message,
            tone=tone,
            settings=here.settings,
        )


def _choices(wish: Wish, models: list[str]) -> dict[str, list[str]]:
    """What each filter can be set to; what it is set to is always among it."""
    settings = services().settings
    found = {
        "rule": [rule.name for rule in settings.rules],
        "destination": [one.name for one in settings.destinations],
        "model": sorted(models),
    }
    for name, values in found.items():
        now = getattr(wish, name)
        if now and now not in values:
            values.append(now)
    return found


def pausable() -> list[str]:
    """What can be paused on this node."""
    return [
        pauses.INTAKE,
        pauses.PROCESSING,
        *(pauses.of_destination(one.name) for one in services().settings.destinations),
    ]


__all__ = ["ORIGINS", "PRIORITIES", "Cursor", "register"]
