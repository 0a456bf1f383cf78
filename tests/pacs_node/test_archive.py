from __future__ import annotations

import os
import signal
import subprocess
import sys

from pacs_node import archive, header
from tests.pacs_node.nodes import CR, EXPLICIT, associated, encoded, make_object, raw_store, store_object


def test_what_was_sent_can_be_listed_and_found(tmp_path):
    ds = make_object()
    ds.SeriesDescription = "AI x4"
    with archive.serve(tmp_path / "archive") as pacs:
        with associated(pacs.port, called=pacs.ae_title) as assoc:
            assert store_object(assoc, ds) == (0x0000, None)
        (stored,) = pacs.objects()
        assert (stored.sop_instance_uid, stored.sop_class_uid) == (ds.SOPInstanceUID, CR)
        assert (stored.study_instance_uid, stored.series_instance_uid, stored.series_description) == (
            ds.StudyInstanceUID,
            ds.SeriesInstanceUID,
            "AI x4",
        )
        assert pacs.find(ds.SOPInstanceUID) == stored.path
        assert pacs.find("1.2.3") is None
    assert stored.path.read_bytes() == header.part10_header(CR, ds.SOPInstanceUID, EXPLICIT) + encoded(ds)
    assert [path.name for path in (tmp_path / "archive").glob(".spool/*")] == []


def test_an_archive_that_is_opened_again_still_has_its_objects(tmp_path):
    ds = make_object()
    with archive.serve(tmp_path) as pacs, associated(pacs.port, called=pacs.ae_title) as assoc:
        store_object(assoc, ds)
    with archive.serve(tmp_path) as pacs:
        assert pacs.find(ds.SOPInstanceUID)


def test_nothing_of_an_archive_s_paths_comes_from_a_peer(tmp_path):
    with archive.serve(tmp_path / "archive") as pacs, associated(pacs.port, called=pacs.ae_title) as assoc:
        assert raw_store(assoc, encoded(make_object()), sop_instance=b"../../etc/passwd")[0] == 0xC000
        assert pacs.find("../../etc/passwd") is None
        assert pacs.objects() == []


def test_an_archive_runs_as_a_process_of_its_own(tmp_path):
    command = [sys.executable, "-m", "pacs_node.archive", str(tmp_path / "archive"), "--ae-title", "FAR"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=os.getcwd()) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with associated(port, called="FAR") as assoc:
                assert store_object(assoc, make_object()) == (0x0000, None)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert len(list((tmp_path / "archive").glob("*.dcm"))) == 1
