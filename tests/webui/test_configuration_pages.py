"""Settings and their origins, rules tried, destinations tested, models and logs shown to an administrator."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from config import Settings, load_settings
from config.origins import fingerprint
from db import Database, audit, commands, presence
from db.exchange import Document
from db.joblog import JobLog
from db.models import Command
from db.objects import ObjectStore
from tests.webui import jobs
from tests.webui.conftest import Person, dicom
from webui.app import create_app
from webui.markdown import render
from webui.services import KEY

VERDICT = {
    "file": "",
    "action": "enhance",
    "rule": "rest",
    "code": "",
    "reason": "",
    "scale": 2,
    "model": "srgan",
    "priority": "routine",
    "destinations": ["pacs"],
    "release": "auto",
    "forward_original": "never",
    "warnings": [],
    "passed_over": [
        {
            "rule": "portable",
            "entry": "CallingAETitle",
            "wanted": ["ER*"],
            "found": ["WARD"],
            "why": "CallingAETitle is WARD, not ER*",
        }
    ],
}


@contextmanager
def answering(
    database: Database, role: str, answer: Callable[[str, dict[str, Any]], dict[str, Any]]
) -> Iterator[None]:
    """A role that answers its commands while the block runs."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with database.write() as session:
                command = commands.take(session, role)
                if command is not None:
                    commands.answer(session, command.id, answer(command.kind, dict(command.arguments)))
            time.sleep(0.02)

    with presence.Presence(database, role):
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def from_file(tmp_path: Path, database: Database) -> Iterator[tuple[Person, Path]]:
    """An administrator of a node that was started with a file."""
    file = tmp_path / "node.toml"
    file.write_text(
        f'data_dir = "{tmp_path / "var"}"\n[web]\nport = 0\n[alerts]\nurls = ["json://tok3n@host"]\n'
        '[[rules]]\nname = "portable"\nmatch = { CallingAETitle = "ER*" }\n[[rules]]\nname = "rest"\n'
        '[[destinations]]\nname = "web"\nkind = "dicomweb"\nurl = "https://joe:geheim@pacs.example/dicom"\n'
    )
    app = create_app(load_settings(file), database)
    person = Person(app.test_client())
    person.login("root")
    yield person, file
    app.extensions[KEY].broadcaster.close()


def test_settings_say_their_line_and_hide_their_secrets(from_file: tuple[Person, Path]) -> None:
    root, file = from_file
    found = root.get("/api/v1/settings").get_json()
    rows = {row["key"]: row for row in found["settings"]}
    assert found["file"] == str(file)
    assert rows["web.port"]["origin"] == {"kind": "file", "name": str(file), "line": 3}
    assert rows["web.threads"]["origin"]["kind"] == "default"
    assert rows["alerts.urls"]["masked"]
    page = root.get("/admin/settings").text
    assert "file, line 3" in page
    for secret in ("tok3n", "geheim"):
        assert secret not in page + str(found) + root.get("/admin/destinations").text


def test_settings_are_found_by_words_without_a_script(from_file: tuple[Person, Path]) -> None:
    root, _ = from_file
    rows = root.get("/api/v1/settings?q=idle+login").get_json()["settings"]
    assert [row["key"] for row in rows] == ["web.session_idle_minutes"]
    page = root.get("/admin/settings?q=idle+login").text
    assert page.count("data-filter-row") == 1
    assert "No setting matches." in root.get("/admin/settings?q=nonsense").text


def test_a_changed_file_asks_for_a_restart(from_file: tuple[Person, Path], database: Database) -> None:
    root, file = from_file
    before = root.get("/api/v1/settings").get_json()
    assert (before["problem"], before["changed"], before["restart"]) == (None, [], [])
    old = load_settings(file)
    file.write_text(file.read_text().replace("port = 0", "port = 8081"))
    with (
        presence.Presence(database, "worker", {"settings": fingerprint(old)}),
        presence.Presence(database, "sender", {"settings": fingerprint(load_settings(file))}),
    ):
        found = root.get("/api/v1/settings").get_json()
        assert "settings" not in root.get("/api/v1/system").get_json()["roles"][0]["info"]
    assert found["changed"] == ["web.port"]
    assert [role["role"] for role in found["restart"]] == ["worker"]
    assert "a restart is needed for one setting" in root.get("/admin/settings").text


