"""Changes of jobs as Server-Sent Events: one poller a process, any number of listeners up to a limit.

A listener that reads too slowly is disconnected; browsers come back by themselves with `Last-Event-ID` and
get what they missed from the table. An event may come twice, never not at all.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from flask import Blueprint, Response, g, request
from pydantic import BaseModel
from sqlalchemy import func, or_, select
from sqlalchemy.exc import SQLAlchemyError

from config.standing import Standing
from db import Database
from db.feed import Feed
from db.models import JobEvent
from db.trouble import trouble
from db.types import utcnow
from webui import auth
from webui.api.models import EventView
from webui.api.operations import operation
from webui.errors import Unavailable
from webui.services import Services, services

blueprint = Blueprint("events", __name__)
log = structlog.get_logger(__name__)

CONTENT_TYPE = "text/event-stream; charset=utf-8"
HEARTBEAT_SECONDS = 15.0
POLL_SECONDS = 0.4
BACKLOG = 512
"""Events that a slow listener may lag behind."""
MAX_REPLAY = 2000
"""Missed events that are sent again; with more, the listener is told to `reset` (load its page anew)."""
LATE = timedelta(seconds=60)
"""Events this young are sent again on resumption, since ids can commit out of order."""


class Closed(Exception):
    """The stream ends: the server stops, or the listener was too slow."""


@dataclass(eq=False)
class Listener:
    """One open stream."""

    condition: threading.Condition
    backlog: deque[tuple[int, bytes]] = field(default_factory=deque)
    closed: bool = False

    def take(self, timeout: float) -> list[tuple[int, bytes]]:
        """What has come since the last call, empty after `timeout` seconds. Raises :class:`Closed`."""
        with self.condition:
            self.condition.wait_for(lambda: self.backlog or self.closed, timeout)
            taken = list(self.backlog)
            self.backlog.clear()
            if self.closed and not taken:
                raise Closed
            return taken


class Broadcaster:
    """Reads the table of events in one thread and hands each one to every listener."""

    def __init__(self, database: Database, *, max_streams: int, poll_seconds: float = POLL_SECONDS) -> None:
        self.database = database
        self.max_streams = max_streams
        self.poll_seconds = poll_seconds
        self._lock = threading.Lock()
        self._listeners: set[Listener] = set()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def open_streams(self) -> int:
        return len(self._listeners)

    def subscribe(self) -> Listener:
        """A new listener. Raises :class:`webui.errors.Unavailable` when there are too many."""
        with self._lock:
            if self._stop.is_set() or len(self._listeners) >= self.max_streams:
                raise Unavailable(
                    "Too many event streams are open; try again later.", kind="too-many-streams"
                )
            if self._thread is None:
                feed = Feed(self.database, JobEvent)
                feed.after(None)  # marks the present: what comes from here on is for this listener
                self._thread = threading.Thread(target=self._run, args=(feed,), name="events", daemon=True)
                self._thread.start()
            listener = Listener(threading.Condition())
            self._listeners.add(listener)
        return listener

    def unsubscribe(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.discard(listener)

    def close(self) -> None:
        """End every stream and the thread."""
        self._stop.set()
        with self._lock:
            listeners, thread = list(self._listeners), self._thread
        for listener in listeners:
            with listener.condition:
                listener.closed = True
                listener.condition.notify()
        if thread is not None:
            thread.join(timeout=5)

    def _run(self, feed: Feed[JobEvent]) -> None:
        unread = Standing(log, "events could not be read")
        while not self._stop.wait(self.poll_seconds):
            try:
                events = feed.after(None)
            except SQLAlchemyError as error:
                unread.there("warning", why=trouble(error).value)
            else:
                unread.over()
                if events:
                    self._publish(events)

    def _publish(self, events: Iterable[JobEvent]) -> None:
        lines = [(event.id, encode(event)) for event in events]
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            with listener.condition:
                if len(listener.backlog) + len(lines) > BACKLOG:
                    listener.closed = True
                else:
                    listener.backlog.extend(lines)
                listener.condition.notify()


def last_id(database: Database) -> int:
    """Id of the newest event, 0 without one."""
    with database.read() as session:
        return session.scalar(select(func.max(JobEvent.id))) or 0


def encode(event: JobEvent) -> bytes:
    """One event in the format of `text/event-stream`."""
    data = EventView.of(event).model_dump_json()
    return f"id: {event.id}\nevent: job\ndata: {data}\n\n".encode()


def missed(database: Database, last: int) -> list[JobEvent] | None:
    """Events after `last`, and young ones just before it; None when there are too many."""
    due = or_(JobEvent.id > last, JobEvent.at > utcnow() - LATE)
    query = select(JobEvent).where(JobEvent.id > last - MAX_REPLAY, due, JobEvent.id != last)
    with database.read() as session:
        found = list(session.scalars(query.order_by(JobEvent.id).limit(MAX_REPLAY + 1)))
    return found if len(found) <= MAX_REPLAY else None


class EventQuery(BaseModel):
    last_event_id: int | None = None
    """For clients that cannot set the header `Last-Event-ID`."""


@blueprint.get("/events")
@auth.role("radiologist")
@operation(
    "Changes of jobs as Server-Sent Events", tag="events", query=EventQuery,
    answers={200: "text/event-stream"}, problems=(503,),
)  # fmt: skip
def events() -> Response:
    """Events `job` with an EventView as data, `reset` when too much was missed; comments hold the line."""
    here = services()
    if request.method == "HEAD":  # nobody would read, and nobody would close it
        return Response(content_type=CONTENT_TYPE)
    given = request.headers.get("Last-Event-ID") or request.args.get("last_event_id") or ""
    last = int(given) if given.isdecimal() and len(given) < 19 else None
    listener = here.broadcaster.subscribe()
    stream = Stream(here, listener, last, request.headers.get("Authorization"), auth.cookie())
    g.pop("actor", None)
    return Response(
        stream,
        content_type=CONTENT_TYPE,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


class Stream:
    """The body of the answer; `close` is called by the server whatever happens."""

    def __init__(
        self, here: Services, listener: Listener, last: int | None, header: str | None, cookie: str | None
    ) -> None:
        self.here, self.listener, self.last = here, listener, last
        self.header, self.cookie = header, cookie
        self._lines = self._read()

    def __iter__(self) -> Iterator[bytes]:
        return self._lines

    def close(self) -> None:
        self.here.broadcaster.unsubscribe(self.listener)

    def _read(self) -> Iterator[bytes]:
        yield b"retry: 2000\n: welcome\n\n"
        known: set[int] = set()
        if self.last is not None:
            replay = missed(self.here.database, self.last)
            if replay is None:
                yield b"event: reset\ndata: {}\n\n"
            for event in replay or ():
                known.add(event.id)
                yield encode(event)
        while True:
            try:
                taken = self.listener.take(HEARTBEAT_SECONDS)
            except Closed:
                return
            lines = [line for number, line in taken if number not in known]
            if lines:
                yield b"".join(lines)
            elif not taken:
                if not auth.still_valid(self.here, self.header, self.cookie):
                    return
                yield b": still here\n\n"
