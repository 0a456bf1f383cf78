"""C-FIND and C-GET against archives that refuse, break off, count wrongly or know no Unicode."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from sqlalchemy import select

from config.network import Archive
from db import batches
from db.models import Source
from db.objects import LocalStore
from pacs_node import codecs
from pacs_node.carrier import PeerError
from pacs_node.fetched import Basket
from pacs_node.pull import Broken, Query, Refused
from pacs_node.pull_dimse import FIND, GET, DimseSource
from pacs_node.scp import quiet_library
from pacs_node.spool import Spool
from tests.pacs_node.nodes import CR, PATIENT, make_database, make_object, make_settings

Handler = Callable[[evt.Event], Iterator[Any]]


@contextmanager
def archive(
    *, find: Handler | None = None, get: Handler | None = None, roles: bool = True
) -> Iterator[Archive]:
    """A query and retrieve SCP that answers as the handlers say."""
    quiet_library()
    ae = AE(ae_title="ARCHIVE")
    handlers: list[Any] = []
    if find:
        ae.add_supported_context(FIND)
        handlers.append((evt.EVT_C_FIND, find))
    if get:
        ae.add_supported_context(GET)
        syntaxes = list(codecs.decodable())
        ae.add_supported_context(CR, syntaxes, scu_role=roles, scp_role=roles)
        handlers.append((evt.EVT_C_GET, get))
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        port = server.socket.getsockname()[1]
        yield Archive(name="old", ae_title="ARCHIVE", host="127.0.0.1", port=port)
    finally:
        server.shutdown()


@pytest.fixture
def settings(tmp_path):
    return make_settings(tmp_path / "node", dicom=PATIENT)


@pytest.fixture
def basket(settings) -> Iterator[Basket]:
    database = make_database(settings)
    store = LocalStore(settings.data_dir / "objects")
    spool = Spool(store.spool)
    with database.write() as session:
        batches.create(session, "old", [batches.Chosen("1.2.3")], query={})
    with database.write() as session:
        claim = batches.claim(session, "old", 60, 3)
    here = Archive(name="old", ae_title="ARCHIVE", host="127.0.0.1", port=1)
    yield Basket(settings, database, store, spool, here, claim)
    assert list(spool.folder.iterdir()) == []
    spool.close()
    database.close()


def sends(*objects: Dataset, then: Handler | None = None, announced: int = 0) -> Handler:
    def handler(event: evt.Event) -> Iterator[Any]:
        yield max(announced, len(objects))
        for ds in objects:
            yield 0xFF00, ds
        if then is not None:
            yield from then(event)

    return handler


def retrieve(here: Archive, settings: Any, basket: Basket) -> int:
    with DimseSource(here, settings.dicom) as source:
        return source.retrieve("1.2.3", ["1.2.3.1"], basket, 1)


def kept(basket: Basket) -> set[str | None]:
    with basket.database.read() as session:
        return set(session.scalars(select(Source.sop_instance_uid)))


def test_objects_come_over_the_association_that_asks_for_them(settings, basket):
    objects = [make_object(size=300) for _ in range(3)]
    with archive(get=sends(*objects)) as here:
        assert retrieve(here, settings, basket) == 3
    assert (basket.received, basket.refused, basket.trouble) == (3, [], None)
    assert kept(basket) == {ds.SOPInstanceUID for ds in objects}


def test_an_archive_that_ends_with_a_failure_has_not_sent_everything(settings, basket):
    def fails(_: evt.Event) -> Iterator[Any]:
        yield 0xA702, Dataset()

    first = make_object()
    with archive(get=sends(first, then=fails, announced=2)) as here:
        with pytest.raises(Broken, match=r"A702|could not send"):
            retrieve(here, settings, basket)
    assert first.SOPInstanceUID in kept(basket)


def test_an_archive_that_aborts_in_the_middle_is_tried_again(settings, basket):
    def aborts(event: evt.Event) -> Iterator[Any]:
        event.assoc.abort()
        yield 0xFF00, make_object()

    first = make_object()
    with archive(get=sends(first, then=aborts)) as here, pytest.raises(Broken, match="in the middle"):
        retrieve(here, settings, basket)
    assert kept(basket) == {first.SOPInstanceUID}


def test_an_archive_without_c_get_is_not_asked_again(settings, basket):
    with archive(find=lambda _: iter([])) as here, pytest.raises(Refused, match="C-GET"):
        retrieve(here, settings, basket)


def test_an_object_that_is_too_large_is_refused_and_the_rest_taken(tmp_path, settings, basket):
    basket.settings = make_settings(tmp_path / "node", dicom=PATIENT | {"max_object_bytes": 1 << 16})
    small = make_object()
    with archive(get=sends(make_object(size=200), small)) as here, pytest.raises(Broken, match="1 of 2"):
        retrieve(here, settings, basket)
    assert kept(basket) == {small.SOPInstanceUID}
    assert "more than 65536 bytes" in basket.refused[0]


def test_an_object_without_end_ends_the_association_at_once(tmp_path, settings, basket):
    basket.settings = make_settings(tmp_path / "node", dicom=PATIENT | {"max_object_bytes": 1 << 16})
    with (
        archive(get=sends(make_object(size=600))) as here,
        pytest.raises(Refused, match="far more than 65536"),
    ):
        retrieve(here, settings, basket)
    assert kept(basket) == set()


def test_a_fetch_that_is_cancelled_takes_nothing_more(settings, basket):
    cancelled = threading.Event()
    basket.given_up = cancelled.is_set

    def cancels(_: evt.Event) -> Iterator[Any]:
        cancelled.set()
        yield 0xFF00, make_object()

    first = make_object()
    with archive(get=sends(first, then=cancels)) as here, pytest.raises(Broken, match="cancelled"):
        retrieve(here, settings, basket)
    assert kept(basket) == {first.SOPInstanceUID}


def answer(**attributes: Any) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def test_an_archive_that_knows_no_unicode_is_asked_without(settings):
    """pydicom#2243, pynetdicom#201: character sets that one side does not know."""
    asked: list[bool] = []

    def find(event: evt.Event) -> Iterator[Any]:
        asked.append("SpecificCharacterSet" in event.identifier)
        if asked[-1]:
            yield 0xA900, None
        else:
            yield 0xFF00, answer(StudyInstanceUID="1.2.3", PatientName="A^B")

    with archive(find=find) as here, DimseSource(here, settings.dicom) as source:
        found = source.search(Query({"PatientID": "1"}, ("CR",)), 5)
        assert [study.shown["PatientName"] for study in found.studies] == ["A^B"]
        assert asked == [True, False]
        with pytest.raises(PeerError, match="A900"):
            source.search(Query({"PatientName": "金*"}, ("CR",)), 5)


