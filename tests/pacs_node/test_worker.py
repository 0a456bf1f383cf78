"""The worker serves the queue: every object ends in a state with its reason, and none stops the next."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from PIL import Image

from config.settings import Rule
from db import picks, presence, queue
from db.states import DeliveryState, JobState, Priority, Relation
from enhancer import IdentityModel
from pacs_node import codecs, worker
from pacs_node.examine import Limits
from pacs_node.examine_child import CRASH_VARIABLE
from tests import dicom_variants as variants
from tests.pacs_node.clinic import OneModel, open_clinic


@pytest.fixture
def clinic(tmp_path):
    with open_clinic(tmp_path) as clinic:
        yield clinic


def test_a_received_chest_is_enhanced_and_queued_for_the_archive(clinic):
    source = variants.cr()

    job = clinic.serve(source)

    assert (job.state, job.reason) == (JobState.DELIVERING, None)
    assert (job.rule, job.scale, job.model_version.name) == ("default", 4, "identity")
    assert [(d.destination_name, d.what, d.state) for d in job.deliveries] == [
        ("pacs", "result", DeliveryState.WAITING)
    ]
    assert job.deliveries[0].destination["ae_title"] == "PACS"
    ds = clinic.result(job)
    assert (ds.Rows, ds.Columns) == (4 * source.Rows, 4 * source.Columns)
    assert (ds.SOPInstanceUID, ds.SeriesInstanceUID) == (job.result_sop_uid, job.result_series_uid)
    assert ds.StudyInstanceUID == source.StudyInstanceUID
    assert job.result.figures["consistency"]["maximum"] < 0.05
    assert job.result.figures["seconds"] > 0
    assert (job.result.series_number, job.result.series_description) == (
        ds.SeriesNumber,
        ds.SeriesDescription,
    )


def test_the_examination_fills_patient_study_and_series(clinic):
    job = clinic.serve(variants.cr())

    source = job.source
    assert (source.rows, source.columns, source.bits_stored, source.photometric) == (
        96,
        80,
        12,
        "MONOCHROME2",
    )
    assert source.relation is Relation.ORIGINAL
    assert source.view_position == "PA"
    assert (source.bits_allocated, source.instance_number) == (16, 1)
    assert source.series.modality == "CR"
    assert source.series.study.accession_number == "ACC-77"
    assert source.series.study.patient.name == "Müller^Jörg"
    with clinic.store.open(source.preview_key) as stream:
        assert Image.open(stream).size == (80, 96)
    with clinic.store.open(job.result.preview_key) as stream:
        assert Image.open(stream).size == (320, 384)


def test_the_real_samples_meet_their_fate(clinic, shared_data):
    fates = {}
    for path in sorted(shared_data("dicom").glob("*.dcm")):
        job = clinic.serve(path)
        fates[path.name] = (job.state, job.reason_code, job.scale)

    assert fates == {
        "chest_cr_fuji_10bit_mono1_explicit.dcm": (JobState.DELIVERING, None, 4),
        "chest_cr_philips_15bit_mono1_j2k_lossless.dcm": (JobState.DELIVERING, None, 2),
        "chest_cr_philips_15bit_mono1_uncompressed.dcm": (JobState.DELIVERING, None, 2),
        "hip_cr_fuji_10bit_mono2_jpeg_lossless.dcm": (JobState.SKIPPED, "not-chest", None),
        "tibia_cr_fuji_10bit_mono1_jpegls_lossless.dcm": (JobState.SKIPPED, "not-chest", None),
        "tibia_cr_fuji_10bit_mono1_rle.dcm": (JobState.SKIPPED, "not-chest", None),
    }


def test_the_same_image_in_another_transfer_syntax_is_a_resend(clinic):
    source = variants.cr()
    first = clinic.serve(source)

    again = clinic.serve(variants.encoded(source, codecs.JPEG_LS_LOSSLESS))

    assert (again.state, again.reason_code) == (JobState.SKIPPED, "resend")
    assert again.source.relation is Relation.RESEND
    assert again.source.related_source_id == first.source_id
    assert again.result is None


def test_the_same_pixels_under_corrected_demographics_amend_the_result(clinic):
    source = variants.cr()
    first = clinic.serve(source)
    source.PatientName = "Miller^Jo"

    amended = clinic.serve(source)

    assert amended.state is JobState.DELIVERING
    assert amended.source.relation is Relation.AMENDMENT
    assert amended.result.figures["rebuilt"] is True
    old, new = clinic.result(clinic.job(first.id)), clinic.result(amended)
    assert old.PixelData == new.PixelData
    assert (old.PatientName, new.PatientName) == ("Müller^Jörg", "Miller^Jo")
    assert old.SOPInstanceUID != new.SOPInstanceUID
    retracted = clinic.job(first.id)
    assert retracted.state is JobState.RETRACTED
    assert [d.state for d in retracted.deliveries] == [DeliveryState.CANCELLED]


def test_a_second_copy_with_other_pixels_is_kept_apart(clinic):
    source = variants.cr()
    first = clinic.serve(source)
    other = variants.cr(
        variants.chest_values(12)[::-1].copy(),
        SOPInstanceUID=source.SOPInstanceUID,
        StudyInstanceUID=source.StudyInstanceUID,
        SeriesInstanceUID=source.SeriesInstanceUID,
    )

    second = clinic.serve(other)

    assert (second.state, second.reason_code) == (JobState.FAILED, "uid-conflict")
    assert second.source.relation is Relation.CONFLICT
    assert clinic.job(first.id).state is JobState.DELIVERING


def test_our_own_result_coming_back_is_not_enhanced_again(clinic):
    job = clinic.serve(variants.cr())
    result = clinic.result(job)
    result.file_meta.ImplementationClassUID = "1.2.3"  # a PACS writes its own file meta information

    back = clinic.serve(result)

    assert (back.state, back.reason_code) == (JobState.SKIPPED, "own-result")


@pytest.mark.parametrize(
    ("crash", "code"),
    [("segv", "decoder-crashed"), ("hang", "decoder-timeout"), ("swell", "decoder-memory")],
)
def test_an_image_that_breaks_its_decoder_fails_alone(tmp_path, crash, code):
    with open_clinic(
        tmp_path, environment={CRASH_VARIABLE: crash}, limits=Limits(timeout_seconds=2)
    ) as clinic:
        job = clinic.serve(variants.cr())

    assert (job.state, job.reason_code) == (JobState.FAILED, code)
    assert job.source.series.study.patient.patient_id == "PID-1"


def test_bad_input_gets_its_reason_and_the_next_good_image_still_works(clinic, tmp_path):
    text = tmp_path / "text.dcm"
    text.write_text("this is no image\n" * 50)
    cut = variants.written(variants.cr(), tmp_path / "cut.dcm")
    cut.write_bytes(cut.read_bytes()[:-4000])
    empty = variants.cr(PixelData=None)
    bomb = variants.cr(Rows=10000, Columns=10000)

    jobs = [clinic.receive(thing).job_id for thing in (text, cut, empty, bomb, variants.cr())]
    clinic.work()

    fates = [(job.state, job.reason_code) for job in map(clinic.job, jobs)]
    assert fates == [
        (JobState.FAILED, "not-an-image"),
        (JobState.FAILED, "truncated"),
        (JobState.SKIPPED, "no-pixels"),
        (JobState.FAILED, "too-large"),
        (JobState.DELIVERING, None),
    ]


def test_an_uploaded_picture_becomes_a_secondary_capture_study_that_goes_nowhere(clinic, tmp_path):
    path = tmp_path / "chest.png"
    Image.fromarray(variants.chest_values(16)).save(path)

    job = clinic.serve(
        path, kind="upload", media_type="image/png", suffix=".png", demographics={"PatientName": "Doe, Jane"}
    )

    assert (job.state, job.deliveries) == (JobState.DONE, [])
    ds = clinic.result(job)
    assert ds.SOPClassUID == variants.SC
    assert (ds.PatientName, ds.BitsStored, ds.Rows) == ("Doe^Jane", 16, 384)
    assert job.source.series.study.patient.name == "Doe^Jane"


def test_an_upload_goes_to_the_destination_that_was_chosen(clinic):
    job = clinic.serve(variants.dx(), kind="upload", requested={"destinations": ["pacs"], "scale": 2})

    assert (job.scale, [d.destination_name for d in job.deliveries]) == (2, ["pacs"])


def test_an_unknown_destination_of_a_rule_does_not_fail_the_job(clinic):
    job = clinic.serve(variants.cr(), kind="upload", requested={"destinations": ["gone"]})

    assert job.state is JobState.DONE
    assert "warning  no destination gone is configured" in clinic.events(job.id)


class Exploding(IdentityModel):
    def __init__(self, error):
        super().__init__()
        self.error, self.calls = error, 0

    def _enhance(self, lr, scale, progress):
        self.calls += 1
        raise self.error


def test_an_unexpected_error_is_tried_again_and_then_failed_without_patient_data(tmp_path):
    model = Exploding(ZeroDivisionError("Müller^Jörg"))
    with open_clinic(tmp_path, models=OneModel(model)) as clinic:
        accepted = clinic.receive(variants.cr())
        deadline = time.monotonic() + 10
        while clinic.job(accepted.job_id).state is not JobState.FAILED and time.monotonic() < deadline:
            clinic.work()
            time.sleep(0.05)
        job = clinic.job(accepted.job_id)

        assert (job.state, job.reason_code, model.calls) == (JobState.FAILED, "internal-error", 3)
        assert "Müller" not in job.reason


def test_a_worker_told_to_stop_gives_its_job_back_at_no_cost(tmp_path):
    stopped = threading.Event()

    class Slow(IdentityModel):
        def _enhance(self, lr, scale, progress):
            node.stop.set()
            stopped.set()
            return super()._enhance(lr, scale, progress)

    with open_clinic(tmp_path, models=OneModel(Slow())) as node:
        accepted = node.receive(variants.cr())
        node.worker.work_once()
        job = node.job(accepted.job_id)

    assert stopped.is_set()
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)


def test_a_cancelled_job_ends_at_its_next_sign_of_life(tmp_path):
    class Waiting(IdentityModel):
        def _enhance(self, lr, scale, progress):
            with clinic.database.write() as session:
                queue.cancel(session, queue.get(session, accepted.job_id), actor="person")
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                progress(0.5)
                time.sleep(0.02)
            raise AssertionError("nobody stopped it")

    with open_clinic(tmp_path, models=OneModel(Waiting())) as clinic:
        clinic.settings.queue.__dict__["lease_seconds"] = 0.4
        accepted = clinic.receive(variants.cr())
        clinic.worker.work_once()
        job = clinic.job(accepted.job_id)

    assert (job.state, job.reason_code) == (JobState.CANCELLED, "cancelled")


def test_a_late_worker_is_fenced_off_and_leaves_no_twin(tmp_path):
    class Late(IdentityModel):
        def _enhance(self, lr, scale, progress):
            with clinic.database.write() as session:  # its lease runs out and another takes the job
                job = queue.get(session, accepted.job_id, lock=True)
                job.lease_token += 1
            return super()._enhance(lr, scale, lambda _: None)

    with open_clinic(tmp_path, models=OneModel(Late())) as clinic:
        accepted = clinic.receive(variants.cr())
        clinic.worker.work_once()
        job = clinic.job(accepted.job_id)
        results = list((tmp_path / "objects" / "results").glob("*/*"))

    assert (job.state, job.result) == (JobState.RUNNING, None)
    assert results == []


def test_a_rerun_after_a_crash_names_the_same_object(tmp_path):
    source = variants.cr()
    with open_clinic(tmp_path, models=OneModel(Exploding(ZeroDivisionError()))) as clinic:
        accepted = clinic.receive(source)
        clinic.worker.work_once()
        named = clinic.job(accepted.job_id).result_sop_uid
        clinic.use(IdentityModel())
        deadline = time.monotonic() + 5
        while not clinic.worker.work_once() and time.monotonic() < deadline:
            time.sleep(0.05)

        job = clinic.job(accepted.job_id)
        assert job.result.sop_instance_uid == named
        assert np.all(np.diff([event.id for event in job.events]) > 0)


def test_a_person_who_uploads_an_altered_copy_retracts_nothing(clinic):
    source = variants.cr()
    first = clinic.serve(source)
    source.PatientName = "Somebody^Else"

    uploaded = clinic.serve(source, kind="upload")

    assert uploaded.state is JobState.DONE
    assert clinic.job(first.id).state is JobState.DELIVERING


def test_what_a_modality_sends_goes_to_the_archive_though_a_person_uploaded_it_before(clinic):
    source = variants.cr()
    uploaded = clinic.serve(source, kind="upload")
    sent = clinic.serve(source)
    again = clinic.serve(variants.encoded(source, codecs.RLE_LOSSLESS))

    assert (uploaded.state, uploaded.deliveries) == (JobState.DONE, [])
    assert (sent.state, len(sent.deliveries)) == (JobState.DELIVERING, 1)
    assert sent.result.id == uploaded.result.id
    assert (again.state, again.reason_code) == (JobState.SKIPPED, "resend")


def test_an_image_that_is_examined_after_its_own_amendment_is_not_delivered(clinic):
    source = variants.cr()
    stale = clinic.receive(source, priority=Priority.BULK)
    source.AccessionNumber = "CORRECTED"
    current = clinic.receive(source, priority=Priority.STAT)
    clinic.work()

    assert clinic.job(current.job_id).state is JobState.DELIVERING
    job = clinic.job(stale.job_id)
    assert (job.state, job.reason_code, job.deliveries) == (JobState.SKIPPED, "amended", [])


def test_a_rule_may_hold_results_for_review_and_forward_the_original(tmp_path):
    rule = Rule(name="careful", release="review", forward_original="always", priority="stat")
    with open_clinic(tmp_path, rules=(rule,)) as clinic:
        job = clinic.serve(variants.cr())

    assert (job.state, job.rule, job.priority) == (JobState.HELD, "careful", Priority.STAT)
    assert sorted((d.what, d.destination_name) for d in job.deliveries) == [
        ("original", "pacs"),
        ("result", "pacs"),
    ]


def test_the_urgent_image_among_many_is_finished_first(tmp_path):
    portable = Rule(name="portable", match={"ViewPosition": "AP"}, priority="stat")
    with open_clinic(tmp_path, rules=(portable,)) as clinic:
        first = [clinic.receive(variants.cr(ViewPosition="PA"), priority=Priority.STAT) for _ in range(3)]
        urgent = clinic.receive(variants.cr(ViewPosition="AP"), priority=Priority.STAT)
        clinic.work()
        jobs = [clinic.job(one.job_id) for one in (urgent, *first)]

    assert [job.state for job in jobs] == [JobState.DELIVERING] * 4
    assert [job.attempts for job in jobs] == [1] * 4
    made = sorted(jobs, key=lambda job: job.result.id)
    assert [job.id for job in made] == [job.id for job in jobs]


def test_a_lossy_upload_stays_marked_as_lossy(clinic, tmp_path):
    path = tmp_path / "chest.jpg"
    Image.fromarray(variants.chest_values(8, 300, 300)).save(path, quality=80)

    job = clinic.serve(path, kind="upload", media_type="image/jpeg", suffix=".jpg")

    ds = clinic.result(job)
    assert (ds.LossyImageCompression, ds.LossyImageCompressionMethod) == ("01", "ISO_10918_1")


def test_the_role_works_until_told_to_stop_and_shows_that_it_is_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "Models", lambda _settings: OneModel())
    with open_clinic(tmp_path) as clinic:
        accepted = clinic.receive(variants.cr())
        stop = threading.Event()
        role = threading.Thread(target=worker.run, args=(clinic.settings, stop))
        role.start()
        deadline = time.monotonic() + 60
        while clinic.job(accepted.job_id).state is not JobState.DELIVERING and time.monotonic() < deadline:
            time.sleep(0.05)
        with clinic.database.read() as session:
            (process,) = presence.alive(session, within_seconds=600)
        stop.set()
        role.join(30)

        assert not role.is_alive()
        assert clinic.job(accepted.job_id).state is JobState.DELIVERING
    assert (process.role, process.info["model"], process.info["problem"]) == ("worker", "identity", None)


def test_the_original_of_a_picture_is_not_forwarded_to_an_archive(tmp_path):
    path = tmp_path / "chest.png"
    Image.fromarray(variants.chest_values(8)).save(path)
    with open_clinic(tmp_path / "node", rules=(Rule(name="r", forward_original="always"),)) as clinic:
        archive = clinic.settings.destinations[0].model_dump(mode="json")
        picked = picks.pick(None, archive, {"StudyInstanceUID": "1.2.3", "PatientID": "1"})
        job = clinic.serve(
            path, kind="upload", media_type="image/png", suffix=".png", requested={"destinations": ["pacs"]},
            demographics=picked,
        )  # fmt: skip

    assert [d.what for d in job.deliveries] == ["result"]


@pytest.mark.parametrize("damage", ["a flipped bit", "truncated", "missing"])
def test_a_damaged_source_is_never_enhanced_and_one_put_right_is(clinic, damage):
    accepted = clinic.receive(variants.cr())
    path = clinic.store.root / clinic.job(accepted.job_id).source.object_key
    content = path.read_bytes()
    path.chmod(0o600)
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:-100])
    else:
        path.write_bytes(content[:-100] + bytes([content[-100] ^ 8]) + content[-99:])
    clinic.work()
    job = clinic.job(accepted.job_id)
    code = "source-gone" if damage == "missing" else "source-damaged"
    assert (job.state, job.reason_code, job.result) == (JobState.FAILED, code, None)

    path.write_bytes(content)
    with clinic.database.write() as session:
        queue.retry(session, session.get_one(type(job), job.id), actor="anna")
    clinic.work()
    assert clinic.job(accepted.job_id).state is JobState.DELIVERING
