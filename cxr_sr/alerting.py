"""Telling people of alerts by mail, webhook and whatever else Apprise knows.

Each address has a thread and an outbox of its own: one that hangs or refuses keeps neither the scheduler nor
the other addresses waiting. What it did not take is sent again, later each time, in one message.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog

from config import Settings
from config.targets import target
from db import Database, alerts
from db.alerts import Changes
from db.desk import Alert
from db.objects import ObjectStore

log = structlog.get_logger(__name__)

FIRST_WAIT = 30.0
LONGEST_WAIT = 3600.0
"""Seconds before a message is tried again: doubled each time up to this."""
STOP_SECONDS = 5.0
"""How long the end of the scheduler waits for a message that is on its way."""
MOST_KEPT = 200
"""Lines that wait for an address; of more the oldest are dropped: the dashboard has them all."""

TITLE = "cxr-sr"


@dataclass(frozen=True)
class Told:
    """Whether an address took a message, and if not why, without its secrets."""

    ok: bool
    why: str = ""


Send = Callable[[str, str, str], Told]
"""Send title and body to an address."""


def send(url: str, title: str, body: str) -> Told:
    """Send one message by Apprise; waits as long as its time limits allow, some seconds for most services."""
    found = target(url)
    if found is None:
        return Told(False, "Apprise does not know this address")
    with _said() as lines:
        try:
            from apprise import Apprise, NotifyFormat

            told = Apprise(found, asset=found.asset)
            ok = bool(told.notify(title=title, body=body, body_format=NotifyFormat.TEXT))
        except Exception as error:  # noqa: BLE001 - a service's library may raise whatever it likes
            return Told(False, type(error).__name__)
    return Told(ok, "" if ok else without_secrets(" ".join(lines), url) or "it did not take the message")


def called(number: int, url: str) -> str:
    """What an address is called where people read: its number and service, nothing of what it says."""
    found: Any = target(url)
    return f"{number} ({found.service_name})" if found is not None else str(number)


def without_secrets(text: str, url: str) -> str:
    """The text without anything that the address holds beside its host: users, passwords, tokens, paths."""
    parts = urlsplit(url)
    held = re.split(r"[/?&=:@,;#]+", url.partition("://")[2])
    held += [unquote(word) for word in held]
    plain = {parts.hostname} if parts.scheme.lower() in _NAMES_A_HOST else set()  # elsewhere it is a token
    for word in sorted({w for w in held if len(w) > 2} - plain, key=len, reverse=True):
        text = text.replace(word, "***")
    return " ".join(text.split())[:200].rstrip(". ")


_NAMES_A_HOST = frozenset({"mailto", "mailtos", "json", "jsons", "xml", "xmls", "form", "forms"})


_lines: ContextVar[list[str] | None] = ContextVar("lines", default=None)
"""Where to collect what the library says; it takes the context along into its own threads."""


class _Ear(logging.Handler):
    """Hears the library's warnings, and the system's errors in what else it says."""

    def emit(self, record: logging.LogRecord) -> None:
        lines, text = _lines.get(), record.getMessage()
        if lines is None:
            return
        if record.levelno >= logging.WARNING:
            lines.append(text)
        elif found := re.search(r"\[Errno -?\d+\] ([\w ]+)|(timed out)", text):
            lines.append(f"{found[1] or found[2]}.")


@contextmanager
def _said() -> Iterator[list[str]]:
    logger = logging.getLogger("apprise")
    if not any(isinstance(handler, _Ear) for handler in logger.handlers):
        logger.addHandler(_Ear())
        logger.setLevel(logging.DEBUG)  # it has no other handler, and passes nothing on
    lines: list[str] = []
    token = _lines.set(lines)
    try:
        yield lines
    finally:
        _lines.reset(token)


@dataclass(frozen=True)
class Line:
    """One thing to tell, and the alert that it is about."""

    alert_id: int
    text: str


@dataclass
class Outbox:
    """What one address has still to be told. Its thread begins with the first line."""

    name: str
    url: str
    send: Send
    report: Callable[[Outbox, Sequence[Line], Told], None]
    first_wait: float = FIRST_WAIT
    lines: list[Line] = field(default_factory=list)
    trouble: str | None = None
    """Why the last attempt failed."""
    heard: dict[int, float] = field(default_factory=dict)
    """When this address heard last of an alert, by :func:`time.monotonic`."""

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def put(self, lines: Sequence[Line]) -> None:
        with self._changed:
            self.lines, self._stopping = [*self.lines, *lines][-MOST_KEPT:], False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"alerts-{self.name}", daemon=True)
                self._thread.start()
            self._changed.notify()

    def is_to_hear(self, alert_id: int, repeat: timedelta) -> bool:
        """Whether a standing alert is told again: it is not waiting, and was not told within `repeat`."""
        with self._changed:
            if any(line.alert_id == alert_id for line in self.lines):
                return False
            last = self.heard.get(alert_id)
            return last is None or time.monotonic() - last >= repeat.total_seconds()

    def waits_for(self, alert_id: int) -> bool:
        """Whether this address still has to hear of an alert."""
        with self._changed:
            return any(line.alert_id == alert_id for line in self.lines)

    def stop(self) -> None:
        """Let a message that is on its way end; give up what waits."""
        with self._changed:
            self._stopping, thread = True, self._thread
            self._changed.notify()
        if thread is not None:
            thread.join(timeout=STOP_SECONDS)

    def _run(self) -> None:
        wait = self.first_wait
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.lines or self._stopping)
                if self._stopping:
                    self._thread = None
                    return
                going = list(self.lines)
            told = self.send(self.url, title(going), "\n".join(line.text for line in going))
            with self._changed:
                if told.ok:
                    self.lines = [line for line in self.lines if line not in going]
                self.trouble = None if told.ok else told.why
                if told.ok:
                    self.heard |= {line.alert_id: time.monotonic() for line in going}
                    self.heard = dict(list(self.heard.items())[-1000:])
            self.report(self, going, told)
            if told.ok:
                wait = self.first_wait
                continue
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, timeout=wait)
            wait = min(2 * wait, LONGEST_WAIT)


def title(lines: Sequence[Line]) -> str:
    """The subject of a mail: the alert itself, or how many there are."""
    said = lines[0].text.splitlines()[0] if len(lines) == 1 else f"{len(lines)} alerts"
    return f"{TITLE}: {said}"[:120]


class Alerting:
    """Looks, keeps the table of alerts, and has them told; one for a scheduler that leads."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: ObjectStore,
        *,
        send: Send = send,
        first_wait: float = FIRST_WAIT,
    ) -> None:
        self.settings, self.database, self.store = settings, database, store
        self._absent: set[alerts.Key] = set()
        self.outboxes = [
            Outbox(called(number, url), url, send, self._report, first_wait)
            for number, url in enumerate(settings.alerts.urls, start=1)
        ]

    def check(self) -> Changes:
        """Look once; what is over is cleared when it was over at the look before too, so that what comes and
        goes is not told each time."""
        try:
            room = self.store.room()
        except OSError:
            room = None
        repeat = timedelta(hours=self.settings.alerts.repeat_hours)
        with self.database.write() as session:
            found = alerts.look(session, self.settings, room)
            standing = {(alert.kind, alert.subject) for alert in alerts.open_alerts(session)}
            absent = standing - {condition.key for condition in found}
            changes = alerts.update(session, found, repeat=repeat, gone=absent & self._absent)
            self._absent = absent - self._absent
            if not self.outboxes:
                alerts.told(session, [a.id for a in (*changes.raised, *changes.standing)], None)
        for alert in changes.raised:
            log.warning("alert", kind=alert.kind, of=alert.subject)
        for alert in changes.cleared:
            log.info("alert-over", kind=alert.kind, of=alert.subject)
        for outbox in self.outboxes:
            lines = [
                *(self._line(alert, "") for alert in changes.raised),
                *(self._line(a, "Still: ") for a in changes.standing if outbox.is_to_hear(a.id, repeat)),
                *(self._line(alert, "Over: ") for alert in changes.cleared),
            ]
            if lines:
                outbox.put(lines)
        return changes

    def stop(self) -> None:
        """End the threads."""
        for outbox in self.outboxes:
            outbox.stop()

    def _line(self, alert: Alert, before: str) -> Line:
        text = before + alert.message
        where = self.settings.web.public_url
        return Line(alert.id, f"{text}\n{where.rstrip('/')}/dashboard" if where else text)

    def _report(self, outbox: Outbox, lines: Sequence[Line], told: Told) -> None:
        """Write down whether all addresses know of an alert, or why one does not."""
        if not told.ok:
            log.warning("alert-not-told", target=outbox.name, why=told.why)
        ids = sorted({line.alert_id for line in lines})
        silent = {
            number: other
            for number in ids
            for other in self.outboxes
            if other.trouble is not None and other.waits_for(number)
        }
        waiting = {number for number in ids if any(other.waits_for(number) for other in self.outboxes)}
        try:
            with self.database.write() as session:
                for number in ids:
                    if number in silent:
                        other = silent[number]
                        alerts.told(session, [number], f"Address {other.name} was not told: {other.trouble}.")
                    elif number not in waiting:
                        alerts.told(session, [number], None)
        except Exception as error:  # noqa: BLE001 - the next message tries again; the thread must live
            log.warning("alert-not-noted", error=type(error).__name__)
