"""Pauses at the doors: what modalities are told, and what archives do not get meanwhile."""

from __future__ import annotations

import subprocess
import threading
import time
from datetime import timedelta

import pytest
from pydicom import dcmread

from config import Destination
from db import pauses
from db.objects import LocalStore
from db.states import DeliveryState, JobState
from db.types import utcnow
from pacs_node.archive import Archive
from tests.pacs_node.nodes import (
    PATIENT,
    associated,
    eventually,
    jobs,
    make_database,
    make_object,
    make_settings,
    receiving,
    store_object,
)
from tests.pacs_node.office import Office
from tests.peers import ROOT, require

S = DeliveryState


def stand_still(database, what):
    with database.write() as session:
        pauses.pause(session, what, actor="root")


def go_on(database, what):
    with database.write() as session:
        pauses.resume(session, what)


@pytest.fixture
def node(tmp_path):
    with receiving(make_settings(tmp_path, dicom=PATIENT)) as node:
        yield node


def test_paused_intake_tells_a_modality_to_come_back_and_keeps_nothing_of_it(node):
    ds = make_object()
    stand_still(node.database, pauses.INTAKE)
    with associated(node.port) as assoc:
        assert store_object(assoc, ds) == (0xA700, "intake is paused, send again later")
        assert eventually(lambda: not node.spooled)
        assert jobs(node) == []
        assert list(node.store.keys(utcnow() + timedelta(hours=1))) == []
        go_on(node.database, pauses.INTAKE)
        assert store_object(assoc, ds) == (0x0000, None)
    assert [job.state for job in jobs(node)] == [JobState.QUEUED]


@pytest.mark.peer("storescu")
def test_storescu_fails_while_intake_is_paused_and_succeeds_afterwards(node):
    sample = ROOT / "cxr_sr" / "samples" / "chest_pa_fuji_440.dcm"
    syntax = str(dcmread(sample, stop_before_pixels=True).file_meta.TransferSyntaxUID)
    propose = {"1.2.840.10008.1.2.1": "-xe", "1.2.840.10008.1.2": "-xi"}.get(syntax, "-xv")
    command = [str(require("storescu")), propose, "-R", "-v", "-aec", "CXR_SR", "127.0.0.1", str(node.port)]

    def send():
        return subprocess.run([*command, sample], capture_output=True, text=True, check=False, timeout=60)

    stand_still(node.database, pauses.INTAKE)
    refused = send()
    assert "out of resources" in (refused.stdout + refused.stderr).lower().replace("outofres", "out of res")
    assert jobs(node) == []
    go_on(node.database, pauses.INTAKE)
    assert send().returncode == 0
    assert len(jobs(node)) == 1


def test_a_running_sender_leaves_a_paused_destination_alone_while_others_get_theirs(tmp_path):
    settings = make_settings(tmp_path / "node")
    office = Office(settings, make_database(settings), LocalStore(settings.data_dir / "objects"))
    still = pauses.of_destination("still")
    with Archive(tmp_path / "a") as one, Archive(tmp_path / "b") as other:
        common = {"ae_title": "DEMO_PACS", "host": "127.0.0.1"}
        paused = Destination(name="still", port=one.port, **common)
        moving = Destination(name="moving", port=other.port, **common)
        stand_still(office.database, still)
        ended = threading.Event()

        def work():
            while not ended.is_set():
                office.sender.step()
                time.sleep(0.05)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            first = office.post(make_object(), paused, moving)
            assert eventually(lambda: len(other.objects()) == 1, 60)
            second = office.post(make_object(), moving)
            assert eventually(lambda: office.job(second).state == JobState.DONE, 60)
            states = {d.destination_name: d.state for d in office.deliveries(first)}
            assert states == {"still": S.WAITING, "moving": S.STORED}
            assert one.objects() == []
            assert [d.attempts for d in office.deliveries(first) if d.destination_name == "still"] == [0]
            go_on(office.database, still)
            assert eventually(lambda: office.job(first).state == JobState.DONE, 60)
            assert len(one.objects()) == 1
        finally:
            ended.set()
            thread.join()
            office.stop.set()
            office.sender.drain()
            office.database.close()