def test_a_file_that_is_wrong_by_now_is_told_before_the_restart(from_file: tuple[Person, Path]) -> None:
    root, file = from_file
    file.write_text("[web]\nprot = 1\n")
    assert "web.prot" in root.get("/api/v1/settings").get_json()["problem"]
    assert "could not be started again" in root.get("/admin/settings").text


def test_rules_are_tried_and_each_says_why_it_does_not_match(
    from_file: tuple[Person, Path], database: Database
) -> None:
    root, _ = from_file
    asked = []

    def worker(kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
        asked.append((kind, arguments))
        return {"ok": True, "message": "", "verdict": VERDICT}

    with answering(database, "worker", worker):
        page = root.post(
            "/admin/rules", data={"job": "", "attributes": '# a note\nModality = "CR"\nPatientID = ZZ9'}
        )
        answer = root.post("/api/v1/rules/test", json={"attributes": {"Modality": "CR"}, "rows": 100})
    assert page.status_code == 200
    assert "Enhanced ×2 by the rule “rest”." in page.text
    assert "CallingAETitle is WARD, not ER*" in page.text
    assert page.text.index("does not match") < page.text.index("decides</span>")
    assert answer.get_json()["passed_over"][0]["entry"] == "CallingAETitle"
    assert asked == [
        ("rules", {"attributes": {"Modality": "CR", "PatientID": "ZZ9"}}),
        ("rules", {"attributes": {"Modality": "CR"}, "rows": 100}),
    ]
    with database.read() as session:
        assert session.query(Command).count() == 0, "what was typed may be about a patient"
        rows, _ = audit.page(session, audit.Filter(action="rules.test"))
        assert "ZZ9" not in str([row.detail for row in rows])
        assert len(rows) == 2


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"attributes": "Modality"}, "Line 1 is not of the form"),
        ({"job": "0"}, "This cannot be tried: job."),
        ({"job": "5"}, "No worker is running"),
    ],
)
def test_what_cannot_be_tried_is_said_on_the_page(root: Person, form: dict[str, str], said: str) -> None:
    page = root.post("/admin/rules", data=form)
    assert page.status_code in (422, 503)
    assert said in page.text


def test_what_the_worker_refuses_to_try_is_said(root: Person, database: Database) -> None:
    with answering(database, "worker", lambda *_: {"ok": False, "message": "There is no such job."}):
        answer = root.post("/api/v1/rules/test", json={"job": 99})
    assert answer.status_code == 422
    assert answer.get_json()["detail"] == "There is no such job."


def test_a_received_object_is_chosen_by_its_job(root: Person, database: Database, store: ObjectStore) -> None:
    number = root.upload(("a.dcm", dicom())).get_json()["jobs"][0]["id"]
    assert f'href="/admin/rules?job={number}"' in root.get("/admin/rules").text
    assert f'value="{number}"' in root.get(f"/admin/rules?job={number}").text


def test_a_test_image_is_sent_by_the_sender_and_its_answer_stays_on_the_page(
    root: Person, database: Database
) -> None:
    said = {"ok": True, "status": "0000", "seconds": 0.21, "message": "stored", "sop_instance_uid": "1.2.3"}
    assert "none sent yet" in root.get("/admin/destinations").text
    with answering(database, "sender", lambda kind, arguments: said | {"asked": [kind, arguments]}):
        answer = root.post("/api/v1/destinations/pacs/test-image")
    assert answer.get_json() == {"destination": "pacs", **said}
    page = root.get("/admin/destinations").text
    assert "arrived" in page
    assert "status 0000: stored" in page
    with database.read() as session:
        [row], _ = audit.page(session, audit.Filter(action="destination.test"))
        assert (row.actor, row.object_id, row.outcome) == ("root", "pacs", "success")


