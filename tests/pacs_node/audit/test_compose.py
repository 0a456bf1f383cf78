"""Which message is made of which row: one for each trigger, and none for anything else."""

from __future__ import annotations

import ast
import base64
from collections.abc import Iterator
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path

import pytest
from lxml import etree
from pydicom.filereader import read_dataset
from sqlalchemy import select

from config.network import Archive
from config.settings import AuditSettings
from db import Database, audit, deliveries, queue
from db.deliveries import Address
from db.intake import Arrival, Origin, intake
from db.models import AuditEvent, Delivery, Job, JobEvent, Patient, Series, Study
from db.objects import LocalStore
from db.states import DeliveryState
from db.types import utcnow
from pacs_node.audit.compose import Composer, too_early
from pacs_node.audit.triggers import SILENT, TRIGGERS, trigger
from tests.db import builders
from tests.pacs_node.audit.rules import faults
from tests.pacs_node.nodes import make_database, make_settings
from tests.peers import ROOT

PACS = Address("pacs", {"name": "pacs", "ae_title": "PACS", "host": "192.0.2.20", "port": 104})
CLOUD = Address("cloud", {"name": "cloud", "kind": "dicomweb", "url": "https://pacs.example/dicom-web"})
SECRET = "Mustermann"


@pytest.fixture
def settings(tmp_path):
    made = make_settings(tmp_path)
    return made.model_copy(update={"audit": AuditSettings(source_id="node-7")})


@pytest.fixture
def database(settings) -> Iterator[Database]:
    one = make_database(settings)
    yield one
    one.close()


@pytest.fixture
def composer(settings) -> Composer:
    return Composer(settings)


def examined(session, job: Job) -> Job:
    """A job whose image was read: its study and patient are known."""
    patient = Patient(patient_id="4711", issuer="HOSPITAL", name=f"{SECRET}^Erika", birth_date="19600101")
    study = Study(study_instance_uid=f"1.2.{job.id}", accession_number="A1", patient=patient)
    job.source.series = Series(study=study, series_instance_uid=f"1.3.{job.id}")
    job.source.sop_class_uid = "1.2.840.10008.5.1.4.1.1.1"
    job.source.examined_at = utcnow()
    session.flush()
    return job


def told(database, composer, action, **values) -> etree._Element | None:
    """The message about an entry of the trail, which is as it should be."""
    with database.write() as session:
        row = audit.record(session, values.pop("actor", "anna"), action, **values)
        session.flush()
        message = composer.of_trail(session, row)
    if message is None:
        return None
    encoded = message.xml()
    assert faults(encoded) == []
    assert SECRET.encode() not in encoded
    return etree.fromstring(encoded)


def event(root) -> tuple[str, str, str]:
    said = root.find("EventIdentification")
    return (
        said.find("EventID").get("csd-code"),
        said.get("EventActionCode"),
        said.get("EventOutcomeIndicator"),
    )


def people(root) -> list[str]:
    return [one.get("UserID") for one in root.findall("ActiveParticipant")]


def things(root) -> list[str]:
    return [one.get("ParticipantObjectID") for one in root.findall("ParticipantObjectIdentification")]


@pytest.fixture
def job(database) -> int:
    with database.write() as session:
        return examined(session, builders.finished(session)).id


def test_a_role_that_starts_and_stops(database, composer):
    for action, kind in (("node.start", "110120"), ("node.stop", "110121")):
        root = told(database, composer, action, actor="worker", detail={"host": "host-2", "pid": 99})
        assert event(root) == ("110100", "E", "0")
        assert root.find(".//EventTypeCode").get("csd-code") == kind
        assert people(root) == ["99"]
        assert root.find("ActiveParticipant").get("AlternativeUserID") == "AETITLES=CXR_SR"
        assert root.find("ActiveParticipant").get("NetworkAccessPointID") == "host-2"


