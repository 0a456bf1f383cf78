"""What the rules would say of an object that was received, or of one that somebody describes.

A page asks by a command, the worker answers: it is its settings and its decoder that decide. Nothing is
stored, changed or sent; nothing of the object is logged.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import structlog
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from config import Settings
from config.standing import Standing
from db import Database, commands
from db.models import Command, Job
from db.objects import ObjectStore
from db.trouble import trouble
from pacs_node import matching, rules, verdict
from pacs_node.errors import GiveUp, Refused, TryLater
from pacs_node.examine import Examiner
from pacs_node.rules import Asked
from pacs_node.shelf import Shelf
from pacs_node.tasks import Task, task_of
from pacs_node.verdict import Verdict
from pacs_node.whereabouts import where

log = structlog.get_logger(__name__)

ROLE = "worker"
KIND = "rules"
"""The command: optional `job` (its source is tried), `attributes` (keyword or a name of
`matching.OF_THE_CALLER` to a text, said over what the object says), `rows` and `columns`."""

LONGEST_VALUE = 1024
SIDE = 2000
"""Rows and columns of an object that is only described."""

_WAITING = select(Command.id).where(Command.role == ROLE, Command.state == commands.WAITING).limit(1)
_CALLER = {
    "CallingAETitle": "calling_ae_title",
    "CalledAETitle": "called_ae_title",
    "CallingAddress": "address",
    "Origin": "kind",
}


class CannotTry(Exception):
    """What was asked cannot be tried; the message is for whoever asked and repeats no value."""


@dataclass(frozen=True)
class Tryouts:
    """Answers one question after another, beside the worker's own work."""

    settings: Settings
    database: Database
    store: ObjectStore
    examiner: Examiner
    installation: UUID

    @contextmanager
    def running(self, stop: threading.Event) -> Iterator[None]:
        """Answer in a thread of its own until the block ends or `stop` is set."""
        over = threading.Event()
        silent = Standing(log, "tryout.database")

        def work() -> None:
            while not (stop.is_set() or over.wait(self.settings.queue.poll_seconds)):
                try:
                    self.step()
                    silent.over()
                except SQLAlchemyError as error:
                    silent.there("warning", why=trouble(error).value)

        thread = threading.Thread(target=work, name="tryouts", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=10)

    def step(self) -> bool:
        """Answer the oldest question; whether there was one."""
        with self.database.read() as session:
            if session.scalar(_WAITING) is None:
                return False
        with self.database.write() as session:
            command = commands.take(session, ROLE)
            if command is None:
                return False
            number, kind, arguments = command.id, command.kind, dict(command.arguments)
        try:
            if kind != KIND:
                raise CannotTry("The worker does not know this command.")
            answer = {"ok": True, "message": "", "verdict": self.verdict(arguments).record()}
        except CannotTry as why:
            answer = {"ok": False, "message": str(why)}
        except Exception as error:  # noqa: BLE001 - whoever asked waits for an answer
            log.error("tryout.failed", command=number, error=where(error))
            answer = {"ok": False, "message": "Something failed here; an administrator finds it in the log."}
        answer["rules"] = [rule.name for rule in self.settings.rules]
        with self.database.write() as session:
            commands.answer(session, number, answer)
        return True

    def verdict(self, arguments: Mapping[str, Any]) -> Verdict:
        """What becomes of the object that the arguments mean. Raises :class:`CannotTry`."""
        said = {str(name): str(value) for name, value in dict(arguments.get("attributes") or {}).items()}
        for problem in matching.problems(self.settings):
            raise CannotTry(f"A rule cannot be used: {problem}.")
        job = arguments.get("job")
        if job is not None:
            return self._of_job(int(job), said)
        header = Dataset()
        described(header, said)
        asked = _asked(Asked(called_ae_title=self.settings.dicom.ae_title), said)
        rows, columns = (int(arguments.get(name) or SIDE) for name in ("rows", "columns"))
        return verdict.of_decision("", rules.decide(header, rows, columns, asked, self.settings))

    def _of_job(self, job_id: int, said: Mapping[str, str]) -> Verdict:
        task = self._task(job_id)
        name = f"job {job_id}"
        try:
            with Shelf(self.store).local(task.object_key, task.sha256) as path:
                examined = self.examiner.examine(path, task.picture)
        except Refused as refused:
            return verdict.of_refusal(name, refused.refusal)
        except (GiveUp, TryLater) as error:
            raise CannotTry(error.reason) from error
        if examined.refusal is not None or examined.image is None:
            assert examined.refusal is not None
            return verdict.of_refusal(name, examined.refusal)
        described(examined.header, said)
        fmt = examined.image.format
        asked = _asked(task.asked, said)
        return verdict.of_decision(
            name, rules.decide(examined.header, fmt.rows, fmt.columns, asked, self.settings)
        )

    def _task(self, job_id: int) -> Task:
        with self.database.read() as session:
            job = session.get(Job, job_id) if 0 < job_id < 1 << 63 else None
            if job is None:
                raise CannotTry("There is no such job.")
            try:
                return task_of(job, self.installation)
            except GiveUp as error:
                raise CannotTry(error.reason) from error


def described(header: Dataset, said: Mapping[str, str]) -> None:
    """Put what somebody typed into a header; an empty text removes the attribute.

    Raises :class:`CannotTry` for what is no attribute, and for a value that cannot stand there.
    """
    for name, value in said.items():
        if name in _CALLER:
            continue
        tag = tag_for_keyword(name)
        if tag is None:
            raise CannotTry(f"{name[:64]!r} is no DICOM keyword, and none of {', '.join(_CALLER)}.")
        vr = dictionary_VR(tag)
        if vr == "SQ" or vr.startswith("O"):
            raise CannotTry(f"{name} cannot be typed; choose a received object instead.")
        if name in header:
            del header[name]
        if value:
            try:
                words = value[:LONGEST_VALUE].split("\\")
                header.add(
                    DataElement(tag, vr, words if len(words) > 1 else words[0], validation_mode=IGNORE)
                )
            except (ValueError, TypeError, OverflowError) as error:
                raise CannotTry(f"{name}: this value cannot stand there.") from error


def _asked(asked: Asked, said: Mapping[str, str]) -> Asked:
    given = {_CALLER[name]: value.strip() for name, value in said.items() if name in _CALLER}
    if given.get("kind", "dimse") not in ("dimse", "stow", "fetch", "upload", "demo"):
        raise CannotTry("Origin is dimse, stow, fetch or upload.")
    return replace(asked, **given)  # type: ignore[arg-type]
