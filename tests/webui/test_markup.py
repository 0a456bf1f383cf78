"""Whatever text comes from outside is shown as text: on every page, of every job, in every answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import String, cast, update

import db.exchange  # noqa: F401 - its tables
from db import Database, audit, batches
from db.desk import Alert, Judgement, LogLine, Pause, Webhook, WebhookCall
from db.models import Base, Job, JobEvent, PeerStatus
from db.objects import ObjectStore
from db.states import DeliveryState, JobState
from db.types import Line, utcnow
from tests.db import builders
from tests.webui import jobs
from tests.webui.conftest import PACS, Person, dicom, png
from tests.webui.test_routes import addresses
from webui.services import KEY

EVIL = "\"'><x-evil onload=alert(1)>{{7*7}}</script><script>x-evil()</script>\u202e&lt;"
"""A tag, an attribute, a template's words, an end of a script, and letters that turn the direction."""

NAMED = {
    "pause.actor", "user_account.name", "api_token.name",
    "batch.name", "webhook.name", "model_version.name", "model_version.version", "job.rule",
    "delivery.destination_name", "judgement.actor", "job_event.actor", "role_instance.host",
    "measurement.subject", "alert.subject", "web_session.address", "source.origin_address",
    "job.reason_code",
}  # fmt: skip
"""Names that people, peers or machines choose, beside all columns of the type `Line`."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ERRORS = (
    "/nowhere", f"/queue?state={EVIL}", "/api/v1/nowhere", f"/static/{EVIL}", "/static/dist/assets/gone.js",
)  # fmt: skip
TEXTUAL = frozenset(
    {"application/json", "application/problem+json", "application/dicom+json", "application/dicom",
     "text/csv", "text/plain"}
)  # fmt: skip
"""Types that browsers never read as markup."""
KEPT = {"/static/<path:filename>"}
"""Answers that caches may keep: they are the same for everybody."""
REVALIDATED = "private, no-cache"
"""Of pictures and objects: one browser may keep them, and asks each time whether it still may."""


@dataclass
class Seen(HTMLParser):
    """What a browser would make of a page."""

    wrong: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "x-evil" or "x-evil" in given:
            self.wrong.append("markup from outside")
        if tag == "style" or "style" in given:
            self.wrong.append(f"style in {tag}")
        if tag == "script" and "src" not in given and given.get("type") != "application/json":
            self.wrong.append("a script in the page")
        if tag in {"base", "object", "embed", "iframe", "frame"}:
            self.wrong.append(tag)
        for name, value in attrs:
            where = (value or "").strip().lower()
            if name.startswith("on"):
                self.wrong.append(f"{name} in {tag}")
            if name in {"href", "src", "action", "formaction"} and where.startswith(("javascript:", "data:")):
                self.wrong.append(f"{where[:20]} in {tag}")
            if name in {"src", "action", "formaction"} and where.startswith(("http:", "https:", "//")):
                self.wrong.append(f"{tag} leads elsewhere")
            self.text.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def poisoned(app: Flask, anna: Person, root: Person, database: Database, store: ObjectStore) -> Iterator[int]:
    """A node with everything on it, where all text from outside is evil; yields how many jobs there are."""
    with database.write() as session:
        for state in JobState:
            if state not in {JobState.RUNNING, JobState.QUEUED}:
                builders.job_in(session, state)
        for standing in (DeliveryState.FAILED, DeliveryState.STORED):
            builders.delivery_in(session, standing)
    for number in range(3):
        job = anna.upload((f"{number}.dcm", dicom(f"1.2.{number}"))).get_json()["jobs"][0]["id"]
        jobs.examine(database, store, job)
    anna.upload(("4.png", png()), PatientName="A^B")
    jobs.finish(database, store, to=(PACS,))
    jobs.finish(database, store, release="review")
    done = jobs.finish(database, store)
    said = root.post(f"/api/v1/jobs/{done}/judgement", json={"verdict": "good", "note": "well"})
    assert said.status_code == 200, said.text
    root.post("/api/v1/tokens", json={"user": "anna", "name": "script"})
    with database.write() as session:
        studies = [batches.Chosen("1.2.3.1", {"PatientName": EVIL, "StudyDescription": EVIL})]
        batches.create(session, "old", studies, query={"PatientName": EVIL}, name="January")
        hook = Webhook(name="ris", url=f"https://ris.example/{EVIL}", secret="s" * 32, states=["done"])
        session.add(hook)
        session.flush()
        call = WebhookCall(webhook_id=hook.id, job_id=1, job_state="done", state="failed", message=EVIL)
        session.add(call)
        session.add(Alert(kind="destination", subject="pacs", message=EVIL, raised_at=utcnow()))
        session.add(
            LogLine(job_id=1, at=utcnow(), level="info", role="worker", event=EVIL, fields={"a": EVIL})
        )
        session.add(
            PeerStatus(name="pacs", reachable=False, message=EVIL, checked_at=utcnow(), changed_at=utcnow())
        )
        audit.record(session, EVIL, "job.retry", object_type="job", object_id=EVIL[:60], detail={"why": EVIL})
        session.add(Pause(what="destination:pacs", actor="root", reason=EVIL, at=utcnow()))
    _poison(database)
    with database.read() as session:
        count = session.query(Job).count()
        assert session.query(Judgement).count()
        assert session.query(JobEvent).count()
    yield count
    app.extensions[KEY].broadcaster.close()


def _poison(database: Database) -> None:
    with database.write() as session:
        for table in Base.metadata.sorted_tables:
            free: dict[str, Any] = {}
            for column in table.columns:
                if isinstance(column.type, Line):
                    free[column.name] = EVIL
                elif f"{table.name}.{column.name}" in NAMED:
                    assert isinstance(column.type, String)
                    free[column.name] = EVIL[: (column.type.length or 64) - 10] + (
                        cast(table.c.id, String) if column.unique else ""
                    )
            for name in ("birth_date", "study_date", "study_time", "performed_date", "performed_time", "sex"):
                free.pop(name, None)
            if free:
                session.execute(update(table).values(free))


def _pages(app: Flask, root: Person, count: int) -> Iterator[tuple[str, str, Any]]:
    """Every GET, of every job where there is a job in the address."""
    paths = [("", path) for path in ERRORS]
    for number in range(1, count + 1):
        for rule, method, path in addresses(app, job_id=number, name="pacs"):
            of_each = "job_id" in rule.arguments and rule.endpoint.startswith("pages.")
            if method == "GET" and (number == 1 or of_each):
                paths.append((rule.rule, path))
    for rule_path, path in paths:
        if path != "/api/v1/events":
            answer = root.get(path)
            yield rule_path, path, answer
            answer.close()


def test_text_from_outside_is_text_on_every_page_and_every_answer_says_how_to_read_it(
    app: Flask, root: Person, poisoned: int
) -> None:
    shown = set()
    for rule, path, answer in _pages(app, root, poisoned):
        assert answer.status_code != 500, path
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (path, name)
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy, path
        assert "frame-ancestors 'none'" in policy, path
        assert "camera=()" in answer.headers["Permissions-Policy"], path
        if rule not in KEPT or answer.status_code >= 400:
            assert answer.headers["Cache-Control"] in {"no-store", REVALIDATED}, path
        if answer.mimetype == "text/html":
            assert answer.headers["Cache-Control"] == "no-store", path
            seen = Seen()
            seen.feed(answer.text)
            seen.close()
            assert seen.wrong == [], path
            if any("x-evil" in text for text in seen.text):
                shown.add(rule)
        elif b"x-evil" in answer.data:
            assert answer.mimetype in TEXTUAL, path
            if answer.mimetype == "text/csv":
                assert answer.headers["Content-Disposition"].startswith("attachment"), path
    assert len(shown) >= 12, sorted(shown)


def test_an_event_stream_holds_text_as_json(app: Flask, anna: Person, poisoned: int) -> None:
    answer = anna.get("/api/v1/events", headers={"Last-Event-ID": "0"})
    assert answer.mimetype == "text/event-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    heard = b""
    for piece in answer.response:
        heard += piece if isinstance(piece, bytes) else piece.encode()
        if heard.count(b"\ndata:") > 3:
            break
    answer.close()
    for line in heard.decode().splitlines():
        if line.startswith("data:"):
            json.loads(line[5:])
        else:
            assert "x-evil" not in line


def test_downloads_have_a_fixed_type_and_a_name_of_ours(
    anna: Person, database: Database, store: ObjectStore
) -> None:
    anna.upload(("page.html", dicom("1.2.1") + b"<script>alert(1)</script>"))
    jobs.examine(database, store, 1)
    jobs.finish(database, store)
    answer = anna.get("/api/v1/jobs/1/result.dcm")
    assert answer.mimetype == "application/dicom"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="cxr-sr-job-1.dcm"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for path in ("result.png", "source.png"):
        assert anna.get(f"/api/v1/jobs/1/{path}").mimetype == "image/png"
