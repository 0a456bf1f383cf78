"""The queue: what is on each stage, and the jobs, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from flask import Blueprint, abort, render_template, request

from db import browse
from db.states import JobState
from webui import auth, trail
from webui.services import services

PAGE = 50


@dataclass(frozen=True)
class Wish:
    """What the form asks for. Patient data: it comes in a body and never stands in an address."""

    text: str = ""
    since: str = ""
    until: str = ""

    @property
    def active(self) -> bool:
        return self != Wish()

    def search(self) -> browse.Search | None:
        """The same for the database; days are those of UTC. Raises ValueError for what is no date."""
        if not self.active:
            return None
        return browse.Search(
            text=self.text.replace(", ", "^"),
            received_from=_midnight(self.since),
            received_to=_midnight(self.until, days=1),
        )


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/queue", view_func=queue)
    blueprint.add_url_rule("/queue", view_func=queue_post, methods=["POST"])


@auth.role("radiologist")
def queue() -> str:
    """All jobs or those of one state."""
    return _page(request.args.get("state", ""), request.args.get("before", ""), Wish())


@auth.role("radiologist")
def queue_post() -> str:
    """Jobs about a patient, an accession number, a UID, or of some days."""
    form = request.form
    wish = Wish(*(form.get(name, "").strip()[:128] for name in ("q", "since", "until")))
    if "only" in form:  # another state: its first page
        return _page(form["only"], "", wish)
    return _page(form.get("state", ""), form.get("before", form.get("at", "")), wish)


def _page(state: str, before: str, wish: Wish) -> str:
    if (state and state not in set(JobState)) or (before and not (before.isdecimal() and len(before) < 19)):
        abort(400)
    try:
        search = wish.search()
    except ValueError:
        abort(400)
    trail.searched("jobs.search", vars(wish))
    here = services()
    cursor = int(before or 0) or None
    with here.database.read() as session:
        counts = browse.counts(session)
        page = browse.jobs(
            session, states=[JobState(state)] if state else None, limit=PAGE, before=cursor, search=search
        )
        return render_template(
            "queue.html",
            jobs=page.jobs,
            next_before=page.next_cursor,
            before=cursor,
            counts=[("", sum(counts.values())), *((name.value, counts[name]) for name in JobState)],
            chosen=state or None,
            search=wish,
            settings=here.settings,
        )


def _midnight(day: str, *, days: int = 0) -> datetime | None:
    if not day:
        return None
    return datetime.combine(date.fromisoformat(day), time(), UTC) + timedelta(days=days)
