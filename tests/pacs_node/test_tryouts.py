"""What the rules say of a received object or of a described one, asked by a command and answered beside the
worker's work."""

from __future__ import annotations

import threading

import pytest

from config import Rule
from db import commands
from db.models import Source
from pacs_node.tryouts import CannotTry, Tryouts
from tests import dicom_variants as variants
from tests.pacs_node.clinic import open_clinic
from tests.pacs_node.nodes import eventually

RULES = (
    Rule(name="by name", match={"PatientName": "NOBODY*"}),
    Rule(name="portable", match={"Modality": "DX", "CallingAETitle": "ER*"}, priority="stat"),
    Rule(name="rest", match={"Modality": ("CR", "DX")}, action="skip"),
)
CHEST = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
    "Modality": "DX",
    "BodyPartExamined": "CHEST",
    "ViewPosition": "PA",
    "CallingAETitle": "ER_7",
}


@pytest.fixture
def clinic(tmp_path):
    with open_clinic(tmp_path, rules=RULES) as clinic:
        yield clinic


@pytest.fixture
def tryouts(clinic):
    worker = clinic.worker
    return Tryouts(clinic.settings, clinic.database, clinic.store, worker.examiner, clinic.installation)


def test_a_described_object_is_decided_by_the_rules(tryouts):
    found = tryouts.verdict({"attributes": CHEST}).record()
    assert (found["action"], found["rule"], found["priority"], found["scale"]) == (
        "enhance",
        "portable",
        "stat",
        2,
    )
    assert list(found["passed_over"]) == [
        {
            "rule": "by name",
            "entry": "PatientName",
            "wanted": ["NOBODY*"],
            "found": None,
            "why": "PatientName is not NOBODY*",
        }
    ]


def test_the_size_of_a_described_object_counts(tryouts):
    assert tryouts.verdict({"attributes": CHEST, "rows": 500, "columns": 400}).scale == 4


def test_a_received_object_is_decided_as_it_came_and_what_is_typed_is_said_over_it(clinic, tryouts):
    job = clinic.serve(variants.dx()).id
    found = tryouts.verdict({"job": job})
    assert (found.action, found.rule) == ("skip", "rest")
    assert [passed["entry"] for passed in found.passed_over] == ["PatientName", "CallingAETitle"]
    assert found.passed_over[1]["found"] == ["MODALITY"]
    assert tryouts.verdict({"job": job, "attributes": {"CallingAETitle": "ER_1"}}).rule == "portable"
    assert tryouts.verdict({"job": job, "attributes": {"PatientName": "NOBODY^AT ALL"}}).rule == "by name"


def test_trying_changes_nothing(clinic, tryouts):
    job = clinic.serve(variants.dx())
    events = clinic.events(job.id)
    tryouts.verdict({"job": job.id})
    assert clinic.events(job.id) == events
    assert clinic.job(job.id).state == job.state


def test_what_cannot_be_decoded_says_why(clinic, tryouts, tmp_path):
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"\0" * 128 + b"DICM" + b"nonsense" * 100)
    job = clinic.receive(broken).job_id
    found = tryouts.verdict({"job": job})
    assert found.action == "fail"
    assert found.reason


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"job": 99}, "no such job"),
        ({"attributes": {"Nonsense": "x"}}, "'Nonsense' is no DICOM keyword"),
        ({"attributes": {"PixelData": "x"}}, "PixelData cannot be typed"),
        ({"attributes": {"ViewCodeSequence": "x"}}, "ViewCodeSequence cannot be typed"),
        ({"attributes": {"SeriesNumber": "geheim"}}, "SeriesNumber: this value cannot stand there"),
        ({"attributes": {"Origin": "pigeon"}}, "Origin is dimse"),
    ],
)
def test_what_cannot_be_tried_is_said_without_the_value(tryouts, arguments, said):
    with pytest.raises(CannotTry, match=said) as refused:
        tryouts.verdict(arguments)
    assert "geheim" not in str(refused.value)


def test_a_source_that_is_gone_is_said(clinic, tryouts):
    job = clinic.serve(variants.dx()).id
    with clinic.database.write() as session:
        source = session.get_one(Source, clinic.job(job).source_id)
        source.deleted_at = source.received_at
    with pytest.raises(CannotTry, match="no longer kept"):
        tryouts.verdict({"job": job})


def test_a_page_gets_its_answer_beside_the_work(clinic, tryouts):
    def ask(**arguments):
        with clinic.database.write() as session:
            return commands.ask(session, "worker", arguments.pop("kind", "rules"), arguments)

    def answer(number):
        with clinic.database.read() as session:
            return commands.result(session, number).answer

    with tryouts.running(threading.Event()):
        good, bad, strange = ask(attributes=CHEST), ask(job=99), ask(kind="dance")
        assert eventually(lambda: answer(strange) is not None)
    assert answer(good)["verdict"]["rule"] == "portable"
    assert answer(good)["rules"] == ["by name", "portable", "rest"]
    assert answer(bad) == {
        "ok": False,
        "message": "There is no such job.",
        "rules": ["by name", "portable", "rest"],
    }
    assert "does not know" in answer(strange)["message"]
