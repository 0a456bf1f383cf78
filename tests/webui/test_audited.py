"""Every route that changes something or shows whose images are here has its entry in the audit trail.

One table names each route of the program: its action, or why there is none. Those with a request are called.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select

from db import Database
from db.models import AuditEvent
from db.objects import ObjectStore
from tests.webui.conftest import Person, dicom
from tests.webui.jobs import examine, fail, finish
from webui import errands
from webui.services import services

OWN = "nothing of anybody's: settings, figures, models, states without names"
TWIN = "a form for a route of the API"
OWN_ACCOUNT = "a person's own account"
PREFERENCE = "a person's own language"
NUMBERS = "numbers, states and UIDs; the images are looked at elsewhere"

AUDITED: dict[str, str] = {
    "POST /login": "login",
    "GET /login/oidc/back": "login",
    "POST /logout": "logout",
    "POST /account": "password.change",
    "POST /account/sessions/<int:session_id>/end": "session.end",
    "POST /account/tokens": "token.create",
    "POST /account/tokens/<int:token_id>/revoke": "token.revoke",
    "POST /admin/destinations/<name>/echo": "destination.echo",
    "POST /admin/destinations/<name>/test-image": "destination.test",
    "GET /admin/judgements": "judgement.read",
    "POST /admin/rules": "rules.test",
    "POST /admin/sessions/<int:session_id>/end": "session.end",
    "POST /admin/tokens": "token.create",
    "POST /admin/tokens/<int:token_id>/revoke": "token.revoke",
    "POST /admin/users": "user.add",
    "POST /admin/users/<int:user_id>/<any(disable, enable, end, role, password):action>": "user.*",
    "POST /admin/webhooks": "webhook.create",
    "POST /admin/webhooks/<int:webhook_id>/<any(remove, disable, enable, test):action>": "webhook.*",
    "POST /api/v1/archives/<name>/echo": "archive.echo",
    "POST /api/v1/archives/<name>/search": "archive.search",
    "GET /api/v1/audit/export": "audit.export",
    "POST /api/v1/batches": "batch.create",
    "POST /api/v1/batches/<int:batch_id>/cancel": "batch.cancel",
    "POST /api/v1/batches/<int:batch_id>/pause": "batch.pause",
    "POST /api/v1/batches/<int:batch_id>/resume": "batch.resume",
    "POST /api/v1/batches/<int:batch_id>/retry": "batch.retry",
    "POST /api/v1/dashboard/failures/retry": "jobs.retry",
    "POST /api/v1/dashboard/why": "jobs.search",
    "POST /api/v1/destinations/<name>/echo": "destination.echo",
    "POST /api/v1/destinations/<name>/test-image": "destination.test",
    "POST /api/v1/jobs": "upload.store",
    "GET /api/v1/jobs": "jobs.list",
    "GET /api/v1/jobs/<int:job_id>": "job.view",
    "POST /api/v1/jobs/<int:job_id>/cancel": "job.cancel",
    "GET /api/v1/jobs/<int:job_id>/compare.png": "job.download",
    "POST /api/v1/jobs/<int:job_id>/identity": "job.identify",
    "POST /api/v1/jobs/<int:job_id>/judgement": "judgement.put",
    "POST /api/v1/jobs/<int:job_id>/judgement/withdraw": "judgement.withdraw",
    "POST /api/v1/jobs/<int:job_id>/priority": "job.priority",
    "POST /api/v1/jobs/<int:job_id>/reject": "job.reject",
    "POST /api/v1/jobs/<int:job_id>/release": "job.release",
    "GET /api/v1/jobs/<int:job_id>/result.dcm": "job.download",
    "GET /api/v1/jobs/<int:job_id>/result.png": "job.view",
    "GET /api/v1/jobs/<int:job_id>/result16.png": "job.download",
    "POST /api/v1/jobs/<int:job_id>/retract": "job.retract",
    "POST /api/v1/jobs/<int:job_id>/retry": "job.retry",
    "POST /api/v1/jobs/<int:job_id>/send": "job.send",
    "POST /api/v1/jobs/<int:job_id>/share": "share.create",
    "GET /api/v1/jobs/<int:job_id>/source.png": "job.view",
    "POST /api/v1/jobs/bulk": "job.*",
    "POST /api/v1/jobs/search": "jobs.search",
    "GET /api/v1/judgements": "judgement.read",
    "GET /api/v1/judgements.csv": "judgement.read",
    "POST /api/v1/me/password": "password.change",
    "POST /api/v1/me/sessions/<int:session_id>/end": "session.end",
    "POST /api/v1/me/tokens": "token.create",
    "POST /api/v1/me/tokens/<int:token_id>/revoke": "token.revoke",
    "POST /api/v1/pauses": "queue.pause",
    "POST /api/v1/pauses/resume": "queue.resume",
    "POST /api/v1/results.zip": "job.download",
    "POST /api/v1/results/send": "job.send",
    "POST /api/v1/rules/test": "rules.test",
    "POST /api/v1/sessions/<int:session_id>/end": "session.end",
    "POST /api/v1/shares/<int:share_id>/revoke": "share.revoke",
    "POST /api/v1/tokens": "token.create",
    "POST /api/v1/tokens/<int:token_id>/revoke": "token.revoke",
    "POST /api/v1/uploads": "upload.begin",
    "POST /api/v1/uploads/sample": "upload.begin",
    "POST /api/v1/users": "user.add",
    "POST /api/v1/users/<int:user_id>/disable": "user.disable",
    "POST /api/v1/users/<int:user_id>/enable": "user.enable",
    "POST /api/v1/users/<int:user_id>/password": "user.passwd",
    "POST /api/v1/users/<int:user_id>/role": "user.role",
    "POST /api/v1/users/<int:user_id>/sessions/end": "session.end",
    "POST /api/v1/webhooks": "webhook.create",
    "DELETE /api/v1/webhooks/<int:webhook_id>": "webhook.remove",
    "POST /api/v1/webhooks/<int:webhook_id>/disable": "webhook.disable",
    "POST /api/v1/webhooks/<int:webhook_id>/enable": "webhook.enable",
    "POST /api/v1/webhooks/<int:webhook_id>/test": "webhook.test",
    "POST /batches/<int:batch_id>/<action>": "batch.*",
    "POST /chosen/results.zip": "job.download",
    "POST /chosen/send": "job.send",
    "POST /dashboard": "jobs.search",
    "POST /dashboard/retry": "jobs.retry",
    "POST /dicomweb/studies": "stow.store",
    "POST /dicomweb/studies/<study>": "stow.store",
    "GET /dicomweb/studies": "dicomweb.search",
    "GET /dicomweb/series": "dicomweb.search",
    "GET /dicomweb/instances": "dicomweb.search",
    "POST /fetch": "archive.search",
    "POST /fetch/start": "batch.create",
    "GET /jobs/<int:job_id>": "job.view",
    "POST /jobs/<int:job_id>/<any(retry, cancel, release):action>": "job.*",
    "GET /jobs/<int:job_id>/identity": "job.view",
    "POST /jobs/<int:job_id>/identity": "archive.search",
    "POST /jobs/<int:job_id>/identity/pick": "job.identify",
    "POST /jobs/<int:job_id>/judgement": "judgement.put",
    "POST /jobs/<int:job_id>/judgement/withdraw": "judgement.withdraw",
    "POST /jobs/<int:job_id>/priority": "job.priority",
    "POST /jobs/<int:job_id>/send": "job.send",
    "POST /jobs/<int:job_id>/share": "share.create",
    "POST /jobs/<int:job_id>/shares/<int:share_id>/revoke": "share.revoke",
    "GET /queue": "jobs.list",
    "POST /queue": "jobs.search",
    "POST /queue/bulk": "job.*",
    "POST /queue/pause": "queue.*",
    "GET /review/<int:job_id>": "job.view",
    "POST /review/<int:job_id>/reject": "job.reject",
    "POST /review/<int:job_id>/release": "job.release",
    "GET /s/<token>": "share.follow",
    "POST /system/archives/<name>/echo": "archive.echo",
    "POST /system/echo/<name>": "destination.echo",
    "POST /upload": "upload.store",
    "POST /upload/sample": "upload.begin",
}
"""Route to the action of the trail; `*` for one of several."""

SAID_NOTHING: dict[str, str] = {
    "POST /account/language": PREFERENCE,
    "POST /api/v1/me/language": PREFERENCE,
    **dict.fromkeys(
        ("GET /", "GET /login", "GET /login/oidc", "GET /upload", "GET /fetch", "GET /review", "GET /system",
         "GET /conformance", "GET /healthz", "GET /readyz", "GET /metrics", "GET /api/openapi.json",
         "GET /static/<path:filename>", "GET /api/v1/models", "GET /api/v1/system", "GET /api/v1/pauses",
         "GET /api/v1/archives", "GET /api/v1/review", "GET /api/v1/settings", "GET /api/v1/alerts",
         "GET /dashboard", "GET /dashboard/alerts", "GET /api/v1/dashboard", "GET /api/v1/dashboard/history"),
        OWN,
    ),
    **dict.fromkeys(
        ("GET /account", "GET /api/v1/me", "GET /api/v1/me/sessions", "GET /api/v1/me/tokens"), OWN_ACCOUNT
    ),
    **dict.fromkeys(
        ("GET /admin", "GET /admin/audit", "GET /admin/destinations", "GET /admin/models", "GET /admin/rules",
         "GET /admin/sessions", "GET /admin/settings", "GET /admin/tokens", "GET /admin/users",
         "GET /admin/webhooks", "GET /admin/webhooks/<int:webhook_id>", "GET /api/v1/audit",
         "GET /api/v1/audit/seals", "GET /api/v1/sessions", "GET /api/v1/tokens", "GET /api/v1/users",
         "GET /api/v1/webhooks", "GET /api/v1/webhooks/<int:webhook_id>",
         "GET /api/v1/webhooks/<int:webhook_id>/calls"),
        "administration: nothing of patients, and who changes something has an entry",
    ),
    **dict.fromkeys(
        ("GET /api/v1/batches", "GET /api/v1/batches/<int:batch_id>", "GET /batches/<int:batch_id>",
         "GET /uploads/<int:batch_id>", "GET /api/v1/events", "GET /api/v1/jobs/<int:job_id>/log",
         "GET /jobs/<int:job_id>/log", "GET /api/v1/jobs/<int:job_id>/judgements",
         "GET /api/v1/jobs/<int:job_id>/shares"),
        NUMBERS,
    ),
}  # fmt: skip
"""Route to the reason for which it has no entry."""


def routes(app: Flask) -> Iterator[str]:
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"}):
            yield f"{method} {rule.rule}"


def test_every_route_has_its_action_or_a_reason_for_none(app: Flask) -> None:
    known = AUDITED.keys() | SAID_NOTHING.keys()
    there = {one for one in routes(app) if not _retrieves(one)}
    assert there - known == set(), "say in this file what the audit trail tells of these"
    assert known - there == set(), "these routes are gone"
    assert not AUDITED.keys() & SAID_NOTHING.keys()


def test_whatever_changes_something_has_an_entry(app: Flask) -> None:
    silent = {one for one in routes(app) if not one.startswith("GET ")} & SAID_NOTHING.keys()
    assert silent == {"POST /account/language", "POST /api/v1/me/language"}


def _retrieves(route: str) -> bool:
    """WADO-RS and QIDO-RS below a study: each by `webui.dicomweb.resources.note` or `trail.searched`."""
    return route.startswith("GET /dicomweb/studies/<study>")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other roles answer at once: what they are asked is written down, and nothing comes of it."""

    def run(role: str, kind: str, arguments: Any, *, beside: Any = None, **_: Any) -> tuple[int, Any]:
        with services().database.write() as session:
            if beside is not None:
                beside(session)
        return 1, {"ok": True, "studies": [], "message": ""}

    monkeypatch.setattr(errands, "run", run)


