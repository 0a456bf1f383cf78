"""The sender role: brings results to their destinations, a thread for each, and echoes them on request.

A destination that is dead delays its own deliveries alone, and is tried again after a wait that grows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from config import Settings
from config.origins import fingerprint
from config.standing import Standing
from db import Database, commands, commitment_requests, commitments, deliveries, schema
from db.leases import backoff, owner_here
from db.models import Command
from db.objects import ObjectStore, store_of
from db.presence import Presence
from db.trouble import advice
from pacs_node import fetcher, testimage
from pacs_node.commitment_scp import Teller
from pacs_node.courier import Courier, note_peer, open_carrier
from pacs_node.echo import EchoResult, echo
from pacs_node.whereabouts import where

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 10.0
LONGEST_PAUSE = 60.0
"""Seconds after which a destination that failed is tried at the latest, as long as something waits for it."""


_WAITING = select(Command.id).where(Command.role == "sender", Command.state == commands.WAITING).limit(1)


@dataclass
class _Route:
    """What the sender remembers of a destination."""

    thread: threading.Thread | None = None
    failures: int = 0
    not_before: float = 0.0


class Sender:
    """Starts a courier for each destination that has something due; each ends when it has nothing to do."""

    def __init__(
        self, settings: Settings, database: Database, store: ObjectStore, stop: threading.Event
    ) -> None:
        self.settings, self.database, self.store, self.stop = settings, database, store, stop
        self.owner = owner_here("sender")
        self._routes: dict[str, _Route] = {}
        self._echoes: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def step(self) -> None:
        """Look once for due deliveries and for commands; start what is to be started."""
        with self.database.read() as session:
            due = {*deliveries.due_destinations(session), *commitments.due_destinations(session)}
            callers = commitment_requests.due_callers(session)
        for name in sorted(due):
            self._dispatch(name, self._carry)
        for caller in callers:
            self._dispatch(f"caller {caller}", self._tell, caller)
        self._take_command()

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Wait for the objects that are on their way; a courier takes no other once `stop` is set."""
        deadline = time.monotonic() + seconds
        with self._lock:
            threads = [r.thread for r in self._routes.values() if r.thread] + list(self._echoes)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _tell(self, caller: str, _route: _Route) -> None:
        try:
            Teller(self.settings, self.database, caller, self.stop).run()
        except Exception as error:  # noqa: BLE001 - a fault with one caller is no fault of the others
            log.error("teller.failed", caller=caller, error=where(error))

    def _dispatch(self, name: str, work: Callable[[str, _Route], None], whom: str | None = None) -> None:
        route = self._routes.setdefault(name, _Route())
        if (route.thread and route.thread.is_alive()) or time.monotonic() < route.not_before:
            return
        route.thread = threading.Thread(
            target=work, args=(whom or name, route), name=f"courier-{name}", daemon=True
        )
        route.thread.start()

    def _carry(self, name: str, route: _Route) -> None:
        courier = Courier(self.settings, self.database, self.store, name, self.owner, self.stop)
        try:
            courier.run()
        except SQLAlchemyError as error:
            log.error("courier.database", destination=name, why=advice(error))
            courier.peer_failed = True
        except Exception as error:  # noqa: BLE001 - a fault with one destination is no fault of the others
            log.error("courier.failed", destination=name, error=where(error))
            courier.peer_failed = True
        if courier.sent:
            route.failures = 0
        if courier.peer_failed:
            route.failures += 1
            queue = self.settings.queue
            longest = min(LONGEST_PAUSE, queue.retry_max_seconds)
            pause = backoff(route.failures, queue.retry_base_seconds, longest).total_seconds()
            route.not_before = time.monotonic() + pause

    def _take_command(self) -> None:
        with self.database.read() as session:
            if session.scalar(_WAITING) is None:
                return
        with self.database.write() as session:
            command = commands.take(session, "sender")
            if command is None:
                return
            command_id, kind, arguments = command.id, command.kind, dict(command.arguments)
        thread = threading.Thread(
            target=self._obey, args=(command_id, kind, arguments), name=f"command-{command_id}", daemon=True
        )
        with self._lock:
            self._echoes = {t for t in self._echoes if t.is_alive()} | {thread}
        thread.start()

    def _obey(self, command_id: int, kind: str, arguments: dict[str, object]) -> None:
        try:
            answer = self._answer(kind, arguments)
        except Exception as error:  # noqa: BLE001 - whoever asked waits for an answer
            log.error("command.failed", command=command_id, kind=kind, error=where(error))
            answer = {"ok": False, "seconds": None, "message": "something failed here; it is in the log"}
        try:
            with self.database.write() as session:
                commands.answer(session, command_id, answer)
        except SQLAlchemyError as error:
            log.error("command.answer", command=command_id, error=type(error).__name__)

    def _answer(self, kind: str, arguments: dict[str, object]) -> dict[str, object]:
        name = str(arguments.get("destination", ""))
        if kind == "test-image":
            return self._send_test_image(name)
        result = EchoResult(False, 0.0, "the sender does not know this command")
        if kind == "echo" and "archive" in arguments:
            result = self._echo_archive(str(arguments["archive"]))
        elif kind == "echo":
            result = self._echo_destination(name)
        return {"ok": result.ok, "seconds": round(result.seconds, 3), "message": result.message}

    def _send_test_image(self, name: str) -> dict[str, object]:
        destination = self.settings.destination(name)
        if destination is None:
            return {"ok": False, "seconds": None, "message": "no destination of that name is configured"}
        carrier = open_carrier(destination.kind, self.settings)
        sent = testimage.send(destination, carrier, schema.installation_uuid(self.database))
        log.info("test image", destination=name, ok=sent.ok, status=sent.status, seconds=sent.seconds)
        note_peer(self.database, name, sent.reached, sent.seconds, sent.message)
        return {
            "ok": sent.ok,
            "status": sent.status,
            "seconds": round(sent.seconds, 3),
            "message": sent.message,
            "sop_instance_uid": sent.sop_instance_uid,
        }

    def _echo_destination(self, name: str) -> EchoResult:
        destination = self.settings.destination(name)
        if destination is None:
            return EchoResult(False, 0.0, "no destination of that name is configured")
        result = echo(destination, self.settings.dicom)
        note_peer(self.database, name, result.ok, result.seconds, result.message)
        if result.ok and (route := self._routes.get(name)):
            route.not_before = 0.0
        return result

    def _echo_archive(self, name: str) -> EchoResult:
        archive = self.settings.archive(name)
        if archive is None:
            return EchoResult(False, 0.0, "no archive of that name is configured")
        result = echo(archive, self.settings.dicom)
        note_peer(self.database, archive.peer, result.ok, result.seconds, result.message)
        return result


def run(settings: Settings, stop: threading.Event) -> None:
    """Deliver until `stop` is set, then let what is on its way arrive."""
    database = Database(settings.database_url)
    store = store_of(settings)
    sender = Sender(settings, database, store, stop)
    info = {"destinations": [d.name for d in settings.destinations], "settings": fingerprint(settings)}
    try:
        with (
            Presence(database, "sender", info),
            fetcher.running(settings, database, store, stop, DRAIN_SECONDS),
        ):
            silent = Standing(log, "sender.database")
            while not stop.wait(settings.queue.poll_seconds):
                try:
                    sender.step()
                    silent.over()
                except SQLAlchemyError as error:
                    silent.there(why=advice(error))
            sender.drain()
    finally:
        database.close()
