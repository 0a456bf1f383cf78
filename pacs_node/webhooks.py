"""Tells webhooks of jobs: reads the events in their order, makes a call of each, and makes the calls.

At least once: a call is a row until it was taken, and a receiver that was told twice knows by the number of
the event. Each address has a thread of its own, so that one that is dead or slow delays no other. A message
holds no patient data: a number, a state and where to ask for more.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import requests
import structlog
from requests.auth import AuthBase
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db import Database, webhooks
from db.desk import Webhook, WebhookCall
from db.exchange import Bookmark
from db.feed import Feed
from db.models import Job, JobEvent
from db.types import utcnow
from pacs_node.carrier import PeerError
from pacs_node.patience import BoundedAdapter
from pacs_node.webclient import describe, quiet_libraries, spoken

log = structlog.get_logger(__name__)

SIGNATURE = "X-Cxr-Sr-Signature"
BOOKMARK = "webhooks"
TIMEOUT = (5.0, 10.0)
"""Seconds to reach an address, and until it answers."""
AT_ONCE = 100
"""Calls to one address before the others' turn is looked at again."""
FIRST_RETRY, LAST_RETRY = 10.0, 3600.0
"""Seconds between attempts: each time twice as long, from the first to the last."""


def sign(secret: str, body: bytes, at: int) -> str:
    """The value of the signature's header: `t=SECONDS,v1=HEX`, HMAC-SHA-256 over `SECONDS.BODY`."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def backoff(attempts: int) -> timedelta:
    """How long to wait after so many attempts; a little of it is chance."""
    seconds = min(LAST_RETRY, FIRST_RETRY * 2 ** min(attempts - 1, 20))
    return timedelta(seconds=seconds * random.uniform(0.9, 1.1))


@dataclass(frozen=True)
class Letter:
    """One call as it goes out."""

    call: WebhookCall
    url: str
    secret: str
    body: bytes


class Herald:
    """Makes the calls. One at a time: the scheduler's leader runs it."""

    def __init__(
        self, database: Database, public_url: str | None, *, wait: Callable[[int], timedelta] = backoff
    ) -> None:
        self.database, self.base, self._wait = database, (public_url or "").rstrip("/"), wait
        self._feed: Feed[JobEvent] | None = None
        self._lock = threading.Lock()
        self._busy: dict[int, threading.Thread] = {}
        self._stop = threading.Event()
        quiet_libraries()

    def run(self) -> None:
        """Note what is to be said, and begin to say it; returns at once. Threads end by themselves."""
        self._stop.clear()
        self._note()
        with self.database.read() as session:
            due = webhooks.due(session)
        with self._lock:
            for webhook_id in [number for number in due if number not in self._busy]:
                thread = threading.Thread(
                    target=self._tell, args=(webhook_id,), name=f"webhook-{webhook_id}", daemon=True
                )
                self._busy[webhook_id] = thread
                thread.start()

    def stop(self, patience: float = 3.0) -> None:
        """Begin no further call and wait a little for those under way; what is cut off is made again."""
        self._stop.set()
        self._feed = None  # another may lead meanwhile: begin at the bookmark
        deadline = time.monotonic() + patience
        with self._lock:
            threads = list(self._busy.values())
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _note(self) -> None:
        """Make calls of the new events and move the bookmark, both or neither."""
        feed, begin = self._feed, None
        if feed is None:
            feed = Feed(self.database, JobEvent)
            with self.database.write() as session:
                begin = _bookmark(session).position
        self._feed = None  # until all went well: an error lets the next round begin at the bookmark
        while events := feed.after(begin):
            begin = None
            with self.database.write() as session:
                webhooks.note(session, events)
                kept = _bookmark(session)
                kept.position = max(kept.position, feed.settled or 0)
        self._feed = feed
        given_up = webhooks.expire(self.database)
        if given_up:
            log.warning("webhook-calls-given-up", calls=given_up)

    def _tell(self, webhook_id: int) -> None:
        try:
            with requests.Session() as http:
                for scheme in ("https://", "http://"):
                    http.mount(scheme, BoundedAdapter(TIMEOUT[1]))
                for _ in range(AT_ONCE):
                    if self._stop.is_set() or not self._tell_next(http, webhook_id):
                        break
        except Exception as error:  # noqa: BLE001 - one that nobody foresaw must not end the next round
            log.error("webhook-failed", webhook=webhook_id, error=type(error).__name__)
        finally:
            with self._lock:
                self._busy.pop(webhook_id, None)

    def _tell_next(self, http: requests.Session, webhook_id: int) -> bool:
        """Make the oldest call that is due; False when there is none or nobody is there."""
        with self.database.read() as session:
            letter = self._letter(session, webhook_id)
        if letter is None:
            return False
        status: int | None = None
        why = ""
        try:
            status = post(http, letter)
        except PeerError as error:
            why = str(error)
        call = letter.call
        with self.database.write() as session:
            if status is not None and 200 <= status < 300:
                webhooks.ended(session, call.id, status)
                return True
            then = utcnow() + self._wait(call.attempts + 1)
            webhooks.put_off(session, call, then, status, why or f"it answered {describe(status or 0)}")
        log.info("webhook-not-taken", webhook=webhook_id, call=call.id, status=status)
        return status is not None

    def _letter(self, session: Session, webhook_id: int) -> Letter | None:
        call = webhooks.next_due(session, webhook_id)
        hook = session.get(Webhook, webhook_id)
        if call is None or hook is None:
            return None
        told = message(session, call, self.base)
        return Letter(call, hook.url, hook.secret, json.dumps(told, separators=(",", ":")).encode())


