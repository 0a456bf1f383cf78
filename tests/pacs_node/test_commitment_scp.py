"""The promises that callers ask of us: yes only when an archive has promised, and always an answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import select

from config import Settings
from db.exchange import CommitmentRequest
from db.objects import LocalStore
from db.types import utcnow
from pacs_node import commitment, statuses
from tests.pacs_node import nodes
from tests.pacs_node.archives import Modality, Promiser, ask, modality, on_the_same, promising
from tests.pacs_node.nodes import CR, eventually, make_database, make_object, make_settings, receiving
from tests.pacs_node.office import Office


@contextmanager
def open_node(tmp_path, *destinations: Any, **dicom: Any) -> Iterator[tuple[Office, int]]:
    """A node that promises: its sender, and the port of its receiver."""
    settings = make_settings(
        tmp_path / "node",
        dicom=nodes.PATIENT | {"storage_commitment": True} | dicom,
        destinations=destinations,
    )
    with receiving(settings) as node:
        office = Office(settings, make_database(settings), LocalStore(settings.data_dir / "objects"))
        try:
            yield office, node.port
        finally:
            office.stop.set()
            office.sender.drain(60)
            office.database.close()


def requests(office: Office) -> list[CommitmentRequest]:
    with office.database.read() as session:
        return list(session.scalars(select(CommitmentRequest).order_by(CommitmentRequest.id)))


def forwarded(office: Office, archive: Promiser, ds: Dataset | None = None) -> Dataset:
    """An original that the archive has promised to keep."""
    ds = ds or make_object()
    office.post(ds, archive.destination, what="original")
    assert office.work(lambda: office.deliveries()[-1].state == "committed")
    return ds


def test_yes_means_that_the_archive_has_promised_the_original(tmp_path):
    with (
        promising(reply=on_the_same) as archive,
        modality() as caller,
        open_node(tmp_path, archive.destination, caller.destination) as (office, port),
    ):
        ds = forwarded(office, archive)
        with caller.asking(port) as assoc:
            assert ask(assoc, "2.25.7", (CR, ds.SOPInstanceUID)) == statuses.SUCCESS
        assert office.work(lambda: caller.heard)
        assert caller.heard == [("2.25.7", {ds.SOPInstanceUID: None})]
        assert caller.roles == [(False, True)], "who opens the association to report proposes to be the SCP"
        assert office.work(lambda: requests(office)[0].state == "answered")


def test_nothing_is_promised_before_the_archive_has(tmp_path):
    with (
        promising() as archive,
        modality() as caller,
        open_node(tmp_path, archive.destination, caller.destination) as (office, port),
    ):
        ds = make_object()
        office.post(ds, archive.destination, what="original")
        assert office.work(lambda: archive.asked)
        with caller.asking(port) as assoc:
            assert ask(assoc, "2.25.7", (CR, ds.SOPInstanceUID)) == statuses.SUCCESS
        before = requests(office)[0].not_before
        assert office.work(lambda: requests(office)[0].not_before > before)
        assert caller.heard == []
        archive.report(port, *archive.verdicts())
        assert office.work(lambda: caller.heard)
        assert caller.heard == [("2.25.7", {ds.SOPInstanceUID: None})]


def test_each_instance_has_a_verdict_of_its_own(tmp_path):
    with (
        promising(reply=on_the_same) as archive,
        modality() as caller,
        open_node(tmp_path, archive.destination, caller.destination) as (office, port),
    ):
        good = forwarded(office, archive)
        nowhere = make_object()
        office.post(nowhere, what="original")
        never, other = generate_uid(), (nodes.DX, str(good.SOPInstanceUID))
        with caller.asking(port) as assoc:
            ask(assoc, "2.25.1", (CR, good.SOPInstanceUID), (CR, never), (CR, nowhere.SOPInstanceUID))
            ask(assoc, "2.25.2", other)
        assert office.work(lambda: len(caller.heard) == 2)
        assert dict(caller.heard) == {
            "2.25.1": {
                good.SOPInstanceUID: None,
                never: statuses.NO_SUCH_INSTANCE,
                nowhere.SOPInstanceUID: statuses.PROCESSING_FAILURE,
            },
            "2.25.2": {good.SOPInstanceUID: statuses.CLASS_INSTANCE_CONFLICT},
        }


def test_an_archive_that_never_promises_is_a_no_when_the_time_is_over(tmp_path):
    with (
        promising() as archive,
        modality() as caller,
        open_node(tmp_path, archive.destination, caller.destination) as (office, port),
    ):
        ds = make_object()
        office.post(ds, archive.destination, what="original")
        assert office.work(lambda: archive.asked)
        with caller.asking(port) as assoc:
            ask(assoc, "2.25.7", (CR, ds.SOPInstanceUID))
        with office.database.write() as session:
            row = session.scalars(select(CommitmentRequest)).one()
            row.expires_at = utcnow() - timedelta(seconds=1)
        assert office.work(lambda: caller.heard)
        assert caller.heard == [("2.25.7", {ds.SOPInstanceUID: statuses.PROCESSING_FAILURE})]


def test_a_caller_that_is_no_destination_is_told_on_its_own_association(tmp_path):
    with (
        promising() as archive,
        open_node(tmp_path, archive.destination) as (office, port),
    ):
        ds = make_object()
        office.post(ds, archive.destination, what="original")
        assert office.work(lambda: archive.asked)
        caller = Modality("STRANGER")
        with caller.asking(port) as assoc:
            assert ask(assoc, "2.25.7", (CR, ds.SOPInstanceUID)) == statuses.SUCCESS
            assert "no destination has its AE title" in (requests(office)[0].comment or "")
            archive.report(port, *archive.verdicts())
            assert eventually(lambda: caller.heard, 30)
            assert caller.heard == [("2.25.7", {ds.SOPInstanceUID: None})]
            assert eventually(lambda: requests(office)[0].state == "answered", 30)


def test_a_caller_that_cannot_be_told_is_written_down(tmp_path):
    with promising() as archive, open_node(tmp_path, archive.destination) as (office, port):
        ds = make_object()
        office.post(ds, archive.destination, what="original")
        with Modality("STRANGER").asking(port) as assoc:
            ask(assoc, "2.25.7", (CR, ds.SOPInstanceUID))
        with office.database.write() as session:
            row = session.scalars(select(CommitmentRequest)).one()
            row.expires_at = row.not_before = utcnow() - timedelta(seconds=1)
        assert office.work(lambda: requests(office)[0].state == "failed")
        assert "the caller was not told" in (requests(office)[0].comment or "")


def test_a_caller_that_is_away_is_told_when_it_is_back(tmp_path):
    port_of_caller = nodes_port()
    with (
        promising(reply=on_the_same) as archive,
        open_node(
            tmp_path,
            archive.destination,
            Modality(port=port_of_caller).destination,
        ) as (office, port),
    ):
        ds = forwarded(office, archive)
        caller = Modality(port=port_of_caller)
        with caller.asking(port) as assoc:
            ask(assoc, "2.25.7", (CR, ds.SOPInstanceUID))
        assert office.work(lambda: requests(office)[0].attempts)
        row = requests(office)[0]
        assert row.state == "waiting"
        assert "cannot be reached" in (row.comment or "")


def test_the_same_request_again_is_answered_again_and_another_under_its_name_is_not(tmp_path):
    with (
        promising(reply=on_the_same) as archive,
        modality() as caller,
        open_node(tmp_path, archive.destination, caller.destination) as (office, port),
    ):
        ds = forwarded(office, archive)
        for times in (1, 2):
            with caller.asking(port) as assoc:
                assert ask(assoc, "2.25.7", (CR, ds.SOPInstanceUID)) == statuses.SUCCESS
            assert office.work(lambda: requests(office)[0].state == "answered")
            assert len(caller.heard) == times
        with caller.asking(port) as assoc:
            assert ask(assoc, "2.25.7", (CR, "1.2.3")) == statuses.INVALID_ARGUMENT
        assert len(requests(office)) == 1


def test_a_caller_that_refuses_its_answer_is_written_down_and_not_asked_again(tmp_path):
    with (
        modality() as caller,
        open_node(tmp_path, caller.destination) as (office, port),
    ):
        caller.status = 0x0112
        with caller.asking(port) as assoc:
            ask(assoc, "2.25.7", (CR, "1.2.3"))
        assert office.work(lambda: requests(office)[0].state == "failed")
        assert "0x0112" in (requests(office)[0].comment or "")
        assert len(caller.heard) == 1


@pytest.mark.parametrize(
    ("ds", "action", "status"),
    [
        (commitment.action_information("2.25.1", [(CR, "1.2")]), 2, statuses.NO_SUCH_ACTION),
        (commitment.action_information("2.25.1", []), 1, statuses.INVALID_ARGUMENT),
        (commitment.action_information("", [(CR, "1.2")]), 1, statuses.INVALID_ARGUMENT),
        (commitment.action_information("2.25.1", [(CR, "")]), 1, statuses.INVALID_ARGUMENT),
    ],
    ids=["another action", "no instance", "no transaction", "no name"],
)
def test_a_request_that_makes_no_sense_is_refused_with_its_status(tmp_path, ds, action, status):
    with open_node(tmp_path) as (office, port):
        with Modality().asking(port) as assoc:
            told, _ = assoc.send_n_action(ds, action, commitment.SOP_CLASS, commitment.SOP_INSTANCE)
        assert told.Status == status
        assert requests(office) == []


def test_a_request_is_on_stable_storage_before_its_answer(tmp_path, monkeypatch):
    with open_node(tmp_path) as (_, port):
        monkeypatch.setattr("db.commitment_requests.take", broken)
        with Modality().asking(port) as assoc:
            assert ask(assoc, "2.25.7", (CR, "1.2.3")) == statuses.RESOURCE_LIMITATION


def test_who_does_not_promise_says_so(tmp_path):
    destination = Modality(port=104).destination.model_copy(update={"storage_commitment": True})
    with open_node(tmp_path, destination, storage_commitment=False) as (office, port):
        with Modality().asking(port) as assoc:
            assert ask(assoc, "2.25.7", (CR, "1.2.3")) == statuses.UNRECOGNISED_OPERATION
        assert requests(office) == []


def broken(*_: object, **__: object) -> None:
    from sqlalchemy.exc import OperationalError

    raise OperationalError("", None, Exception())


def nodes_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_nobody_is_asked_by_default():
    assert Settings().dicom.storage_commitment is False