@pytest.fixture
def ward(database: Database, anna: Person, store: ObjectStore) -> dict[str, int]:
    """Jobs in several states: `done`, `held`, `failed`, and `queued`."""
    found: dict[str, int] = {}
    for name, uid in (("done", "1.2.3.1"), ("held", "1.2.3.2"), ("failed", "1.2.3.3"), ("queued", "1.2.3.4")):
        found[name] = int(anna.upload((f"{name}.dcm", dicom(uid))).get_json()["jobs"][0]["id"])
        examine(database, store, found[name])
        if name in ("done", "held"):
            finish(database, store, release="review" if name == "held" else "auto")
        elif name == "failed":
            fail(database)
    return found


CALLS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("get", "/api/v1/jobs/{done}", "job.view", {}),
    ("get", "/jobs/{held}", "job.view", {}),
    ("get", "/api/v1/jobs/{queued}/source.png", "job.view", {}),
    ("get", "/review/{failed}", "job.view", {}),
    ("get", "/api/v1/jobs", "jobs.list", {}),
    ("get", "/api/v1/jobs/{done}/result.dcm", "job.download", {}),
    ("get", "/api/v1/audit/export", "audit.export", {}),
    ("get", "/api/v1/judgements", "judgement.read", {}),
    ("get", "/dicomweb/studies?PatientName=A", "dicomweb.search", {}),
    ("get", "/dicomweb/studies/1.9.{done}/metadata", "dicomweb.metadata", {}),
    ("get", "/dicomweb/studies/1.9.{done}", "dicomweb.retrieve", {}),
    ("post", "/api/v1/jobs/search", "jobs.search", {"json": {"patient": "A"}}),
    ("post", "/dashboard", "jobs.search", {"data": {"q": "Somebody"}}),
    ("post", "/api/v1/jobs/{queued}/priority", "job.priority", {"json": {"priority": "stat"}}),
    ("post", "/api/v1/jobs/{queued}/cancel", "job.cancel", {}),
    ("post", "/api/v1/jobs/{failed}/retry", "job.retry", {}),
    ("post", "/api/v1/jobs/bulk", "job.cancel", {"json": {"action": "cancel", "ids": ["{failed}"]}}),
    ("post", "/api/v1/jobs/{held}/judgement", "judgement.put", {"json": {"verdict": "good"}}),
    ("post", "/api/v1/jobs/{held}/judgement/withdraw", "judgement.withdraw", {}),
    ("post", "/api/v1/jobs/{held}/release", "job.release", {}),
    ("post", "/api/v1/jobs/{done}/share", "share.create", {"json": {"days": 1}}),
    ("post", "/api/v1/shares/1/revoke", "share.revoke", {}),
    ("post", "/api/v1/jobs/{done}/send", "job.send", {"json": {"destination": ["pacs"]}}),
    ("post", "/api/v1/results.zip", "job.download", {"json": {"jobs": ["{done}"]}}),
    ("post", "/api/v1/jobs/{done}/retract", "job.retract", {"json": {"reason": "wrong side"}}),
    ("post", "/api/v1/pauses", "queue.pause", {"json": {"what": "intake", "reason": "works"}}),
    ("post", "/api/v1/pauses/resume", "queue.resume", {"json": {"what": "intake"}}),
    ("post", "/api/v1/uploads", "upload.begin", {"json": {}}),
    ("post", "/api/v1/destinations/pacs/echo", "destination.echo", {}),
    ("post", "/api/v1/users", "user.add", {"json": {"name": "bea", "role": "radiologist"}}),
    ("post", "/api/v1/users/3/role", "user.role", {"json": {"role": "admin"}}),
    ("post", "/api/v1/users/3/password", "user.passwd", {}),
    ("post", "/api/v1/users/3/sessions/end", "session.end", {}),
    ("post", "/api/v1/users/3/disable", "user.disable", {}),
    ("post", "/api/v1/users/3/enable", "user.enable", {}),
    ("post", "/api/v1/me/tokens", "token.create", {"json": {"name": "night"}}),
    ("post", "/api/v1/me/tokens/1/revoke", "token.revoke", {}),
    ("post", "/api/v1/webhooks", "webhook.create",
     {"json": {"name": "ris", "url": "http://127.0.0.1:9/x", "states": ["done"]}}),
    ("post", "/api/v1/webhooks/1/disable", "webhook.disable", {}),
    ("post", "/api/v1/webhooks/1/enable", "webhook.enable", {}),
    ("post", "/logout", "logout", {}),
]  # fmt: skip
"""Method, path with jobs of the ward, action, and what is sent; in this order, by an administrator."""