def test_an_endless_answer_is_cut_at_what_was_asked_for(settings):
    def find(event: evt.Event) -> Iterator[Any]:
        for number in range(10_000):
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield 0xFF00, answer(StudyInstanceUID=f"1.2.{number}")

    with archive(find=find) as here, DimseSource(here, settings.dicom) as source:
        found = source.search(Query({"PatientID": "1"}, ("CR",)), 5)
    assert ([study.uid for study in found.studies], found.more) == ([f"1.2.{n}" for n in range(5)], True)


def test_answers_that_make_no_sense_are_passed_over(settings):
    def find(_: evt.Event) -> Iterator[Any]:
        yield 0xFF00, answer(StudyInstanceUID="../../etc")
        yield 0xFF00, answer(PatientID="1")
        yield 0xFF00, answer(StudyInstanceUID="1.2.3", ModalitiesInStudy=["CT", "SR"])
        yield 0xFF00, answer(StudyInstanceUID="1.2.4", ModalitiesInStudy=["SR", "CR"])

    with archive(find=find) as here, DimseSource(here, settings.dicom) as source:
        (study,) = source.search(Query({"PatientID": "1"}, ("CR",)), 5).studies
    assert (study.uid, study.shown["ModalitiesInStudy"]) == ("1.2.4", ["SR", "CR"])


def test_a_dead_archive_is_said_to_be_dead(settings):
    with archive(find=lambda _: iter([])) as here:
        pass
    with DimseSource(here, settings.dicom) as source, pytest.raises(PeerError):
        source.search(Query({"PatientID": "1"}), 5)
