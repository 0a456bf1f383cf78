"""What becomes of results whose source was corrected, that were taken back, or that return to the sender."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from config.settings import Rule
from db import queue
from db.states import JobState
from tests import dicom_variants as variants
from tests.pacs_node.clinic import ARCHIVE, Clinic, open_clinic


@pytest.fixture
def clinic(tmp_path):
    with open_clinic(tmp_path / "node") as clinic:
        yield clinic


def retract(clinic: Clinic, job_id: int) -> None:
    with clinic.database.write() as session:
        job = queue.get(session, job_id, lock=True)
        assert job is not None
        queue.retract(session, job, reason="blurred", actor="anna")


def correct(ds: Dataset) -> Dataset:
    ds.PatientName = "Miller^Jo"
    return ds


def test_an_amended_result_is_taken_back_as_such(clinic):
    source = variants.cr()
    first = clinic.serve(source)
    second = clinic.serve(correct(source))
    old = clinic.job(first.id)
    assert (old.state, old.reason_code) == (JobState.RETRACTED, "amended")
    assert f"job {second.id}" in old.reason


def test_a_source_corrected_to_what_the_rules_leave_out_takes_its_result_back(clinic):
    source = variants.cr()
    first = clinic.serve(source)
    source.ViewPosition = "LL"
    second = clinic.serve(source)
    assert (second.state, second.reason_code) == (JobState.SKIPPED, "not-frontal")
    assert clinic.job(first.id).reason_code == "amended"


def test_what_is_made_again_after_a_retraction_has_names_of_its_own(clinic):
    """An archive goes on hiding what it was told to hide."""
    source = variants.cr()
    first = clinic.serve(source)
    retract(clinic, first.id)
    again = clinic.serve(source, kind="upload")
    assert again.result_sop_uid != first.result_sop_uid
    assert again.state is JobState.DONE
    retract(clinic, again.id)
    third = clinic.serve(source, kind="upload")
    assert third.result_sop_uid not in (first.result_sop_uid, again.result_sop_uid)


def test_a_modality_that_sends_again_does_not_undo_a_retraction(clinic):
    source = variants.cr()
    first = clinic.serve(source)
    retract(clinic, first.id)
    source.SpecificCharacterSet = "ISO_IR 100"  # other bytes, the same image
    clinic.serve(source)
    assert clinic.job(first.id).state is JobState.RETRACTED
    assert all(d.state == "cancelled" for d in clinic.job(first.id).deliveries)


@pytest.mark.parametrize(("known", "expected"), [(True, ["pacs", "room"]), (False, ["pacs"])])
def test_a_result_returns_to_its_sender_and_where_it_cannot_the_job_says_so(tmp_path, known, expected):
    title = "MODALITY" if known else "ANOTHER"
    room = ARCHIVE.model_copy(update={"name": "room", "ae_title": title, "default": False})
    rule = Rule(name="back", return_to_sender=True)
    with open_clinic(tmp_path / "node", destinations=(ARCHIVE, room), rules=(rule,)) as clinic:
        job = clinic.serve(variants.cr())
        warned = [event for event in clinic.events(job.id) if event.startswith("warning")]
    assert job.state is JobState.DELIVERING
    assert sorted(d.destination_name for d in job.deliveries) == expected
    assert bool(warned) is not known
    assert all("no destination has that AE title" in event for event in warned)


def test_an_original_is_marked_to_be_asked_for_first(tmp_path):
    rule = Rule(name="all", forward_original="if_missing")
    with open_clinic(tmp_path / "node", rules=(rule,)) as clinic:
        job = clinic.serve(variants.cr())
    assert {d.what: d.ask_first for d in job.deliveries} == {"result": False, "original": True}