@pytest.mark.parametrize(("outcome", "indicator"), [("success", "0"), ("failure", "4"), ("throttled", "8")])
def test_somebody_who_signs_in_or_fails_to(database, composer, outcome, indicator):
    root = told(database, composer, "login", address="192.0.2.1", outcome=outcome)
    assert event(root) == ("110114", "E", indicator)
    assert people(root) == ["anna@node-7", "web"]


def test_somebody_who_signs_out(database, composer):
    root = told(database, composer, "logout", address="192.0.2.1")
    assert root.find(".//EventTypeCode").get("csd-code") == "110123"


def test_a_caller_that_was_turned_away(database, composer):
    detail = {"calling": "STRANGER", "called": "CXR_SR", "why": "not allowed", "times": 3}
    root = told(
        database, composer, "association.refused", actor="receiver", address="192.0.2.66", outcome="refused",
        detail=detail,
    )  # fmt: skip
    assert event(root) == ("110113", "E", "8")
    assert root.find(".//EventTypeCode").get("csd-code") == "110126"
    assert people(root) == ["receiver", "STRANGER"]
    assert things(root) == ["192.0.2.66"]


@pytest.mark.parametrize(
    ("kind", "code", "source"),
    [("dimse", "110104", "MODALITY"), ("stow", "110104", "anna@node-7"), ("upload", "110107", None)],
)
def test_an_image_that_came_in_is_told_with_its_study_and_patient(
    database, composer, tmp_path, kind, code, source
):
    store = LocalStore(tmp_path / "objects")
    found = []
    for _ in range(2):
        file = store.spool / "object"
        file.write_bytes(b"an image")
        origin = Origin(
            kind, "MODALITY", "CXR_SR", "192.0.2.7", actor="receiver" if kind == "dimse" else "anna"
        )
        arrival = Arrival(file, "application/dicom", sop_instance_uid="1.9")
        intake(database, store, arrival, origin, max_waiting=9)
    with database.write() as session:
        examined(session, session.scalars(select(Job)).one())
        for row in session.scalars(select(AuditEvent).where(AuditEvent.action == f"{kind}.store")):
            message = composer.of_trail(session, row)
            assert message is not None
            assert faults(message.xml()) == []
            found.append(etree.fromstring(message.xml()))
    first, again = found
    assert event(first) == (code, "C", "0")
    assert event(again)[1] == ("R" if code == "110104" else "C")
    assert things(first) == ["1.2.1", "4711^^^HOSPITAL"]
    assert first.find(".//Accession").get("Number") == "A1"
    assert first.find(".//Instance").get("UID") == "1.9"
    if source is not None:
        assert people(first)[0] == source
        assert first.find("ActiveParticipant").get("NetworkAccessPointID") == "192.0.2.7"


def test_an_object_that_nobody_could_read_is_told_all_the_same(database, composer):
    with database.write() as session:
        number = builders.job(session).id
    root = told(database, composer, "dimse.store", actor="receiver", object_type="job", object_id=number)
    assert things(root) == ["unknown", "unknown"]


def test_a_received_image_waits_until_its_study_is_known(database, composer):
    with database.write() as session:
        job = builders.job(session)
        row = audit.record(session, "receiver", "dimse.store", object_type="job", object_id=job.id)
        session.flush()
        assert too_early(session, row)
        examined(session, job)
        assert not too_early(session, row)
        other = builders.job(session)
        row = audit.record(session, "receiver", "dimse.store", object_type="job", object_id=other.id)
        row.at = utcnow().replace(year=2020)
        assert not too_early(session, row)


