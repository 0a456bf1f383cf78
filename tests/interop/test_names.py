"""Names in scripts of several bytes, from the modality through the node to Orthanc."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom import dcmread

from db.states import JobState
from tests import dicom_variants as variants
from tests.derived_checks import check_derived
from tests.interop.test_orthanc import Hospital, open_hospital
from tests.pacs_node.test_derive import JAPANESE, KOREAN

pytestmark = pytest.mark.peer("orthanc", "orthanc-dicomweb", "dcmsend")

NAMES = {
    "korean": ("\\ISO 2022 IR 149", KOREAN, "Hong^Gildong=洪^吉洞=홍^길동"),
    "japanese": ("\\ISO 2022 IR 87", JAPANESE, "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "korean-in-utf-8": (
        "ISO_IR 192",
        "Hong^Gildong=洪^吉洞=홍^길동".encode(),
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    "wrong": ("ISO_IR 192", "Müller^Jörg".encode("latin-1"), None),
}


@pytest.fixture
def hospital(tmp_path, orthanc, small_model, dcmtk) -> Iterator[Hospital]:
    with open_hospital(tmp_path / "node", orthanc, small_model, dcmtk) as hospital:
        yield hospital


@pytest.mark.filterwarnings("ignore")  # of pydicom, on the name that is not in its character set
def test_korean_and_japanese_names_survive_to_orthanc_unchanged(hospital, orthanc, tmp_path):
    files = {
        name: variants.in_character_set(charset, text, tmp_path / f"{name}.dcm")
        for name, (charset, text, _) in NAMES.items()
    }
    hospital.push(*files.values(), port=orthanc.dicom_port, called="ORTHANC")
    hospital.push(*files.values())
    for name, file in files.items():
        source = dcmread(file)
        job = hospital.finished(source.SOPInstanceUID)
        assert (job.state, job.reason) == (JobState.DONE, None), name
        back = tmp_path / f"{name}-back.dcm"
        back.write_bytes(orthanc.file(job.result_sop_uid))
        derived = dcmread(back)
        raw = derived.get_item("PatientName")
        assert raw is not None
        assert raw.value.rstrip(b" ") == NAMES[name][1], name
        assert derived.get("SpecificCharacterSet") == source.get("SpecificCharacterSet")
        check_derived(source, derived, job.scale)
        # Orthanc itself shows it as it shows the source, and where it knows the character set, right.
        shown = shown_by(orthanc, job.result_sop_uid)
        assert shown == shown_by(orthanc, source.SOPInstanceUID), name
        expected = NAMES[name][2]
        if expected is not None:
            assert str(derived.PatientName) == expected
            assert shown[0] == expected or name != "korean-in-utf-8"


def shown_by(orthanc, sop_instance_uid):
    """The patient's name in Orthanc's own interface and over DICOMweb."""
    tags = orthanc.get(f"/instances/{orthanc.instance(sop_instance_uid)}/simplified-tags")
    query = f"SOPInstanceUID={sop_instance_uid}&includefield=PatientName"
    (row,) = orthanc.get(f"/dicom-web/instances?{query}")
    return tags["PatientName"], row["00100010"]["Value"]
