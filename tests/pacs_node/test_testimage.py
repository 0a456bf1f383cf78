"""A test image: nobody's, marked as what it is, and told what the destination says to it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from pydicom import dcmread

from config import Destination
from db import commands
from db.objects import LocalStore
from pacs_node import rules, testimage
from pacs_node.archive import Archive
from tests import derived_checks, peers
from tests.pacs_node.nodes import make_database, make_settings
from tests.pacs_node.office import Office

INSTALLATION = uuid.UUID(int=7)
MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_the_object_says_that_it_is_a_test_of_nobody():
    ds = testimage.test_image(INSTALLATION, MADE)
    assert (str(ds.PatientName), ds.PatientID, ds.QualityControlImage) == ("TEST^TEST", "TEST", "YES")
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert "BodyPartExamined" not in ds
    assert ds.pixel_array.shape == (512, 512)


def test_each_has_a_study_and_an_instance_of_its_own():
    one, other = (testimage.test_image(INSTALLATION, MADE) for _ in range(2))
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert one[keyword].value != other[keyword].value


def test_it_is_never_enhanced_when_it_comes_back(tmp_path):
    ds = testimage.test_image(INSTALLATION, MADE)
    decision = rules.decide(ds, 512, 512, rules.Asked(force=True), make_settings(tmp_path))
    assert (decision.action, decision.code) == ("skip", "quality-control")


def test_dicom3tools_finds_nothing_wrong(tmp_path):
    file = tmp_path / "test.dcm"
    testimage.test_image(INSTALLATION, MADE).save_as(file, enforce_file_format=True)
    said = derived_checks.errors(peers.require("dciodvfy"), file)
    assert [line for line in said if "<Laterality>" not in line] == []  # it has no body part to have a side


@pytest.fixture
def archive(tmp_path):
    with Archive(tmp_path / "archive") as archive:
        yield archive


@pytest.fixture
def office(tmp_path, archive):
    alive = Destination(name="alive", ae_title="DEMO_PACS", host="127.0.0.1", port=archive.port)
    dead = Destination(name="dead", ae_title="NOBODY", host="127.0.0.1", port=1)
    settings = make_settings(tmp_path / "node", destinations=(alive, dead))
    office = Office(settings, make_database(settings), LocalStore(settings.data_dir / "objects"))
    yield office
    office.stop.set()
    office.sender.drain()
    office.database.close()


def ask(office, name):
    with office.database.write() as session:
        number = commands.ask(session, "sender", "test-image", {"destination": name})

    def answer():
        with office.database.read() as session:
            return commands.result(session, number).answer

    assert office.work(lambda: answer() is not None)
    return answer()


def test_the_sender_sends_it_and_the_archive_has_it(office, archive):
    answer = ask(office, "alive")
    assert (answer["ok"], answer["status"]) == (True, "0000")
    [kept] = archive.objects()
    assert kept.sop_instance_uid == answer["sop_instance_uid"]
    assert dcmread(kept.path).PatientID == "TEST"
    assert office.peer("alive").reachable is True
    assert office.deliveries() == []


def test_a_destination_that_is_not_there_is_told_in_words(office):
    answer = ask(office, "dead")
    assert (answer["ok"], answer["status"]) == (False, None)
    assert "cannot be reached" in answer["message"]
    assert office.peer("dead").reachable is False
    assert "no destination of that name" in ask(office, "nowhere")["message"]