@pytest.mark.parametrize(("address", "name"), [(PACS, "PACS"), (CLOUD, "https://pacs.example/dicom-web")])
def test_a_delivery_is_told_when_it_begins_and_when_it_ends(database, composer, address, name):
    with database.write() as session:
        job, lease = builders.sending(session, address)
        examined(session, job)
        deliveries.retry_later(session, lease, "no room", status_code=0xA700, base=0, longest=0, actor="s")
        again = deliveries.claim(session, "s", address.name, 60)
        assert again is not None
        deliveries.stored(session, again, 0, actor="s")
        result = job.result.sop_instance_uid
    with database.read() as session:
        events = session.scalars(select(JobEvent).where(JobEvent.kind == "delivery").order_by(JobEvent.id))
        messages = [composer.of_delivery(session, one) for one in events]
    roots = []
    for message in messages:
        if message is not None:
            assert faults(message.xml()) == []
            roots.append(etree.fromstring(message.xml()))
    assert [event(root) for root in roots] == [
        ("110102", "E", "0"),
        ("110104", "R", "4"),
        ("110102", "E", "0"),
        ("110104", "R", "0"),
    ]
    assert roots[1].find(".//EventOutcomeDescription").text == f"{address.name}: no room"
    for root in roots:
        assert people(root) == ["sender", name]
        assert things(root)[1] == "4711^^^HOSPITAL"
        assert root.find(".//Instance").get("UID") == result


def test_a_refused_delivery_is_a_serious_failure_and_a_cancelled_one_moves_nothing(database, composer):
    with database.write() as session:
        job, lease = builders.sending(session, PACS)
        examined(session, job)
        deliveries.fail(session, lease, "not for us", actor="s")
        other = builders.finished(session, PACS)
        queue.cancel(session, other, actor="anna")
    with database.read() as session:
        events = session.scalars(select(JobEvent).where(JobEvent.kind == "delivery"))
        told = [(one.after, composer.of_delivery(session, one)) for one in events]
    assert [message.outcome.value for after, message in told if after == "failed"] == ["8"]
    assert [message for after, message in told if after == "cancelled"] == [None]


def test_a_delivery_of_the_original_names_the_original(database, composer):
    with database.write() as session:
        job = examined(session, builders.finished(session, PACS))
        session.scalars(select(Delivery)).one().what = "original"
        session.flush()
        deliveries.claim(session, "s", "pacs", 60)
        step = session.scalars(select(JobEvent).where(JobEvent.after == DeliveryState.SENDING)).one()
        message = composer.of_delivery(session, step)
        source = job.source.sop_instance_uid
    assert source.encode() in message.xml()


def test_what_people_do_with_images(database, composer, job):
    about = {"object_type": "job", "object_id": job, "address": "192.0.2.1"}
    assert event(told(database, composer, "job.download", **about)) == ("110106", "R", "0")
    assert event(told(database, composer, "job.view", **about)) == ("110103", "R", "0")
    assert event(told(database, composer, "job.retract", **about)) == ("110103", "D", "0")
    assert event(told(database, composer, "job.release", **about)) == ("110103", "U", "0")


@pytest.mark.parametrize("uid", ["1.2.1", "1.3.1", "instance", "result"])
def test_what_was_retrieved_is_told_by_the_study_it_belongs_to(database, composer, job, uid):
    with database.read() as session:
        row = session.get_one(Job, job)
        named = {"instance": row.source.sop_instance_uid, "result": row.result.sop_instance_uid}
    root = told(
        database, composer, "dicomweb.retrieve", object_type="study", object_id=named.get(uid, uid),
        address="192.0.2.1",
    )  # fmt: skip
    assert event(root) == ("110104", "R", "0")
    assert people(root) == ["anna@node-7", "web"]
    assert things(root) == ["1.2.1", "4711^^^HOSPITAL"]


@pytest.mark.parametrize("action", ["dicomweb.search", "jobs.search", "archive.search"])
def test_a_search_is_told_with_what_was_asked(database, composer, action):
    root = told(database, composer, action, detail={"PatientID": "4711"}, address="192.0.2.1")
    assert event(root) == ("110112", "E", "0")


