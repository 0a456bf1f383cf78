"""Names and identifiers that go through a real node stay where they belong, and its files are its own.

One story is told to one node: images with marked attributes are received, uploaded and stored by DICOMweb, a
broken one among them; they are searched for, looked at, taken and delivered, and a destination is dead. Then
every place that others read is searched for the marks.
"""

from __future__ import annotations

import io
import re
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from pydicom import Dataset, dcmwrite
from pydicom.uid import generate_uid
from pynetdicom import AE
from sqlalchemy import inspect, select, text

from db import people, verification
from db.models import AuditEvent, Job, JobEvent
from db.states import JOB_FINISHED, JobState
from tests.faults.node import Node, RecordingArchive, free_port, wait_until

MARK, BORN = "Qzx", "18870413"
"""In every planted word, and the planted date of birth."""
PLANTED = re.compile(rf"{MARK}|{BORN}|1887-04-13|13\.0?4\.1887".encode(), re.IGNORECASE)
PASSWORD = "correct horse battery"


@dataclass
class Story:
    """What was heard of the node while it ran."""

    node: Node
    places: dict[str, bytes] = field(default_factory=dict)
    """Whatever others read, by what it is."""
    limits: dict[str, str] = field(default_factory=dict)
    """Of each process, its limits; of each its environment is among the places."""
    jobs: list[JobState] = field(default_factory=list)


def planted(ds: Dataset, number: int) -> Dataset:
    """The image as of a patient whose every word is marked."""
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = f"{MARK}name^Eva", f"{MARK}id{number}", BORN
    ds.OtherPatientIDs, ds.PatientAddress = f"{MARK}other", f"{MARK}street"
    ds.AccessionNumber, ds.StudyID = f"{MARK}acc{number}", f"{MARK}sid"
    ds.StudyDescription, ds.SeriesDescription = f"{MARK}study", f"{MARK}series"
    ds.InstitutionName, ds.ReferringPhysicianName = f"{MARK}house", f"{MARK}doctor"
    ds.PatientComments, ds.StationName = f"{MARK}comment", f"{MARK}station"
    ds.StudyInstanceUID = generate_uid(entropy_srcs=["planted", str(number)])
    return ds


