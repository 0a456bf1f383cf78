"""Searches of archives that pages ask for: commands in the database, answered each in a thread of its own.

They hold patient data: nothing of a search or its answer is logged, and both are removed after a while.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from config import Settings
from config.network import Archive
from db import Database, batches, commands
from db.models import Command
from pacs_node import pull
from pacs_node.carrier import PeerError
from pacs_node.pull import Found, QueryError
from pacs_node.secondary import IDENTITY, unusable
from pacs_node.whereabouts import where

log = structlog.get_logger(__name__)

SEARCH = "search"
"""Kind of a command: `archive`, `terms` (see `pacs_node.pull.TERMS`), `limit`."""

IDENTIFY = "identify"
"""Kind of a command: what `archive` says of patient and study of one `study`, to be put into a picture."""

MAX_FOUND = 500
"""Studies that a page is shown at most."""

_AT_ONCE = 4
_FORGET_SECONDS = 60.0

_WAITING = select(Command.id).where(Command.role == batches.ROLE, Command.state == commands.WAITING).limit(1)


class Searches:
    """Takes the commands and answers them."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database = settings, database
        self._threads: set[threading.Thread] = set()
        self._forgot_at = float("-inf")

    @property
    def threads(self) -> list[threading.Thread]:
        """Those that search at this moment."""
        return [thread for thread in self._threads if thread.is_alive()]

    def step(self) -> None:
        """Start the next search that somebody waits for; forget old ones."""
        self._take()
        self._forget()

    def _take(self) -> None:
        self._threads = {thread for thread in self._threads if thread.is_alive()}
        if len(self._threads) >= _AT_ONCE:
            return
        with self.database.read() as session:
            if session.scalar(_WAITING) is None:
                return
        with self.database.write() as session:
            command = commands.take(session, batches.ROLE)
            if command is None:
                return
            number, kind, arguments = command.id, command.kind, dict(command.arguments)
        thread = threading.Thread(
            target=self._search, args=(number, kind, arguments), name=f"search-{number}", daemon=True
        )
        self._threads.add(thread)
        thread.start()

    def _search(self, number: int, kind: str, arguments: dict[str, Any]) -> None:
        """Search an archive and answer the command; nothing of it is logged but how it ended."""
        try:
            if kind == IDENTIFY:
                answer = self._identity(arguments)
            elif kind == SEARCH:
                answer = self._answer(arguments)
            else:
                answer = _no("the fetcher does not know this command")
        except Exception as error:  # noqa: BLE001 - whoever asked waits for an answer
            log.error("search.failed", command=number, error=where(error))
            answer = _no("something failed here; an administrator finds it in the log")
        log.info("search.ended", archive=str(arguments.get("archive"))[:64], ok=answer["ok"])
        try:
            with self.database.write() as session:
                commands.answer(session, number, answer)
        except SQLAlchemyError as error:
            log.error("command.answer", command=number, error=type(error).__name__)

    def _answer(self, arguments: dict[str, Any]) -> dict[str, Any]:
        archive = self.settings.archive(str(arguments.get("archive") or ""))
        if archive is None:
            return _no("no archive of that name is configured")
        limit = max(1, min(MAX_FOUND, int(arguments.get("limit") or 100)))
        try:
            query = pull.parse(dict(arguments.get("terms") or {}))
            found = search(archive, self.settings, query, limit)
        except (QueryError, PeerError) as error:
            return _no(str(error))
        studies = [{"study": study.uid, "shown": study.shown} for study in found.studies]
        return {
            "ok": True,
            "message": "",
            "studies": studies,
            "more": found.more,
            "modalities": list(query.modalities),
        }

    def _identity(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """`identity`: each keyword of `secondary.IDENTITY` to what the archive says now, "" for nothing."""
        archive = self.settings.archive(str(arguments.get("archive") or ""))
        if archive is None:
            return _no("no archive of that name is configured")
        uid = str(arguments.get("study") or "")
        asked = tuple(keyword for keyword in IDENTITY if keyword != "StudyInstanceUID")
        try:
            query = replace(pull.parse({"study": uid}), modalities=pull.ANY_MODALITY, shown=asked)
            found = search(archive, self.settings, query, 2)
        except (QueryError, PeerError) as error:
            return _no(str(error))
        studies = [study for study in found.studies if study.uid == uid]
        if not studies:
            return _no("the archive does not have this study")
        if len(studies) > 1:
            return _no("the archive has this study under more than one patient")
        shown = studies[0].shown
        identity = {keyword: str(shown.get(keyword) or "") for keyword in asked} | {"StudyInstanceUID": uid}
        wrong = unusable(identity)
        if wrong:
            return _no(f"{wrong} of this study in the archive cannot stand in an image")
        return {"ok": True, "message": "", "identity": identity}

    def _forget(self) -> None:
        """Remove what archives answered some time ago."""
        if time.monotonic() - self._forgot_at < _FORGET_SECONDS:
            return
        self._forgot_at = time.monotonic()
        with self.database.write() as session:
            batches.forget_searches(session)


def search(archive: Archive, settings: Settings, query: pull.Query, limit: int) -> Found:
    """Search an archive. Raises :class:`PeerError`."""
    with pull.opened(archive, settings.dicom) as source:
        return source.search(query, limit)


def _no(message: str) -> dict[str, Any]:
    return {"ok": False, "message": message, "studies": [], "more": False, "modalities": []}