def test_a_search_of_an_archive_is_told_as_the_data_set_that_was_sent(database, settings):
    archives = (
        Archive(name="pacs", ae_title="PACS", host="192.0.2.20", port=104),
        Archive(name="cloud", kind="dicomweb", url="https://pacs.example/dicom-web"),
    )
    composer = Composer(settings.model_copy(update={"archives": archives}))
    asked = {"query": {"patient": "4711", "StudyDate": "20260101-"}}
    about = {"object_type": "archive", "object_id": "pacs", "detail": asked}
    root = told(database, composer, "archive.search", **about)
    assert people(root) == ["sender", "PACS", "anna@node-7"]
    assert things(root) == ["1.2.840.10008.5.1.4.1.2.2.1"]
    sent = BytesIO(base64.b64decode(root.find(".//ParticipantObjectQuery").text))
    ds = read_dataset(sent, False, True)
    assert (ds.QueryRetrieveLevel, ds.PatientID, ds.StudyDate) == ("STUDY", "4711", "20260101-")
    root = told(database, composer, "archive.search", **(about | {"object_id": "cloud"}))
    assert people(root)[1] == "https://pacs.example/dicom-web"
    root = told(database, composer, "archive.search", object_type="archive", object_id="no more")
    assert people(root)[1] == "no more"


@pytest.mark.parametrize("action", ["user.add", "user.disable", "token.create", "password.change"])
def test_changes_of_accounts_are_security_alerts(database, composer, action):
    root = told(database, composer, action, object_type="user", object_id=3, address="192.0.2.1")
    assert event(root) == ("110113", "E", "0")
    assert root.find(".//EventTypeCode").get("csd-code") == "110137"
    assert people(root) == ["anna@node-7"]


def test_what_was_lost_is_told(database, composer):
    root = told(database, composer, "audit.lost", actor="scheduler", outcome="failure", detail={"events": 5})
    assert root.find(".//EventTypeCode").get("csd-code") == "110133"


def test_a_seal_of_the_trail_carries_its_digest_to_the_repository(database, composer):
    digest = "ab" * 32
    said = {"seal": 7, "digest": digest}
    root = told(database, composer, "audit.seal", actor="scheduler", object_type="audit", detail=said)
    assert event(root) == ("110101", "R", "0")
    detail = root.find(".//ParticipantObjectDetail").get("value")
    assert digest in base64.b64decode(detail).decode()
    assert people(root) == ["scheduler"]


@pytest.mark.parametrize("action", ["audit.export", "audit.verify"])
def test_who_reads_the_whole_trail_is_told(database, composer, action):
    root = told(database, composer, action, address="192.0.2.1", outcome="failure")
    assert event(root) == ("110101", "R", "4")
    assert people(root) == ["anna@node-7"]


def test_a_word_that_nobody_knows_is_not_told(database, composer):
    assert told(database, composer, "destination.echo", object_type="destination", object_id="pacs") is None
    assert told(database, composer, "something.else") is None


def test_every_action_that_the_program_records_is_told_or_silent_on_purpose():
    known = set()
    for room in ("db", "webui", "pacs_node", "cxr_sr"):
        for file in (ROOT / room).rglob("*.py"):
            known |= set(_actions(file))
    assert {"login", "job.*", "*.store", "association.refused"} <= known
    untold = {
        one
        for one in known
        if trigger(one.replace("*", "anything")) is None
        and not any(fnmatchcase(told.rows, one) for told in TRIGGERS)
        and not any(fnmatchcase(one, silent) for silent in SILENT)
    }
    assert untold == set()
    assert len({one.rows for one in TRIGGERS}) == len(TRIGGERS)


def _actions(file: Path) -> Iterator[str]:
    """The third argument of each call of `audit.record` in a file, with * for what is filled in."""
    for node in ast.walk(ast.parse(file.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "record"
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "audit"
        ):
            action = node.args[2]
            parts = action.values if isinstance(action, ast.JoinedStr) else [action]
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts)