def test_what_is_looked_at_taken_and_changed_is_told_with_who_and_whence(
    quick: None, database: Database, root: Person, ward: dict[str, int]
) -> None:
    missing: list[tuple[str, object, object]] = []
    for method, path, action, sent in CALLS:
        before = newest(database)
        answer = (root.get if method == "get" else root.post)(path.format(**ward), **filled(sent, ward))
        if answer.status_code >= 400:
            missing.append((path, answer.status_code, answer.text))
        answer.close()
        with database.read() as session:
            rows = session.scalars(select(AuditEvent).where(AuditEvent.id > before)).all()
        if not any((row.actor, row.action, row.address) == ("root", action, "127.0.0.1") for row in rows):
            missing.append((path, action, [row.action for row in rows]))
    assert not missing, "\n".join(map(str, missing))


def filled(sent: Any, ward: dict[str, int]) -> Any:
    """What is sent, with the numbers of jobs in their places."""
    if isinstance(sent, dict):
        return {key: filled(value, ward) for key, value in sent.items()}
    if isinstance(sent, list):
        return [filled(value, ward) for value in sent]
    return ward[sent[1:-1]] if isinstance(sent, str) and sent[1:-1] in ward else sent


def newest(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.max(AuditEvent.id))) or 0


def test_the_page_of_the_trail_tells_of_its_seal_and_its_verification(
    root: Person, database: Database
) -> None:
    from db import verification
    from db.seals import Sealer

    assert "none yet" in root.get("/admin/audit").text
    seal = Sealer(database).seal()
    assert seal is not None
    with database.write() as session:
        verification.note(session, "scheduler", verification.verify(database))
    page = root.get("/admin/audit").text
    assert seal.digest in page
    assert "sound" in page
    found = root.get("/api/v1/audit/seals").get_json()
    assert [one["digest"] for one in found["seals"]] == [seal.digest]
    assert found["verified"]["actor"] == "scheduler"
    entry = root.get("/api/v1/audit?limit=1").get_json()["entries"][0]
    assert {"chain", "number", "digest", "detail_sha256"} <= entry.keys()
