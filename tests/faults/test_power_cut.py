"""A power cut at any moment takes nothing that was acknowledged, and every sync in the code is needed.

A real node is recorded at work, by strace, from its first start to its end. The recording is played to a
strict disk and stopped at many moments; what is left must hold all that had been promised by then, and the
node must go on from it.
"""

from __future__ import annotations

import filecmp
import hashlib
import io
import json
import os
import re
import shutil
import socket
import sqlite3
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom.dsutils import encode
from sqlalchemy import func, select

from db.models import Delivery, Job, Result, Source
from db.states import DeliveryState, JobState
from tests.faults import tracing
from tests.faults.disk import KINDS, Luck, lay_out
from tests.faults.modality import Modality
from tests.faults.node import Node, RecordingArchive, wait_until
from tests.faults.powercut import END, Recording, after_cuts, harm
from tests.faults.replay import Replay, promises
from tests.faults.sizes import LONG, size
from tests.peers import ROOT, require

pytestmark = [pytest.mark.slow, pytest.mark.peer("strace")]

IMAGES = int(os.environ.get("CUT_IMAGES", size(2, 12)))
BY_WEB = int(os.environ.get("CUT_BY_WEB", size(1, 4)))
CUTS = size(12, 150)
SEEDS = size(1, 4)
RESTARTS = int(os.environ.get("CUT_RESTARTS", size(1, 12)))
"""Cuts from which a whole node is started; each costs as long as its start."""
ROLES = () if LONG else ("receiver", "worker", "sender")
"""Roles that go on after a cut; none named: all."""

MORE = '[audit]\nmessages = "file"\n'
ENDED = {JobState.DONE, JobState.SKIPPED}
Cut = Callable[[int], Dataset]

LUCKS = [(kind, seed) for kind in KINDS for seed in range(SEEDS if kind in {"the first", "some"} else 1)]

NEEDED = {
    "name of the data folder",
    "names in the data folder",
    "cxr-sr.db",
    "cxr-sr.db-wal",
    "folder of a kind of objects",
    "folder below a kind",
    "bytes of an object",
    "name of an object",
    "bytes of a backup",
    "name of a backup",
    "audit.xml",
}
"""What is synced, as `tests.faults.replay.group` names it."""

NEEDLESS = {
    "cxr-sr.db-journal": "SQLite's own, of a database just made, before anybody was told a thing",
    "journal of a backup": "SQLite's own, of a draft that is thrown away after a cut",
}
"""Syncs without which nothing that was promised is lost, and why they are there all the same."""