def file_of(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


class Ear(BaseHTTPRequestHandler):
    """Takes webhooks and alerts."""

    heard: list[bytes]

    def do_POST(self) -> None:
        self.heard.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def ear() -> Iterator[ThreadingHTTPServer]:
    Ear.heard = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(30)


@pytest.fixture(scope="module")
def story(tmp_path_factory, small_image, ear) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("planted")
    (folder / "tmp").mkdir()
    recorder = RecordingArchive()
    hearing = f"http://127.0.0.1:{ear.server_address[1]}"
    node = Node(folder / "node", destination_port=recorder.port, more=SETTINGS.format(
        hearing=hearing.replace("http", "json"), dead=free_port()
    ))  # fmt: skip
    environment = node.environment()
    node.environment = lambda: {**environment, "TMPDIR": str(folder / "tmp")}  # type: ignore[method-assign]
    made = Story(node)
    try:
        node.start()
        wait_until(node.receives, 120, "the receiver listens")
        with node.database.write() as session:
            people.add_user(session, "anna", "admin", PASSWORD)
        _tell(made, small_image, hearing)
        made.places["log"] = node.said().encode()
        node.stop(120)
    finally:
        node.close()
        recorder.close()
    made.places["log"] = node.said().encode()
    for path in (folder / "tmp").rglob("*"):
        if path.is_file():
            made.places[f"temporary file {path.name}"] = path.read_bytes()
    yield made
    node.database.close()


SETTINGS = """
default = true
[[destinations]]
name = "dead"
ae_title = "DEAD"
host = "127.0.0.1"
port = {dead}
default = true
[[archives]]
name = "silent"
ae_title = "SILENT"
host = "127.0.0.1"
port = {dead}
[[rules]]
name = "urgent"
priority = "stat"
[rules.match]
InstitutionName = "Qzxhouse*"
[log]
level = "debug"
[alerts]
urls = ["{hearing}"]
failed_jobs = 1
check_seconds = 1
[audit]
messages = "none"
"""


def _tell(story: Story, small_image: Any, hearing: str) -> None:
    node, base = story.node, f"http://127.0.0.1:{story.node.web_port}"
    images = [planted(small_image(number), number) for number in range(4)]
    _send(node, images[0])
    session = requests.Session()
    wait_until(lambda: _up(session, base), 120, "the pages answer")
    session.post(f"{base}/login", data={"name": "anna", "password": PASSWORD}, headers={"Origin": base})
    session.headers["X-CSRF-Token"] = session.get(f"{base}/api/v1/me").json()["csrf_token"]
    stream = threading.Thread(target=_listen, args=(story, base, session.cookies.get_dict()))
    stream.start()
    _bring(session, base, images, hearing)
    _wait(node)
    _look(story, session, base)
    _of_processes(story)
    wait_until(lambda: any(b"failed" in one for one in Ear.heard), 60, "an alert")
    stream.join(60)
    session.close()
    story.places["webhooks and alerts"] = b"\n".join(Ear.heard)


def _up(session: requests.Session, base: str) -> bool:
    try:
        return session.get(f"{base}/healthz", timeout=10).ok
    except requests.RequestException:
        return False


def _send(node: Node, ds: Dataset) -> None:
    ae = AE(ae_title="MODALITY")
    ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
    assoc = ae.associate("127.0.0.1", node.dicom_port, ae_title="CXR_SR")
    assert assoc.is_established
    assert assoc.send_c_store(ds).Status == 0
    assoc.release()


def _bring(session: requests.Session, base: str, images: list[Dataset], hearing: str) -> None:
    """Upload, store by STOW-RS, a picture with typed names, and files that are broken."""
    hook = {"name": "ris", "url": f"{hearing}/hook", "states": ["done", "failed", "skipped"]}
    answer = session.post(f"{base}/api/v1/webhooks", json=hook)
    assert answer.status_code == 201, answer.text
    whole = file_of(images[1])
    names = {"PatientName": f"{MARK}typed^Eva", "PatientID": f"{MARK}typedid", "PatientBirthDate": BORN}
    for name, content, more in (
        (f"{MARK}file.dcm", whole, {}),
        (f"{MARK}broken.dcm", file_of(images[2])[:-1500], {}),
        (f"{MARK}picture.png", _png(), names),
        (f"{MARK}nonsense.txt", f"{MARK}inside".encode(), {}),
    ):
        session.post(f"{base}/api/v1/jobs", files={"file": (name, content)}, data=more)
    part = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + file_of(images[3]) + b"\r\n--x--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=x'
    session.post(f"{base}/dicomweb/studies", data=part, headers={"Content-Type": kind})


def _png() -> bytes:
    import numpy as np
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((np.arange(64 * 64) % 251).reshape(64, 64).astype("uint8")).save(buffer, "PNG")
    return buffer.getvalue()


def _wait(node: Node) -> None:
    """Until every job ended, but for what waits for the dead destination."""
    ended = {*JOB_FINISHED, JobState.DELIVERING}

    def quiet() -> bool:
        with node.database.read() as session:
            states = session.scalars(select(Job.state)).all()
        return len(states) >= 5 and all(state in ended for state in states)

    wait_until(quiet, 240, "every image is seen to")


def _look(story: Story, session: requests.Session, base: str) -> None:
    """Every page and many a wrong request; addresses, not bodies, are for others to read."""
    with story.node.database.read() as reading:
        jobs = list(reading.scalars(select(Job.id)))
        story.jobs = list(reading.scalars(select(Job.state)))
    asked: list[tuple[str, str, dict[str, Any]]] = [("GET", f"/{path}", {}) for path in PAGES]
    asked += [("GET", path.format(job), {}) for job in jobs for path in OF_JOB]
    asked += [
        ("POST", "/queue", {"data": {"text": f"{MARK}name"}}),
        ("POST", "/dashboard", {"data": {"q": f"{MARK}acc0"}}),
        ("POST", "/api/v1/jobs/search", {"json": {"patient": f"{MARK}name"}}),
        ("POST", "/api/v1/jobs/search", {"json": {"patient": f"{MARK}name", "state": f"{MARK}state"}}),
        ("POST", "/api/v1/jobs/search", {"data": f'{{"patient": "{MARK}'}),
        ("POST", "/api/v1/archives/silent/search", {"json": {"name": f"{MARK}find"}}),
        ("POST", "/fetch", {"data": {"archive": "silent", "name": f"{MARK}find"}}),
        ("POST", f"/api/v1/jobs/{jobs[0]}/identity", {"json": {"patient": f"{MARK}pick"}}),
        ("GET", f"/dicomweb/studies?PatientName={MARK}*", {}),
        ("GET", f"/dicomweb/studies?PatientNme={MARK}*", {}),
        ("GET", f"/jobs/{MARK}", {}),
        ("GET", f"/api/v1/{MARK}", {}),
        ("POST", f"/api/v1/users/{MARK}", {}),
    ]
    for number, (method, path, more) in enumerate(asked):
        answer = session.request(method, base + path, allow_redirects=False, timeout=60, **more)
        where = f"{number} {method} {path}"
        found = re.findall(rb'(?:href|src|action|formaction)="([^"]*)"', answer.content)
        story.places[f"links of {where}"] = b"\n".join(found)
        story.places[f"Location of {where}"] = answer.headers.get("Location", "").encode()
        if answer.status_code >= 400 and path != "/fetch":  # that form shows again what was typed into it
            story.places[f"error {answer.status_code} of {where}"] = answer.content
        assert answer.status_code < 500 or answer.status_code in (502, 503, 504), (where, answer.text[:500])
    story.places["metrics"] = session.get(f"{base}/metrics").content
    story.places["readyz"] = session.get(f"{base}/readyz").content
    story.places["system"] = session.get(f"{base}/api/v1/system").content
    exported = session.get(f"{base}/api/v1/audit/export?format=json").content
    story.places["audit export"] = exported
    assert b"jobs.search" in exported


PAGES = (
    "", "queue", "dashboard", "review", "upload", "fetch", "system", "account", "admin", "admin/audit",
    "admin/users", "admin/sessions", "admin/judgements", "admin/webhooks", "dashboard/alerts",
    "api/v1/alerts", "conformance",
)  # fmt: skip
OF_JOB = (
    "/jobs/{}", "/jobs/{}/log", "/jobs/{}/identity", "/review/{}", "/api/v1/jobs/{}/result.dcm",
    "/api/v1/jobs/{}/source.png", "/api/v1/jobs/{}/result.png", "/api/v1/jobs/{}/compare.png",
)  # fmt: skip


def _listen(story: Story, base: str, cookies: dict[str, str]) -> None:
    """Server-Sent Events from the first one on."""
    heard = b""
    try:
        with requests.get(
            f"{base}/api/v1/events", cookies=cookies, headers={"Last-Event-ID": "1"}, stream=True, timeout=20
        ) as stream:
            for chunk in stream.iter_content(None):
                heard += chunk
                if heard.count(b"data:") >= 12:
                    break
    except requests.RequestException:
        pass  # quiet for long: what came is what there was
    story.places["events"] = heard


def _of_processes(story: Story) -> None:
    """What the system tells anybody of our processes, children of the roles included."""
    for name, number in {"supervisor": story.node.pid, **story.node.roles()}.items():
        here = Path(f"/proc/{number}")
        story.limits[name] = (here / "limits").read_text()
        for what in ("cmdline", "environ"):
            story.places[f"{what} of {name}"] = (here / what).read_bytes()


def test_the_story_was_told_to_its_end(story: Story) -> None:
    """Else the searches below search nothing."""
    assert JobState.FAILED in story.jobs
    assert JobState.DELIVERING in story.jobs
    assert story.places["events"].count(b"data:") >= 5
    assert story.places["webhooks and alerts"].count(b"\n") >= 3
    assert b"debug" in story.places["log"]
    with story.node.database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM patient WHERE name LIKE 'Qzx%'"))
    assert sum("error 4" in place for place in story.places) >= 5
    assert any(name.startswith("error 50") for name in story.places), "the silent archive was searched"


def test_no_name_and_no_identifier_leaves_the_node_where_others_read(story: Story) -> None:
    asked = re.compile(rf"(?:of|GET|POST) \S*{MARK}|PatientNm?e={MARK}")
    found = {}
    for place, content in story.places.items():
        if not asked.search(place) and (hit := PLANTED.search(content)):
            found[place] = content[max(0, hit.start() - 80) : hit.end() + 40]
    assert found == {}


def test_what_the_database_keeps_for_long_names_nobody(story: Story) -> None:
    """Audit trail, events, logs of jobs, alerts, calls of webhooks: all but what images are known by."""
    found: dict[str, str] = {}
    with story.node.database.read() as session:
        tables = inspect(session.connection()).get_table_names()
        for name in set(tables) - BELONGS:
            for row in session.execute(text(f"SELECT * FROM {name}")):
                if hit := PLANTED.search(str(tuple(row)).encode()):
                    found.setdefault(name, str(tuple(row))[max(0, hit.start() - 60) : hit.end() + 30])
    assert found == {}
    assert {"audit_event", "job_event", "log_line", "alert", "webhook_call", "job"} <= set(tables)


BELONGS = {"patient", "patient_word", "study", "series", "source", "result", "command"}
"""Tables by which images are found; a search of an archive is a command and forgotten after 15 minutes."""


def test_no_name_is_in_the_name_of_a_file(story: Story) -> None:
    everything = [str(path.relative_to(story.node.folder)) for path in story.node.folder.rglob("*")]
    assert [name for name in everything if PLANTED.search(name.encode())] == []
    assert len(everything) > 20


def test_files_are_for_the_service_alone(story: Story) -> None:
    data = story.node.folder / "var"
    open_to_others = {
        str(path.relative_to(data)): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in [data, *data.rglob("*")]
        if stat.S_IMODE(path.lstat().st_mode) & 0o077
    }
    assert open_to_others == {}
    kinds = {path.suffix for path in data.rglob("*")}
    assert {".db", ".dcm", ".png"} <= kinds
    assert list((data / "backups").iterdir())


def test_no_process_leaves_its_memory_behind_in_a_crash(story: Story) -> None:
    assert set(story.limits) == {"supervisor", "receiver", "worker", "sender", "web", "scheduler"}
    for name, limits in story.limits.items():
        [line] = [one for one in limits.splitlines() if one.startswith("Max core file size")]
        assert line.split()[-3:-1] == ["0", "0"], name


def test_the_trail_of_the_story_is_whole_and_sealed(story: Story) -> None:
    report = verification.verify(story.node.database)
    assert report.findings == []
    assert report.seals >= 1
    assert report.unsealed <= 12, "an orderly stop seals"
    heads = re.findall(rb'"?digest"?[:=] ?"?([0-9a-f]{64})', story.places["log"])
    assert str(report.head).encode() in heads, "the log has the last seal"
    with story.node.database.read() as session:
        said = {row.action for row in session.scalars(select(AuditEvent))}
        assert session.scalars(select(JobEvent.id).limit(1)).first() is not None
    assert {"node.start", "dimse.store", "upload.store", "stow.store", "login", "audit.seal"} <= said