def message(session: Session, call: WebhookCall, base: str) -> dict[str, Any]:
    """What is said: the event's and the job's number, its state and its reason's code, where to ask, when."""
    job = session.get(Job, call.job_id) if call.job_id is not None else None
    event = session.get(JobEvent, call.event_id) if call.event_id is not None else None
    same = job is not None and job.state == call.job_state
    at: datetime = event.at if event is not None else call.created_at
    return {
        "event": call.event_id,
        "job": call.job_id,
        "state": call.job_state,
        "reason_code": job.reason_code if job is not None and same else None,
        "href": f"{base}/api/v1/jobs/{call.job_id}" if call.job_id is not None else None,
        "at": at.isoformat().replace("+00:00", "Z"),
    }


def post(http: requests.Session, letter: Letter) -> int:
    """Make a call and return its status. Redirects are not followed, nothing of the answer's body is read.

    Raises :class:`PeerError` when nobody answers.
    """
    if is_link_local(letter.url):
        raise PeerError("the address is link-local: clouds answer their secrets there, so it is never called")
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "cxr-sr",
        SIGNATURE: sign(letter.secret, letter.body, int(time.time())),
    }
    with spoken("the address"):
        response = http.post(
            letter.url, data=letter.body, headers=headers, timeout=TIMEOUT, auth=_Nobody(),
            allow_redirects=False, stream=True,
        )  # fmt: skip
    with contextlib.closing(response):
        return int(response.status_code)


def is_link_local(url: str) -> bool:
    """Whether an address leads to 169.254.0.0/16 or fe80::/10, however it is written or named."""
    try:
        parts = urlsplit(url)
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # nobody there: the call itself will say so
        return False
    for *_kind, address in found:
        host = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if ((host.version == 6 and getattr(host, "ipv4_mapped", None)) or host).is_link_local:
            return True
    return False


class _Nobody(AuthBase):
    """No authentication: requests would look for one in the user's .netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def _bookmark(session: Session) -> Bookmark:
    """How far the events were read; at first, to where the oldest webhook was made."""
    kept = session.get(Bookmark, BOOKMARK)
    if kept is None:
        since = session.scalar(select(func.min(Webhook.created_at))) or utcnow()
        newest = select(func.max(JobEvent.id)).where(JobEvent.at < since)
        kept = Bookmark(name=BOOKMARK, position=session.scalar(newest) or 0, put_off=[])
        session.add(kept)
        session.flush()
    return kept
