"""What a person at the PACS does with dcmtk's programs: route a study, find its result, fetch it."""

from __future__ import annotations

import pytest
from pydicom import dcmread

from db.states import JobState
from tests import dicom_variants as variants
from tests import peers
from tests.derived_checks import check_derived, new_errors
from tests.interop.conftest import running_orthanc
from tests.interop.test_orthanc import open_hospital

pytestmark = pytest.mark.peer(
    "orthanc", "orthanc-dicomweb", "storescu", "findscu", "movescu", "getscu", "dciodvfy"
)


@pytest.fixture
def archive(tmp_path):
    (tmp_path / "archive").mkdir()
    with running_orthanc(
        tmp_path / "archive", DicomAlwaysAllowMove=True, DicomAlwaysAllowGet=True
    ) as orthanc:
        yield orthanc


def test_a_study_routed_from_the_archive_by_movescu_is_found_by_findscu_and_fetched_by_getscu(
    tmp_path, archive, small_model, dcmtk
):
    source = variants.written(variants.cr(), tmp_path / "cr.dcm")
    header = dcmread(source, stop_before_pixels=True)
    peer = ("-aec", "ORTHANC", "127.0.0.1", archive.dicom_port)
    assert dcmtk("storescu", *peer, source).returncode == 0
    with open_hospital(tmp_path / "node", archive, small_model, dcmtk) as hospital:
        node = {"AET": "CXR_SR", "Host": "127.0.0.1", "Port": hospital.port}
        archive.request("/modalities/node", "PUT", node)
        study = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={header.StudyInstanceUID}")
        moved = dcmtk("movescu", "-S", "-aem", "CXR_SR", *study, *peer, timeout=120)
        assert moved.returncode == 0, moved.stdout
        job = hospital.finished(header.SOPInstanceUID)
    assert (job.state, job.reason) == (JobState.DONE, None)

    level = ("-k", "QueryRetrieveLevel=SERIES", *study[2:])
    wanted = ("-k", "SeriesInstanceUID", "-k", "SeriesDescription")
    found = dcmtk("findscu", "-v", "-S", *level, *wanted, *peer)
    assert job.result_series_uid in found.stdout
    assert header.SeriesInstanceUID in found.stdout
    assert "AI" in found.stdout

    fetched = tmp_path / "fetched"
    fetched.mkdir()
    one = ("-k", f"SeriesInstanceUID={job.result_series_uid}")
    got = dcmtk("getscu", "-S", "-od", fetched, *level, *one, *peer, timeout=120)
    assert got.returncode == 0, got.stdout
    (result,) = fetched.iterdir()
    derived = dcmread(result)
    assert derived.SOPInstanceUID == job.result_sop_uid
    check_derived(dcmread(source), derived, job.scale)
    assert new_errors(peers.require("dciodvfy"), source, result) == []
