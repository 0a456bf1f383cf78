"""Whether an archive has an instance: what it says, and when it cannot tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from config import Destination
from pacs_node import presence_check
from pacs_node.carrier import PeerError
from pacs_node.presence_check import CannotTell, Name
from tests.pacs_node.nodes import CR, PATIENT, make_settings
from tests.pacs_node.webpeers import Answered, web_peer

NAME = Name("1.2.1", "1.2.2", "1.2.3")


@contextmanager
def find_scp(answer: Callable[[Dataset], Iterator[Any]], *, service: str = presence_check.STUDY_ROOT_FIND):
    """A PACS whose C-FIND answers what `answer` yields for a query."""
    ae = AE(ae_title="PACS")
    ae.add_supported_context(service)
    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_C_FIND, lambda event: answer(event.identifier))],
    )
    try:
        yield Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=server.server_address[1])
    finally:
        server.shutdown()


@pytest.fixture
def ask(tmp_path):
    dicom = make_settings(tmp_path, dicom=PATIENT).dicom
    return lambda destination: presence_check.has(destination, dicom, NAME)


def found(*uids: str):
    def answer(query: Dataset) -> Iterator[Any]:
        assert (query.QueryRetrieveLevel, query.StudyInstanceUID) == ("IMAGE", NAME.study)
        assert (query.SeriesInstanceUID, query.SOPInstanceUID) == (NAME.series, NAME.instance)
        for uid in uids:
            match = Dataset()
            match.SOPInstanceUID = uid
            yield 0xFF00, match

    return answer


@pytest.mark.parametrize(
    ("uids", "expected"),
    [((), False), (("1.2.3",), True), (("1.2.9",), False), (("1.2.9", "1.2.3"), True)],
)
def test_an_archive_is_asked_for_that_instance_and_no_other_counts(ask, uids, expected):
    with find_scp(found(*uids)) as pacs:
        assert ask(pacs) is expected


def test_an_archive_that_answers_with_a_failure_cannot_tell(ask):
    def refused(_query: Dataset) -> Iterator[Any]:
        yield 0xA900, None

    with find_scp(refused) as pacs, pytest.raises(CannotTell, match="A900"):
        ask(pacs)


def test_a_destination_without_queries_cannot_tell(ask):
    with find_scp(found(), service=CR) as pacs, pytest.raises(CannotTell, match="answers no queries"):
        ask(pacs)


def test_a_dead_destination_is_asked_again_later(ask):
    with pytest.raises(PeerError) as caught:
        ask(Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=1))
    assert not isinstance(caught.value, CannotTell)


@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        (Answered(200, json.dumps([{"00080018": {"vr": "UI", "Value": ["1.2.3"]}}]).encode()), True),
        (Answered(200, b"[]"), False),
        (Answered(204), False),
        (Answered(404), False),
        (Answered(400), CannotTell),
        (Answered(501), CannotTell),
        (Answered(503), PeerError),
    ],
)
def test_a_web_archive_is_asked_by_qido(ask, answered, expected):
    with web_peer(lambda asked: answered) as peer:
        destination = Destination(name="web", kind="dicomweb", url=peer.url)
        if isinstance(expected, bool):
            assert ask(destination) is expected
        else:
            with pytest.raises(expected):
                ask(destination)
        (path,) = peer.paths("GET")
    assert path.startswith("/studies/1.2.1/series/1.2.2/instances?")
    assert "1.2.3" in path
