"""What is withdrawn, amended, labelled and forwarded, as a real archive sees it."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from werkzeug.test import TestResponse

from config.settings import Rule
from db import people, queue
from db.models import Job
from db.states import DeliveryState, JobState
from pacs_node.sender import Sender
from tests import dicom_variants as variants
from tests import peers
from tests.derived_checks import check_derived, errors, new_errors
from tests.interop.conftest import Orthanc
from tests.pacs_node.clinic import Clinic, open_clinic
from tests.pacs_node.nodes import PATIENT, eventually, make_settings
from webui.app import create_app
from webui.services import KEY

pytestmark = pytest.mark.peer("orthanc", "orthanc-dicomweb")

KOS = "1.2.840.10008.5.1.4.1.1.88.59"


class Practice:
    """A clinic whose sender delivers to a real archive."""

    def __init__(self, clinic: Clinic, orthanc: Orthanc) -> None:
        self.clinic, self.orthanc = clinic, orthanc
        self.sender = Sender(clinic.settings, clinic.database, clinic.store, clinic.stop)

    def serve(self, thing: Dataset) -> int:
        """Take an object in, enhance it and deliver; the job's id."""
        job = self.clinic.serve(thing)
        self.deliver(job.id)
        return job.id

    def deliver(self, job_id: int) -> None:
        """Let the sender work until nothing of the job is open."""

        def settled() -> bool:
            self.sender.step()
            open_states = {DeliveryState.WAITING, DeliveryState.SENDING}
            return not any(d.state in open_states for d in self.clinic.job(job_id).deliveries)

        assert eventually(settled, 120), self.clinic.events(job_id)

    def retract(self, job_id: int, why: str = "quality") -> None:
        with self.clinic.database.write() as session:
            job = queue.get(session, job_id, lock=True)
            assert job is not None
            queue.retract(session, job, reason="the ribs look wrong", actor="anna", why=why)
        self.deliver(job_id)

    def archived(self, **query: str) -> list[Dataset]:
        """What the archive has, whole."""
        found = self.orthanc.find("Instance", **query)
        return [dcmread(BytesIO(self.orthanc.request(f"/instances/{one['ID']}/file"))) for one in found]

    def notes(self) -> list[Dataset]:
        return [ds for ds in self.archived() if ds.SOPClassUID == KOS]


@contextmanager
def practice(folder: Path, orthanc: Orthanc, *, rules: tuple[Rule, ...] = (), **destination: object):
    given = orthanc.destination.model_copy(update=destination)
    dicom = make_settings(folder, dicom=PATIENT).dicom
    with open_clinic(folder, dicom=dicom, destinations=(given,), rules=rules) as clinic:
        yield Practice(clinic, orthanc)


@pytest.fixture
def plain(tmp_path, orthanc) -> Iterator[Practice]:
    with practice(tmp_path / "node", orthanc) as made:
        yield made


def title(note: Dataset) -> tuple[str, str]:
    return note.ConceptNameCodeSequence[0].CodeValue, note.ConceptNameCodeSequence[0].CodeMeaning


def rejected(note: Dataset) -> tuple[str, str]:
    """Series and instance that a note names, the same in its evidence and in its content."""
    (study,) = note.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (instance,) = series.ReferencedSOPSequence
    (image,) = (item for item in note.ContentSequence if item.ValueType == "IMAGE")
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == instance.ReferencedSOPInstanceUID
    assert study.StudyInstanceUID == note.StudyInstanceUID
    return series.SeriesInstanceUID, instance.ReferencedSOPInstanceUID


def check_note(note: Dataset, folder: Path) -> None:
    note.save_as(folder / "note.dcm", enforce_file_format=True)
    assert errors(peers.require("dciodvfy"), folder / "note.dcm") == set()


def test_a_corrected_source_amends_its_result_and_a_note_withdraws_the_old_one(plain, tmp_path):
    source = variants.cr(PatientName="Miler^Jo", PatientID="1")
    first = plain.serve(source)
    source.PatientName, source.PatientID = "Miller^Jo", "2"
    second = plain.serve(source)
    plain.deliver(first)

    old, new = plain.clinic.job(first), plain.clinic.job(second)
    assert (old.state, new.state) == (JobState.RETRACTED, JobState.DONE)
    (note,) = plain.notes()
    assert title(note) == ("113038", "Incorrect Modality Worklist Entry")
    assert rejected(note) == (old.result_series_uid, old.result_sop_uid)
    assert (note.PatientName, note.PatientID) == ("Miler^Jo", "1"), "it lies with what it withdraws"
    assert note.StudyInstanceUID == source.StudyInstanceUID
    (amended,) = plain.archived(SOPInstanceUID=new.result_sop_uid)
    assert (amended.PatientName, amended.PatientID) == ("Miller^Jo", "2")
    check_note(note, tmp_path)


