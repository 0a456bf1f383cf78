"""The note that takes a result back: what it says, of whom, in which words."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from db import queue
from pacs_node import derive, identity, recipe, rejection, uids
from tests import dicom_variants as variants
from tests.derived_checks import errors
from tests.peers import require as require_peer

HERE = uuid.UUID(int=11)
REJECTED = rejection.Rejected("1.2.3.4", recipe.CR_IMAGE, "1.2.3.5")
WHEN = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


def note_about(about, tmp_path, *, title=rejection.QUALITY, reason="not good enough"):
    """A note, written and read again."""
    names = uids.note_uids(HERE, str(about.StudyInstanceUID), 7, REJECTED.instance)
    ds = rejection.rejection_note(
        about, REJECTED, title=title, reason=reason, names=names, at=WHEN, installation=HERE
    )
    derive.write_file(ds, tmp_path / "note.dcm")
    return dcmread(tmp_path / "note.dcm")


@pytest.mark.parametrize("title", sorted(set(rejection.TITLES.values())))
def test_a_note_passes_the_validator_and_names_what_it_takes_back(tmp_path, title):
    source = variants.cr()
    note = note_about(source, tmp_path, title=title)

    assert errors(require_peer("dciodvfy"), tmp_path / "note.dcm") == set()
    assert (note.SOPClassUID, note.Modality) == ("1.2.840.10008.5.1.4.1.1.88.59", "KO")
    assert note.StudyInstanceUID == source.StudyInstanceUID
    assert note.SeriesInstanceUID != source.SeriesInstanceUID
    assert note.ConceptNameCodeSequence[0].CodeValue == title[0]
    assert note.ContentTemplateSequence[0].TemplateIdentifier == "2010"
    (study,) = note.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == REJECTED.series
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == REJECTED.instance
    assert note.file_meta.ImplementationClassUID == identity.IMPLEMENTATION_CLASS_UID


def test_every_way_to_take_back_has_its_title():
    assert set(rejection.TITLES) == set(queue.RETRACTIONS.values())


def test_an_amendment_is_no_matter_of_quality():
    """Archives may go on showing what was rejected for quality; wrong demographics must be hidden."""
    assert rejection.TITLES["amended"] == ("113038", "Incorrect Modality Worklist Entry")


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 192", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("ISO_IR 100", "Müller^Jörg"),
    ],
)
@pytest.mark.parametrize("reason", ["not good enough", "無効, 무효"])
def test_names_and_reasons_in_any_script_are_read_again_as_they_were(tmp_path, charset, name, reason):
    variants.written(
        variants.cr(SpecificCharacterSet=charset, PatientName=name, ReferringPhysicianName=name),
        tmp_path / "about.dcm",
    )
    note = note_about(dcmread(tmp_path / "about.dcm"), tmp_path, reason=reason)

    assert str(note.PatientName) == str(note.ReferringPhysicianName) == name
    assert reason in [item.get("TextValue") for item in note.ContentSequence]
    assert errors(require_peer("dciodvfy"), tmp_path / "note.dcm") == set()


def test_a_study_that_says_little_gets_a_note_all_the_same(tmp_path):
    about = Dataset()
    about.StudyInstanceUID = "1.2.77"
    note_about(about, tmp_path)
    assert errors(require_peer("dciodvfy"), tmp_path / "note.dcm") == set()


def test_the_same_retraction_gives_the_same_bytes(tmp_path):
    source = variants.cr()
    note_about(source, tmp_path)
    first = (tmp_path / "note.dcm").read_bytes()
    note_about(source, tmp_path)
    assert (tmp_path / "note.dcm").read_bytes() == first


def test_every_code_of_a_note_stands_in_the_table_of_codes(tmp_path):
    note = note_about(variants.cr(), tmp_path)
    listed = {concept for _, concept, _ in rejection.CODES}
    for ds in (note, *note.ContentSequence):
        for keyword in ("ConceptNameCodeSequence", "ConceptCodeSequence"):
            for item in ds.get(keyword) or []:
                assert (item.CodeValue, item.CodeMeaning) in listed


@pytest.mark.filterwarnings("ignore")  # of pydicom, on a name that is not in its character set
def test_a_name_that_cannot_be_read_is_in_the_note_byte_for_byte(tmp_path):
    name = "Müller^Jörg".encode("latin-1")
    path = variants.in_character_set("ISO_IR 192", name, tmp_path / "source.dcm")

    note = note_about(dcmread(path), tmp_path)

    element = note.get_item("PatientName")
    assert element is not None
    assert element.value.rstrip(b" ") == name
