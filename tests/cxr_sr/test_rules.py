"""`cxr-sr rules test` says what would become of a file, and why."""

from __future__ import annotations

import json

import pytest

from cxr_sr import cli, doctor
from tests import dicom_variants as variants

CONFIG = """
data_dir = "{folder}/var"
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 104
[[destinations]]
name = "er"
ae_title = "ER_PORTABLE"
host = "127.0.0.1"
port = 105
default = false
[[rules]]
name = "somebody"
match = {{ PatientID = "SECRET*" }}
[[rules]]
name = "emergency"
match = {{ CallingAETitle = "ER*", CallingAddress = "192.0.2.0/24", Anatomy = "CHEST" }}
priority = "stat"
release = "review"
forward_original = "if_missing"
return_to_sender = true
[[rules]]
name = "no room 3"
match = {{ StationName = "ROOM3" }}
action = "skip"
"""


@pytest.fixture
def ask(tmp_path, capsys):
    (tmp_path / "cxr-sr.toml").write_text(CONFIG.format(folder=tmp_path))

    def run(ds, *options):
        file = variants.written(ds, tmp_path / "image.dcm")
        status = cli.run(["rules", "test", str(file), "--config", str(tmp_path / "cxr-sr.toml"), *options])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def test_it_names_the_rule_that_decides_and_what_that_means(ask):
    caller = ("--calling-ae-title", "ER_PORTABLE", "--address", "192.0.2.7")
    status, out, _ = ask(variants.cr(BodyPartExamined="", StudyDescription="Thorax p.a."), *caller, "--json")
    (verdict,) = json.loads(out)["files"]
    assert status == 0
    assert (verdict["action"], verdict["rule"], verdict["scale"]) == ("enhance", "emergency", 4)
    assert verdict["destinations"] == ["pacs", "er"]
    assert (verdict["priority"], verdict["release"]) == ("stat", "review")
    assert verdict["forward_original"] == "if_missing"
    assert [passed["rule"] for passed in verdict["passed_over"]] == ["somebody"]


def test_it_says_of_each_earlier_rule_which_entry_did_not_match(ask):
    status, out, _ = ask(
        variants.cr(StationName="ROOM3"), "--calling-ae-title", "ER_1", "--address", "198.51.100.1"
    )
    assert status == 0
    assert 'skip by the rule "no room 3" (rule)' in out
    assert 'not by "emergency": CallingAddress is 198.51.100.1, not 192.0.2.0/24' in out


def test_it_repeats_nothing_of_the_patient(ask):
    ds = variants.cr(PatientID="4711")
    for options in ((), ("--json",)):
        _, out, _ = ask(ds, *options)
        assert "4711" not in out
        assert "PatientID is not SECRET*" in out


def test_a_default_skip_comes_with_its_reason(ask):
    _, out, _ = ask(variants.cr(ViewPosition="LL", StationName="ROOM4"))
    assert 'skip by the rule "default" (not-frontal)' in out
    assert "not a frontal view" in out


def test_a_file_that_cannot_be_worked_with_makes_the_status_1(tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("no image")
    assert cli.run(["rules", "test", str(tmp_path / "letter.txt")]) == 1
    shown = capsys.readouterr()
    assert "fail (not-an-image)" in shown.out
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("command", [["serve"], ["rules", "test"]])
@pytest.mark.parametrize(
    ("entry", "told"),
    [('BodyPart = "CHEST"', "rules.0.match.BodyPart"), ('CallingAddress = "192.0.2.0/99"', "192.0.2.0/99")],
)
def test_a_rule_that_can_never_match_stops_the_start(tmp_path, capsys, samples_dir, command, entry, told):
    config = tmp_path / "cxr-sr.toml"
    config.write_text(f'data_dir = "{tmp_path}/var"\n[[rules]]\nname = "x"\nmatch = {{ {entry} }}\n')
    files = [str(samples_dir / "chest_pa_nih_256.dcm")] if command[0] == "rules" else []
    assert cli.run([*command, *files, "--config", str(config)]) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "var").exists()


def test_the_doctor_finds_a_rule_that_can_never_match(tmp_path):
    config = tmp_path / "cxr-sr.toml"
    config.write_text('[[rules]]\nname = "x"\nmatch = { BodyPart = "CHEST" }\n')
    check = next(doctor.examine(config))
    assert (check.name, check.ok) == ("configuration", False)
    assert "rules.0.match.BodyPart" in check.message