def test_a_result_taken_back_over_http_is_hidden_from_qido_and_wado_and_withdrawn_from_the_archive(plain):
    number = plain.serve(variants.cr())
    job = plain.clinic.job(number)
    with door(plain.clinic) as ask:
        study = f"/dicomweb/studies/{job.source.series.study.study_instance_uid}"

        def shown() -> set[str]:
            answer = ask("GET", f"{study}/instances")
            return {item["00080018"]["Value"][0] for item in answer.get_json()}

        assert job.result_sop_uid in shown()
        answer = ask("POST", f"/api/v1/jobs/{number}/retract", json={"reason": "wrong", "why": "safety"})
        assert answer.status_code == 200
        assert shown() == {job.source.sop_instance_uid}
        result = f"{study}/series/{job.result_series_uid}/instances/{job.result_sop_uid}"
        assert ask("GET", result).status_code == 410
    plain.deliver(number)
    (note,) = plain.notes()
    assert (title(note)[0], rejected(note)[1]) == ("113037", job.result_sop_uid)


def test_a_result_for_review_reaches_the_archive_when_somebody_releases_it_and_not_before(tmp_path, orthanc):
    rule = Rule(name="careful", match={"Anatomy": "CHEST", "CallingAETitle": "MOD*"}, release="review")
    with practice(tmp_path / "node", orthanc, rules=(rule,)) as made:
        number = made.clinic.serve(variants.cr()).id
        job = made.clinic.job(number)
        assert (job.state, job.rule) == (JobState.HELD, "careful")
        made.sender.step()
        made.sender.drain()
        with door(made.clinic) as ask:
            study = f"/dicomweb/studies/{job.source.series.study.study_instance_uid}"
            seen = ask("GET", f"{study}/instances").get_json()
            assert [one["00080018"]["Value"] for one in seen] == [[job.source.sop_instance_uid]]
            assert made.archived() == []
            assert ask("POST", f"/api/v1/jobs/{number}/release").status_code == 200
        made.deliver(number)
        assert [ds.SOPInstanceUID for ds in made.archived()] == [job.result_sop_uid]


@contextmanager
def door(clinic: Clinic) -> Iterator[Callable[..., TestResponse]]:
    """The web side of a clinic, as an administrator's program sees it."""
    app = create_app(clinic.settings, clinic.database)
    with clinic.database.write() as session:
        root = people.add_user(session, "root", "admin", "correct horse battery")
        token, _ = people.create_token(session, root, "test")
    client = app.test_client()

    def ask(method: str, path: str, **more: Any) -> TestResponse:
        return client.open(path, method=method, headers={"Authorization": f"Bearer {token}"}, **more)

    yield ask
    app.extensions[KEY].broadcaster.close()


def test_a_source_corrected_to_what_rules_leave_out_withdraws_its_result(plain):
    source = variants.cr()
    first = plain.serve(source)
    source.ViewPosition = "LL"
    second = plain.serve(source)
    plain.deliver(first)

    assert plain.clinic.job(second).reason_code == "not-frontal"
    assert plain.clinic.job(first).state is JobState.RETRACTED
    assert [rejected(note)[1] for note in plain.notes()] == [plain.clinic.job(first).result_sop_uid]


@pytest.mark.parametrize(
    ("why", "code"), [("quality", "113001"), ("safety", "113037"), ("worklist", "113038")]
)
def test_a_person_who_takes_a_result_back_is_heard_by_the_archive(plain, tmp_path, why, code):
    number = plain.serve(variants.dx())
    plain.retract(number, why)

    job = plain.clinic.job(number)
    (note,) = plain.notes()
    assert title(note)[0] == code
    assert rejected(note) == (job.result_series_uid, job.result_sop_uid)
    assert "the ribs look wrong" in [item.get("TextValue") for item in note.ContentSequence]
    assert {d.what: d.state for d in job.deliveries} == {"result": "stored", "note": "stored"}
    check_note(note, tmp_path)


