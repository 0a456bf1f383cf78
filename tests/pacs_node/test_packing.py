"""Notes and labelled copies are made once, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select

from db import queue
from db.exchange import LabelledResult, RejectionNote
from db.models import Result
from db.objects import StoreFull
from db.types import utcnow
from pacs_node import provenance
from pacs_node.consignment import Consignment, NothingToSend
from pacs_node.errors import TryLater
from pacs_node.packing import Packer
from tests import dicom_variants as variants
from tests.derived_checks import check_derived
from tests.pacs_node.clinic import ARCHIVE, Clinic, open_clinic


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[Clinic, Dataset, int]]:
    """A clinic, and in it a source whose result is to go to an archive that wants labels; its job."""
    wants = ARCHIVE.model_copy(update={"label": "burned"})
    with open_clinic(tmp_path_factory.mktemp("clinic"), destinations=(wants,)) as clinic:
        source = variants.cr()
        yield clinic, source, clinic.serve(source).id


@pytest.fixture
def fresh(served) -> Iterator[tuple[Clinic, Dataset, int]]:
    """The same, without anything made for deliveries."""
    clinic, *_ = served
    with clinic.database.write() as session:
        for table in (LabelledResult, RejectionNote):
            for row in session.scalars(select(table)):
                session.delete(row)
    return served


def packer(clinic: Clinic) -> Packer:
    return Packer(clinic.database, clinic.store)


def delivery_of(clinic: Clinic, job_id: int, what: str = "result") -> int:
    (found,) = (d.id for d in clinic.job(job_id).deliveries if d.what == what)
    return found


def read(clinic: Clinic, goods: Consignment) -> Dataset:
    with clinic.store.open(goods.object_key) as stream:
        ds = dcmread(stream)
        _ = ds.get("PixelData")
    return ds


def kept(clinic: Clinic, kind: str) -> int:
    return len([path for path in (clinic.store.root / kind).rglob("*") if path.is_file()])


def test_a_labelled_copy_is_made_once_and_follows_the_recipe(fresh):
    clinic, source, job_id = fresh
    number, before = delivery_of(clinic, job_id), kept(clinic, "labelled")
    first = packer(clinic).pack(number)
    assert packer(clinic).pack(number) == first
    assert kept(clinic, "labelled") == before + 1
    check_derived(source, read(clinic, first), clinic.job(job_id).scale)
    assert provenance.is_own_result(read(clinic, first)), "it is not enhanced when it comes back"
    assert first.sop_instance_uid == read(clinic, first).SOPInstanceUID


def test_after_a_crash_before_the_row_the_same_object_is_made_again(fresh, monkeypatch):
    clinic, _, job_id = fresh
    number = delivery_of(clinic, job_id)

    class Crash(BaseException):
        pass

    made: list[str] = []

    def crash(_self: Packer, _number: int, ds: Dataset, *_: object) -> Consignment:
        made.append(ds.SOPInstanceUID)
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(Packer, "_keep", crash)
        with pytest.raises(Crash):
            packer(clinic).pack(number)
    assert packer(clinic).pack(number).sop_instance_uid == made[0]


def test_of_two_senders_that_make_it_at_once_one_objects_stands_and_none_is_left_over(fresh, monkeypatch):
    clinic, _, job_id = fresh
    number, before = delivery_of(clinic, job_id), kept(clinic, "labelled")
    slow = Packer._keep
    first: list[Consignment] = []

    def overtaken(self: Packer, number: int, ds: Dataset, kind: str, row: LabelledResult) -> Consignment:
        twin = LabelledResult(result_id=row.result_id, label=row.label)
        first.append(slow(self, number, ds, kind, twin))
        return slow(self, number, ds, kind, row)

    monkeypatch.setattr(Packer, "_keep", overtaken)
    second = packer(clinic).pack(number)
    assert second == first[0]
    assert kept(clinic, "labelled") == before + 1


def test_a_full_store_is_tried_again_later(fresh, monkeypatch):
    clinic, _, job_id = fresh

    def full(*_: object) -> None:
        raise StoreFull("no room")

    monkeypatch.setattr(clinic.store, "put", full)
    with pytest.raises(TryLater):
        packer(clinic).pack(delivery_of(clinic, job_id))


def test_a_result_that_is_gone_cannot_be_labelled(fresh):
    clinic, _, job_id = fresh
    number = delivery_of(clinic, job_id)
    with clinic.database.write() as session:
        result = session.get_one(Result, clinic.job(job_id).result_id)
        key, result.object_key = result.object_key, "results/00/" + "0" * 32 + ".dcm"
    try:
        with pytest.raises(NothingToSend, match="missing"):
            packer(clinic).pack(number)
    finally:
        with clinic.database.write() as session:
            session.get_one(Result, clinic.job(job_id).result_id).object_key = key


def test_a_note_tells_whom_it_is_about_even_when_the_result_is_no_longer_kept(tmp_path):
    with open_clinic(tmp_path) as clinic:
        source = variants.cr(SpecificCharacterSet="ISO_IR 192", PatientName="山田^太郎", AccessionNumber="A7")
        job_id = clinic.serve(source).id
        with clinic.database.write() as session:
            job = queue.get(session, job_id, lock=True)
            job.deliveries[0].stored_at = utcnow()
            queue.retract(session, job, reason="blurred", actor="anna")
        kept_note = read(clinic, packer(clinic).pack(delivery_of(clinic, job_id, "note")))
        with clinic.database.write() as session:
            session.delete(session.scalars(select(RejectionNote)).one())
            session.get_one(Result, clinic.job(job_id).result_id).deleted_at = utcnow()
        note = read(clinic, packer(clinic).pack(delivery_of(clinic, job_id, "note")))
    assert note.SOPInstanceUID == kept_note.SOPInstanceUID
    for ds in (note, kept_note):
        assert (str(ds.PatientName), ds.PatientID) == ("山田^太郎", source.PatientID)
        assert (ds.StudyInstanceUID, ds.AccessionNumber) == (source.StudyInstanceUID, "A7")
