"""Faults of other systems that are nobody's own subject here, each by the name of its thread.

`docs/lessons.md` lists all threads that were read, with the test or the reason why it cannot happen here.
"""

from __future__ import annotations

import logging
import threading
import tracemalloc
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom.presentation import build_context
from structlog.testing import capture_logs

from config import Destination
from config.settings import DicomSettings, EnhancerSettings, Rule
from db.objects import LocalStore, StoreError
from db.states import DeliveryState, JobState
from pacs_node import echo, scu
from pacs_node.archive import Archive
from pacs_node.rules import choose_scale
from pacs_node.sender import Sender
from tests import dicom_variants as variants
from tests.pacs_node.clinic import open_clinic
from tests.pacs_node.nodes import (
    CR,
    EXPLICIT,
    PATIENT,
    associated,
    command,
    encoded,
    eventually,
    make_object,
    make_settings,
    raw_store,
    receiving,
    send_fragment,
    sources,
    store_object,
)

MARKS = ("Zzyzx", "PID-77421", "ACC-99312", "19410203")
"""Name, ID, accession number and birth date of a patient whom no log may name."""


def marked(**more: Any) -> Dataset:
    """A chest of that patient."""
    name, number, accession, born = MARKS
    who: dict[str, Any] = {"PatientName": f"{name}^Marker", "PatientID": number, "PatientBirthDate": born}
    return variants.cr(AccessionNumber=accession, **who, **more)


def test_adit_415_an_image_that_could_not_be_handed_over_is_never_acknowledged(tmp_path, monkeypatch):
    """There the receiver answered success before the hand-over: images vanished."""
    with receiving(make_settings(tmp_path, dicom=PATIENT)) as node:

        def broken(*_: object, **__: object) -> None:
            raise StoreError("gone")

        with monkeypatch.context() as patched, associated(node.port) as assoc:
            patched.setattr(LocalStore, "put", broken)
            status, _ = store_object(assoc, make_object())
        assert status is not None
        assert status != 0x0000
        assert sources(node) == []
        with associated(node.port) as assoc:
            assert store_object(assoc, make_object())[0] == 0x0000
        assert len(sources(node)) == 1


def test_pynetdicom_629_a_large_object_costs_the_receiver_next_to_no_memory(tmp_path):
    """There objects of 500 MB ended in a MemoryError: each was put together in memory, and copied."""
    piece, pieces = bytes(1 << 17), 400
    head = make_object(size=4)
    name = head.SOPInstanceUID.encode()
    with receiving(make_settings(tmp_path, dicom=PATIENT)) as node, associated(node.port) as assoc:
        store_object(assoc, make_object())  # what is loaded at the first object is not counted
        tracemalloc.start()
        try:
            assoc._reactor_checkpoint.clear()
            assert eventually(lambda: assoc._is_paused)
            send_fragment(assoc, 3, command(CR, name))
            send_fragment(assoc, 0, encoded(head))
            for _ in range(pieces):
                send_fragment(assoc, 0, piece[:16000])
                assert eventually(lambda: assoc.dul.to_provider_queue.qsize() < 4, 60)
            send_fragment(assoc, 2, b"")
            _, rsp = assoc.dimse.get_msg(block=True)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assoc._reactor_checkpoint.set()
        assert rsp is not None
        (big,) = [source for source in sources(node) if source.sop_instance_uid == head.SOPInstanceUID]
        assert big.size_bytes > 6_000_000
        assert peak < big.size_bytes / 2


def test_mercure_32_an_image_is_delivered_while_its_study_still_arrives(tmp_path):
    """There a study was closed by a timer while its series still came: nothing here waits for an end."""
    with open_clinic(tmp_path) as clinic:
        first = variants.cr()
        second = variants.cr(
            values=variants.chest_values(rows=80),
            StudyInstanceUID=first.StudyInstanceUID,
            SeriesInstanceUID=first.SeriesInstanceUID,
        )
        done = clinic.serve(first)
        assert [d.state for d in done.deliveries] == [DeliveryState.WAITING]
        late = clinic.serve(second)
        assert [d.state for d in late.deliveries] == [DeliveryState.WAITING]
        assert late.result_series_uid == done.result_series_uid
        assert late.result_sop_uid != done.result_sop_uid


def test_dcm4chee_1850_wrong_routing_never_fails_reception(tmp_path, free_port):
    """There a missing setting of an exporter made C-STORE fail."""
    dead = Destination(name="dead", ae_title="DEAD", host="127.0.0.1", port=free_port())
    rule = Rule(name="nonsense", model="/no/such/model", destinations=("dead",))
    settings = make_settings(tmp_path, dicom=PATIENT, destinations=(dead,))
    settings = settings.model_copy(update={"rules": (rule,)})
    with receiving(settings) as node:
        for destinations in ((dead,), ()):  # the second: a rule that names what is no longer configured
            object.__setattr__(node.settings, "destinations", destinations)
            with associated(node.port) as assoc:
                assert store_object(assoc, make_object()) == (0x0000, None)
        assert len(sources(node)) == 2


@pytest.mark.parametrize(("rows", "columns"), [(3520, 4280), (4280, 3520), (9217, 100), (2305, 2305)])
def test_cornerstone_119_no_side_of_a_result_is_longer_than_viewers_can_show(rows, columns):
    """There images beyond the texture limit of a graphics card were blank: a CR times four is 17120 wide."""
    limits = EnhancerSettings()
    for wanted in ("auto", 2, 4):
        scale = choose_scale(rows, columns, None, wanted, limits)
        if not isinstance(scale, tuple):
            assert max(rows, columns) * scale <= limits.max_output_side
        else:
            assert "too-large" in scale


def test_pynetdicom_911_no_log_names_a_patient_from_reception_to_delivery(tmp_path, caplog):
    """There the library logged the identifiers of requests and responses."""
    caplog.set_level(logging.DEBUG)
    settings = make_settings(tmp_path / "door", dicom=PATIENT)
    with capture_logs() as told:
        with receiving(settings) as node:
            here = Destination(name="node", ae_title="CXR_SR", host="127.0.0.1", port=node.port)
            with associated(node.port, [(CR, EXPLICIT)]) as assoc:
                assert store_object(assoc, marked())[0] == 0x0000
                raw_store(assoc, b"Zzyzx PID-77421 ACC-99312 19410203" * 9, sop_instance=b"1.2.3")
            with scu.association(here, DicomSettings(**PATIENT), [build_context(CR, EXPLICIT)]):
                pass
            assert echo.echo(here, DicomSettings(**PATIENT)).ok
        with Archive(tmp_path / "archive") as archive:
            pacs = Destination(name="pacs", ae_title="DEMO_PACS", host="127.0.0.1", port=archive.port)
            with open_clinic(tmp_path / "node", destinations=(pacs,)) as clinic:
                job = clinic.serve(marked())
                clinic.serve(marked(BitsStored=99))
                stop = threading.Event()
                sender = Sender(clinic.settings, clinic.database, clinic.store, stop)

                def step() -> bool:
                    sender.step()
                    return clinic.job(job.id).state == JobState.DONE

                assert eventually(step, 60)
                stop.set()
                sender.drain()
    assert told
    written = repr(told) + caplog.text
    assert [mark for mark in MARKS if mark in written] == []