def test_a_test_image_without_a_sender_is_a_failure_that_is_kept(root: Person, database: Database) -> None:
    assert root.post("/api/v1/destinations/pacs/test-image").status_code == 503
    assert root.post("/admin/destinations/pacs/test-image").status_code == 303
    assert "No sender is running" in root.get("/admin/destinations").text
    assert root.post("/api/v1/destinations/elsewhere/test-image").status_code == 404
    assert root.post("/admin/destinations/pacs/echo").status_code == 303


CARD = """\
# Model card: `net`

What it **does**. <script>alert(1)</script> See [the other](other.md), [a page](https://example.org/x),
[a trick](javascript:alert(1)) and ![a picture](https://example.org/p.png).

## Figures

| | b |
| --- | --- |
| 1 | <b>2</b> |
"""


def test_models_are_shown_with_their_cards_and_counts(
    root: Person, anna: Person, database: Database, store: ObjectStore
) -> None:
    assert "No worker has told" in root.get("/admin/models").text
    domain = {"finest_mm": 0.6, "coarsest_mm": 7.0, "shortest_side": 64, "p999": 0.03}
    model = {
        "asked": "net", "name": "net", "version": "3", "digest": "ab" * 32, "scales": [2, 4],
        "default": True, "problem": None, "domain": domain, "card": CARD,
    }  # fmt: skip
    broken = {"asked": "/x", "name": "/x", "default": False, "problem": "There is no model file.", "card": ""}
    with database.write() as session:
        session.add(Document(name="models", content={"models": [model, broken]}))
    anna.upload(("a.dcm", dicom()))
    jobs.finish(database, store)
    found = anna.get("/api/v1/models").get_json()
    assert [(row["name"], row["version"], row["jobs"]) for row in found["used"]] == [("srgan", "1", 1)]
    page = root.get("/admin/models").text
    assert "ab" * 32 in page
    assert "pixels of 0.6 to 7.0 mm" in page
    assert "There is no model file." in page
    assert "<h3>Figures</h3>" in page
    assert "Model card: " not in page
    assert "<script>alert" not in page


def test_markdown_lets_nothing_through_that_a_browser_would_run_or_fetch() -> None:
    html = render(CARD, below=1)
    assert "&lt;script&gt;" in html
    assert "<b>2" not in html
    assert "javascript" not in html
    assert "<img" not in html
    assert html.count("<a ") == 1
    assert 'href="https://example.org/x"' in html
    assert '<div class="wide" tabindex="0">' in html
    assert "<h2>Model card" in html
    assert html.count("<th>") == 1, "a corner heads nothing"


def test_the_log_of_a_job_is_read_page_by_page(root: Person, anna: Person, database: Database) -> None:
    number = anna.upload(("a.dcm", dicom())).get_json()["jobs"][0]["id"]
    with JobLog(database, "worker", every=0) as log:
        log({"event": "job planned", "job": number, "rule": "<default>", "logger": "x"})
        log({"event": "job broke", "job": number, "level": "error"})
    found = root.get(f"/api/v1/jobs/{number}/log?limit=1").get_json()
    assert [line["event"] for line in found["lines"]] == ["job broke"]
    older = root.get(f"/api/v1/jobs/{number}/log?cursor={found['next']}").get_json()
    assert [line["event"] for line in older["lines"]] == ["job planned"]
    page = root.get(f"/jobs/{number}/log").text
    assert page.index("job planned") < page.index("job broke")
    assert "&lt;default&gt;" in page
    assert root.get("/api/v1/jobs/999/log").status_code == 404
    assert f'href="/jobs/{number}/log"' in root.get(f"/jobs/{number}").text
    assert f'href="/jobs/{number}/log"' not in anna.get(f"/jobs/{number}").text


def test_settings_of_a_program_are_shown_too(root: Person, settings: Settings) -> None:
    found = root.get("/api/v1/settings").get_json()
    assert found["file"] is None
    assert "given at the start" in root.get("/admin/settings").text