@pytest.mark.parametrize("name", ["Yamada^Tarou=山田^太郎=やまだ^たろう", "Hong^Gildong=洪^吉洞=홍^길동"])
def test_the_names_of_patients_in_any_script_survive_into_the_note(plain, name):
    number = plain.serve(variants.cr(SpecificCharacterSet="ISO_IR 192", PatientName=name))
    plain.retract(number)

    (note,) = plain.notes()
    assert str(note.PatientName) == name
    assert plain.orthanc.find("Study")[0]["PatientMainDicomTags"]["PatientName"] == name


@pytest.mark.parametrize("label", ["overlay", "burned"])
def test_a_labelled_result_arrives_instead_of_the_plain_one_and_is_the_one_withdrawn(
    tmp_path, orthanc, label
):
    source = variants.cr()
    with practice(tmp_path / "node", orthanc, label=label) as made:
        number = made.serve(source)
        job = made.clinic.job(number)
        (arrived,) = made.archived()
        assert arrived.SOPInstanceUID != job.result_sop_uid
        made.retract(number)
        (note,) = made.notes()
        assert rejected(note) == (arrived.SeriesInstanceUID, arrived.SOPInstanceUID)
    check_derived(source, arrived, job.scale)
    variants.written(source, tmp_path / "source.dcm")
    arrived.save_as(tmp_path / "arrived.dcm", enforce_file_format=True)
    assert new_errors(peers.require("dciodvfy"), tmp_path / "source.dcm", tmp_path / "arrived.dcm") == []


def test_an_original_is_forwarded_only_where_it_is_missing(tmp_path, orthanc):
    rule = Rule(name="all", forward_original="if_missing")
    with practice(tmp_path / "node", orthanc, rules=(rule,)) as made:
        absent, present = variants.cr(), variants.cr(InstanceNumber=7)
        variants.written(present, tmp_path / "present.dcm")
        upload(orthanc, tmp_path / "present.dcm")
        comments = {}
        for source in (absent, present):
            job = made.clinic.job(made.serve(source))
            assert job.state is JobState.DONE, made.clinic.events(job.id)
            (comments[source.SOPInstanceUID],) = (d.comment for d in job.deliveries if d.what == "original")
            assert len(made.archived(SOPInstanceUID=source.SOPInstanceUID)) == 1
        assert comments[absent.SOPInstanceUID] is None
        assert "was there already" in comments[present.SOPInstanceUID]


def test_by_dicomweb_too_a_note_follows_the_result_and_an_original_is_sent_where_it_is_missing(
    tmp_path, orthanc
):
    url = f"http://127.0.0.1:{orthanc.http_port}/dicom-web"
    rule = Rule(name="all", forward_original="if_missing")
    with practice(tmp_path / "node", orthanc, rules=(rule,), kind="dicomweb", url=url) as made:
        source = variants.cr()
        number = made.serve(source)
        assert len(made.archived(SOPInstanceUID=source.SOPInstanceUID)) == 1
        again = made.serve(variants.cr(SOPInstanceUID="1.2.3.77"))
        (original,) = (d for d in made.clinic.job(again).deliveries if d.what == "original")
        assert original.comment is None
        made.retract(number)
        (note,) = made.notes()
        assert rejected(note)[1] == made.clinic.job(number).result_sop_uid


@pytest.mark.parametrize("arrived", [False, True])
def test_an_archive_that_may_have_a_result_is_asked_before_it_is_sent_a_note(plain, arrived):
    number = plain.serve(variants.cr())
    if not arrived:
        plain.orthanc.clear()
    with plain.clinic.database.write() as session:
        (delivery,) = session.get_one(Job, number).deliveries
        delivery.stored_at, delivery.perhaps_there = None, True
    plain.retract(number)
    assert len(plain.notes()) == arrived
    (note,) = (d for d in plain.clinic.job(number).deliveries if d.what == "note")
    assert note.state == ("stored" if arrived else "cancelled")


def upload(orthanc: Orthanc, file: Path) -> None:
    url = f"http://127.0.0.1:{orthanc.http_port}/instances"
    with urllib.request.urlopen(urllib.request.Request(url, file.read_bytes(), method="POST"), timeout=30):
        pass