class Program:
    """Something with a token that speaks HTTP to the node."""

    def __init__(self, node: Node, token: str) -> None:
        self.address, self.token = f"http://127.0.0.1:{node.web_port}", token

    def upload(self, content: bytes) -> int:
        """Leave a file at the door; the id of its job."""
        head = 'Content-Disposition: form-data; name="file"; filename="a.dcm"'
        answer = self._ask("/api/v1/jobs", self._part(head, content), "multipart/form-data; boundary=limit")
        return int(answer["jobs"][0]["id"])

    def store(self, content: bytes) -> None:
        """STOW-RS of one instance."""
        kind = 'multipart/related; type="application/dicom"; boundary=limit'
        answer = self._ask("/dicomweb/studies", self._part("Content-Type: application/dicom", content), kind)
        assert "00081198" not in answer

    def all_ended(self, number: int) -> bool:
        """Whether there are so many jobs, or more, and all of them have come to their end."""
        time.sleep(0.3)  # whoever polls must not be the load
        states = [job["state"] for job in self._ask("/api/v1/jobs?limit=100")["jobs"]]
        return len(states) >= number and set(states) <= {"done", "skipped"}

    def _part(self, head: str, content: bytes) -> bytes:
        return f"--limit\r\n{head}\r\n\r\n".encode() + content + b"\r\n--limit--\r\n"

    def _ask(self, path: str, body: bytes | None = None, kind: str = "") -> dict[str, Any]:
        head = {"Authorization": f"Bearer {self.token}", "Accept": "application/dicom+json, application/json"}
        head |= {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(self.address + path, data=body, headers=head)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


@pytest.fixture(scope="module")
def archive() -> Iterator[RecordingArchive]:
    made = RecordingArchive()
    yield made
    made.close()


@pytest.fixture(scope="module")
def recording(tmp_path_factory, archive, small_image) -> Recording:
    """A node from its very first start: images by DICOM and by upload, enhanced, delivered, and its end."""
    folder = tmp_path_factory.mktemp("recorded")
    return record(folder, archive, small_image, images=IMAGES, by_web=BY_WEB)


def record(
    folder: Path, archive: RecordingArchive, small_image: Cut, *, images: int, by_web: int, path: str = ""
) -> Recording:
    """A node at work under strace from its very first start: so many images by C-STORE, one of them twice, so
    many by upload and by STOW-RS. `path` goes before its PYTHONPATH.
    """
    trace, token_file = folder / "trace", folder / "token"
    node = Node(folder / "node", destination_port=archive.port, more=MORE)
    begin = [sys.executable, str(Path(__file__).with_name("begin_with_token.py")), node.database.url]
    node.under = ["env", f"PYTHONPATH={path or ROOT}:{ROOT}", *tracing.command(require("strace"), trace)]
    node.under += [*begin, str(token_file)]
    every = [small_image(number) for number in range(images + 2 * by_web)]
    by_dicom, uploaded, stored = every[:images], every[images : images + by_web], every[images + by_web :]
    uploads: dict[int, str] = {}
    node.start()
    modality = Modality(node.dicom_port, [*by_dicom, by_dicom[0]])
    try:
        wait_until(node.receives, 180, "the receiver listens")
        modality.allow(images + 1)
        modality.start()
        wait_until(lambda: web_listens(node), 180, "the web role listens")
        program = Program(node, token_file.read_text())
        for ds in uploaded:
            content = file_of(ds)
            uploads[program.upload(content)] = hashlib.sha256(content).hexdigest()
        for ds in stored:
            program.store(file_of(ds))
        wait_until(lambda: not modality.is_alive(), 120, "the images are acknowledged")
        wait_until(lambda: program.all_ended(len(every)), 120 + 40 * len(every), "every job has ended")
        assert node.stop() == 0
        wait_until(lambda: ended(trace, node.pid), 60, "strace has written everything")
    finally:
        modality.give_up.set()
        modality.join(30)
        node.close()
    sent = {str(ds.SOPInstanceUID): data_set(ds) for ds in every}
    return read_back(node, trace, archive, images=sent, uploads=uploads)


def read_back(node: Node, trace: Path, archive: RecordingArchive, **known: Any) -> Recording:
    """The recording of a node that has come to its end; its database is left untouched."""
    calls = list(tracing.read(trace, node.folder))
    audit = known["before"] / "var" / "audit.xml" if "before" in known else None
    said = promises(
        calls,
        dicom_port=node.dicom_port,
        web_port=node.web_port,
        archive_port=archive.port,
        told=audit.stat().st_size if audit is not None and audit.exists() else 0,
    )
    untouched = f"file:{node.folder / 'var' / 'cxr-sr.db'}?immutable=1"
    with closing(sqlite3.connect(untouched, uri=True)) as connection:
        results = dict(connection.execute("SELECT sop_instance_uid, sha256 FROM result").fetchall())
    earlier = known.pop("promised", [])
    return Recording(node.folder, calls, [*earlier, *said], results=results, copies=archive.copies(), **known)


def file_of(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def data_set(ds: Dataset) -> bytes:
    """The bytes of an image as its modality sends them."""
    encoded = encode(ds, is_implicit_vr=False, is_little_endian=True)
    assert encoded is not None
    return encoded


def web_listens(node: Node) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", node.web_port)) == 0


def ended(trace: Path, pid: int) -> bool:
    """Whether strace has seen the last process go: the supervisor goes after all the others."""
    with trace.open("rb") as stream:
        stream.seek(max(0, trace.stat().st_size - 4096))
        lines = stream.read().splitlines()
    return any(re.match(rb"%d +\+\+\+" % pid, line) for line in lines)


def test_the_recording_is_whole(recording, tmp_path):
    """Played without a cut it gives the very files that the node left, so nothing was missed."""
    replay = Replay(recording.calls, recording.root)
    lay_out(replay.until(END), tmp_path, Luck("everything"))
    left = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    real = recording.root / "var"
    there = {path.relative_to(recording.root) for path in real.rglob("*") if path.is_file()}
    assert left == {path for path in there if not path.name.endswith("-shm")}
    for path in left:
        assert filecmp.cmp(tmp_path / path, recording.root / path, shallow=False), path
    kinds = [promise.kind for promise in recording.promises]
    assert kinds.count("image") >= IMAGES + 1 + BY_WEB
    assert kinds.count("job") == BY_WEB
    assert kinds.count("sent") >= IMAGES
    assert "audit" in kinds
    print(f"{replay.operations} operations recorded, synced {replay.synced}; {len(kinds)} promises")


@pytest.fixture
def left(tmp_path) -> Iterator[Path]:
    """Where what is left is laid out, hundreds of times: in memory where there is room."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="cxr-sr-cut-", dir=memory if os.access(memory, os.W_OK) else tmp_path
    ) as folder:
        yield Path(folder) / "left"


def test_no_cut_takes_anything_that_was_promised(recording, left):
    harmed, tried = [], 0
    for cut, luck, folder in after_cuts(recording, left, recording.cuts(CUTS), LUCKS):
        tried += 1
        harmed += [f"cut at {cut}, {luck}: {what}" for what in harm(recording, cut, folder)]
    assert not harmed
    print(f"{tried} cuts of {IMAGES + 2 * BY_WEB} images: nothing lost")


def test_the_loss_of_any_one_sync_is_noticed(recording, left):
    replay = Replay(recording.calls, recording.root)
    replay.until(END)
    assert set(replay.synced) >= NEEDED | NEEDLESS.keys()
    for group in sorted(set(replay.synced) if LONG else NEEDED):
        found = first_harm(recording, left, recording.cuts(CUTS), group)
        print(f"without syncing {group!r}: {found or 'nothing is lost'}")
        assert found or group in NEEDLESS, group


def first_harm(recording: Recording, target: Path, cuts: list[int], group: str) -> str:
    """What is lost, at the first cut where something is, when that group is never synced."""
    for cut, luck, folder in after_cuts(recording, target, cuts, LUCKS, ignored=group.__eq__):
        if harmed := harm(recording, cut, folder):
            return f"{harmed[0]} (cut at {cut}, {luck})"
    return ""


def test_a_node_goes_on_from_what_a_cut_has_left(recording, archive, tmp_path):
    cuts = recording.cuts(RESTARTS)
    for number in range(RESTARTS):
        cut = cuts[(2 * number + 1) * len(cuts) // (2 * RESTARTS)]
        folder = tmp_path / f"left-{number}"
        folder.mkdir()
        replay = Replay(recording.calls, recording.root)
        lay_out(replay.until(cut), folder, Luck(KINDS[number % len(KINDS)], number))
        goes_on(recording, cut, folder, archive)
        shutil.rmtree(folder)


def goes_on(recording: Recording, cut: int, folder: Path, archive: RecordingArchive) -> None:
    """Start a node in `folder` and wait until every promise of before the cut has been kept."""
    promised = recording.promised(cut)
    images = {promise.what for promise in promised if promise.kind == "image"}
    jobs = {int(promise.what) for promise in promised if promise.kind == "job"}
    node = Node(folder, destination_port=archive.port, more=MORE)
    arrived = len(archive.arrivals)
    node.start(*ROLES)
    try:
        wait_until(node.receives, 180, "the receiver listens again")

        def everything_is_done() -> bool:
            with node.database.read() as session:
                open_jobs = session.scalar(select(func.count()).where(Job.state.not_in(ENDED)))
                known = set(session.scalars(select(Source.sop_instance_uid)))
                return not open_jobs and images <= known and jobs <= set(session.scalars(select(Job.id)))

        wait_until(everything_is_done, 180, "every acknowledged image is done")
        with node.database.read() as session:
            states = set(session.scalars(select(Delivery.state)))
            results = set(session.scalars(select(Result.sop_instance_uid)))
        assert states <= {DeliveryState.STORED}
        assert {promise.what for promise in promised if promise.kind == "sent"} <= results
        assert node.stop() == 0
    finally:
        node.close()
    assert not harm(recording, cut, folder)
    # what the recorded node sent after the cut never happened
    before = {promise.what for promise in promised if promise.kind == "sent"}
    copies = {uid: set(recording.copies[uid]) for uid in before}
    for uid, digest in archive.arrivals[arrived:]:
        copies.setdefault(uid, set()).add(digest)
    assert not {uid for uid, digests in copies.items() if len(digests) > 1}
    assert len(copies) >= len(images)


@pytest.mark.faults
def test_a_second_cut_while_the_node_recovers_takes_nothing_either(recording, archive, tmp_path, left):
    cuts = recording.cuts(CUTS)
    cut = cuts[len(cuts) // 2]
    lay_out(Replay(recording.calls, recording.root).until(cut), make(tmp_path / "node"), Luck("some", 1))
    shutil.copytree(tmp_path / "node", tmp_path / "before")
    promised = [replace(promise, at=-1) for promise in recording.promised(cut) if promise.kind != "audit"]
    jobs = len({promise.what for promise in promised if promise.kind in {"image", "job"}})
    trace = tmp_path / "trace"
    node = Node(tmp_path / "node", destination_port=archive.port, more=MORE)
    node.under = tracing.command(require("strace"), trace)
    node.start()
    try:
        wait_until(lambda: web_listens(node), 180, "the web role listens again")
        program = Program(node, (recording.root.parent / "token").read_text())
        wait_until(lambda: program.all_ended(jobs), 400, "every job has ended")
        assert node.stop() == 0
        wait_until(lambda: ended(trace, node.pid), 60, "strace has written everything")
    finally:
        node.close()
    known = {"images": recording.images, "uploads": recording.uploads, "before": tmp_path / "before"}
    again = read_back(node, trace, archive, promised=promised, **known)
    # what was sent before the first cut is the same for ever; what never was may have been made anew
    sent = {promise.what for promise in promised if promise.kind == "sent"}
    again.results.update({uid: recording.results[uid] for uid in sent})
    found, tried = [], 0
    for position, luck, folder in after_cuts(again, left, again.cuts(CUTS), LUCKS):
        tried += 1
        found += [f"second cut at {position}, {luck}: {what}" for what in harm(again, position, folder)]
    assert not found
    print(f"{tried} second cuts while the node recovers from the first: nothing lost")


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


MUTANTS = {
    "folders are not synced": "os.path.isdir",
    "files are not synced": "os.path.isfile",
    "the store's own folders are not synced": "os.path.basename(os.path.dirname(path)) == 'objects' and bool",
}
"""What `os.fsync` leaves out in the code of the node: a function of the path."""


@pytest.mark.faults
@pytest.mark.parametrize("left_out", MUTANTS)
def test_a_node_whose_code_leaves_out_a_sync_is_found_out(left_out, archive, small_image, tmp_path, left):
    """What the replay finds without a kind of sync, it finds when the code has none."""
    mutant = tmp_path / "mutant"
    mutant.mkdir()
    mutant.joinpath("sitecustomize.py").write_text(f"""
import os, os.path
sync = os.fsync
def fsync(descriptor):
    path = os.readlink(f"/proc/self/fd/{{descriptor}}")
    if not ({MUTANTS[left_out]}(path)):
        sync(descriptor)
os.fsync = fsync
""")
    recording = record(tmp_path, archive, small_image, images=2, by_web=0, path=str(mutant))
    found = first_harm(recording, left, recording.cuts(20), "none of them")
    print(f"{left_out}: {found}")
    assert found
