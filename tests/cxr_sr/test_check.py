from __future__ import annotations

import json

import pytest
from pydicom import dcmread

from cxr_sr import cli
from enhancer import IdentityModel
from pacs_node import soundness
from pacs_node.files import enhance_path
from tests import dicom_variants as variants


@pytest.fixture
def source(tmp_path):
    return variants.written(variants.dx(), tmp_path / "source.dcm")


@pytest.fixture
def derived(source, tmp_path):
    list(enhance_path(source, tmp_path / "derived.dcm", scale=2, model=IdentityModel()))
    return tmp_path / "derived.dcm"


def test_a_sound_pair_is_status_0_and_not_a_line(source, derived, capsys):
    assert cli.run(["check", str(source), str(derived)]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"sound by {len(soundness.RULES)} rules" in shown.err


def test_each_finding_is_a_line_and_the_status_is_1(source, derived, capsys):
    ds = dcmread(derived)
    ds.ImagerPixelSpacing = ["0.148", "0.148"]
    ds.PatientName = "Other^Name"
    ds.save_as(derived)

    assert cli.run(["check", str(source), str(derived)]) == 1
    shown = capsys.readouterr()
    patient, spacing = shown.out.splitlines()
    assert patient.startswith("patient: PatientName differs from the source.")
    assert spacing.startswith("spacing: ImagerPixelSpacing ")
    assert spacing.endswith("(PS3.3 10.7.1)")
    assert "2 findings" in shown.err
    assert "Other" not in shown.out + shown.err


def test_findings_can_be_read_by_a_machine(source, derived, capsys):
    assert cli.run(["check", "--json", str(source), str(source)]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["sound"] is False
    assert {finding["rule"] for finding in said["findings"]} >= {"sop-instance", "image-type", "qualified"}
    assert said["rules"] == [rule.name for rule in soundness.RULES]

    assert cli.run(["check", "--json", str(source), str(derived)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["sound"], said["findings"]) == (True, [])


def test_a_source_in_another_transfer_syntax_is_decoded_and_compared(source, derived, tmp_path):
    from pacs_node import codecs

    packed = variants.encoded(dcmread(source), codecs.JPEG_LS_LOSSLESS)

    assert cli.run(["check", str(variants.written(packed, tmp_path / "packed.dcm")), str(derived)]) == 0


def test_a_file_that_is_no_dicom_is_one_line_and_status_1(source, tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("no image")
    assert cli.run(["check", str(source), str(tmp_path / "letter.txt")]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1


def test_a_file_that_is_not_there_is_wrong_usage(source, tmp_path):
    assert cli.run(["check", str(source), str(tmp_path / "nothing.dcm")]) == 2
