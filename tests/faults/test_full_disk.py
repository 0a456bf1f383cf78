"""A full disk harms nothing that was acknowledged, says so at every door, and needs no restart afterwards."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from pydicom import Dataset
from sqlalchemy import select

from db.models import AuditEvent, Job
from db.states import JobState
from tests.faults.doors import begin, jobs, part10, ready, received, send, stow, upload
from tests.faults.fulldisk import Disk, Quota, SmallDisk, TightNode, small_disk
from tests.faults.node import wait_until
from tests.faults.promises import take_stock
from tests.faults.sizes import size
from tests.peers import require

pytestmark = pytest.mark.slow

CYCLES = size(1, 8)
IMAGES = size(2, 12)
"""Sent before each time that the disk fills up, and just when it does."""
LINES = 60
"""Lines that a role may log a minute while there is no room; each refusal one by one would be hundreds."""


@pytest.fixture(params=[pytest.param("small file system", marks=pytest.mark.faults), "quota"])
def tight(request, tmp_path, recorder) -> Iterator[tuple[TightNode, Disk]]:
    """A node, not started yet, on a disk that can be filled."""
    folder = Path(tmp_path) / "node"
    with ExitStack() as stack:
        if request.param == "quota":
            folder.mkdir()
            disk: Disk = Quota(folder, folder / "var")
        else:
            disk = stack.enter_context(small_disk(folder / "var", 64))
        node = TightNode(folder, destination_port=recorder.port)
        node.more = disk.environment
        stack.callback(node.close)
        yield node, disk


def lines_of(text: str) -> Counter[str]:
    """How often each thing was said."""
    said = (json.loads(line).get("event", "") for line in text.splitlines() if line.startswith("{"))
    return Counter(said)


def test_a_full_disk_is_said_at_every_door_and_left_behind_without_a_restart(
    tight, recorder, small_image: Callable[[int], Dataset], tmp_path
):
    node, disk = tight
    token = begin(node)
    before = node.roles()
    numbers = iter(range(2000))
    acknowledged: set[str] = set()

    def bring(count: int) -> Counter[int]:
        statuses: Counter[int] = Counter()
        for _ in range(count):
            ds = small_image(next(numbers))
            status = send(node, ds)
            statuses[status] += 1
            if status == 0x0000:
                acknowledged.add(str(ds.SOPInstanceUID))
        return statuses

    for cycle in range(CYCLES):
        assert set(bring(IMAGES)) == {0x0000}
        disk.fill()  # while they are enhanced
        said_before, began = node.said(), time.monotonic()
        assert set(bring(IMAGES)) == {0xA700}
        wait_until(lambda: ready(node)[0] == 503, 30, "readiness says that there is no room")
        assert "The store takes nothing: " in ready(node)[1]
        for door in (upload, stow):
            status, text = door(node, small_image(next(numbers)), token)
            assert status == 507, text
            assert json.loads(text)["type"] == "urn:cxr-sr:problem:no-room"
        if cycle == 0:
            assert "0xa700" in storescu(node, small_image(next(numbers)), tmp_path).lower()
            assert set(bring(50)) == {0xA700}
            minutes = max(1.0, (time.monotonic() - began) / 60)
            said = lines_of(node.said().removeprefix(said_before))
            assert all(times <= LINES * minutes for times in said.values()), said
        disk.clear()
        wait_until(lambda: ready(node)[0] == 200, 60, "the node is ready again")
        assert set(bring(1)) == {0x0000}

    wait_until(
        lambda: received(node) == acknowledged, 60, "every acknowledged image has its row, and no other"
    )
    wait_until(
        lambda: all(j.state is JobState.DONE for j in jobs(node)), 240, "every image is enhanced and sent"
    )
    assert {job.attempts for job in jobs(node)} == {1}
    assert len(recorder.copies()) == len(acknowledged)
    assert node.roles() == before
    stock = take_stock(node)
    assert (stock.missing, stock.damaged) == (frozenset(), frozenset()), stock
    assert "Traceback" not in node.said()
    assert node.stop() == 0
    with closing(sqlite3.connect(node.folder / "var" / "cxr-sr.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    full = sum(1 for line in node.said().splitlines() if "disk is full" in line or "read or written" in line)
    print(
        f"{CYCLES} times full: {len(acknowledged)} acknowledged, {len(recorder.arrivals)} sent, {full} lines"
    )


def storescu(node: TightNode, ds: Dataset, folder: Path) -> str:
    file = folder / "image.dcm"
    file.write_bytes(part10(ds))
    program = shutil.which("storescu", path="/usr/bin:/usr/local/bin") or require("storescu")
    done = subprocess.run(
        [program, "-d", "-aec", "CXR_SR", "127.0.0.1", str(node.dicom_port), file],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.faults
def test_what_may_be_purged_makes_room_before_anything_is_refused(tmp_path, recorder, small_image):
    folder = Path(tmp_path) / "node"
    with small_disk(folder / "var", 64) as disk:
        node = TightNode(folder, destination_port=recorder.port)
        node.more = {
            "CXR_SR_STORAGE__RESERVE_BYTES": str(8 << 20),
            "CXR_SR_RETENTION__MINIMUM_HOURS": "0",
            "CXR_SR_SCHEDULER__DISK_SECONDS": "0.3",
        }
        try:
            purge_for(node, disk, small_image)
        finally:
            node.close()


def purge_for(node: TightNode, disk: SmallDisk, small_image: Callable[[int], Dataset]) -> None:
    begin(node)
    for number in range(3):
        assert send(node, small_image(number)) == 0x0000
    wait_until(
        lambda: [j.state for j in jobs(node)] == [JobState.DONE] * 3, 240, "three images have come back"
    )
    disk.fill(leave=9 << 20)  # the reserve itself is free still

    def gone() -> bool:
        with node.database.read() as session:
            rows = list(session.scalars(select(Job)))
            return all(job.result.deleted_at and job.source.deleted_at for job in rows)

    wait_until(gone, 60, "what was delivered is purged early")
    assert send(node, small_image(10)) == 0x0000
    disk.fill()
    wait_until(lambda: send(node, small_image(11)) == 0xA700, 30, "nothing more can be purged: it is refused")
    status, text = ready(node)
    assert (status, "The store has no room." in text) == (503, True)
    with node.database.read() as session:
        told = session.scalar(select(AuditEvent).where(AuditEvent.action == "storage.purge-early"))
        assert told is not None
        events = session.get_one(Job, 1).events
        assert "purged-early" in {event.kind for event in events}
    disk.clear()
    wait_until(lambda: ready(node)[0] == 200, 60, "the node is ready again")
    assert send(node, small_image(12)) == 0x0000
    assert node.stop() == 0
