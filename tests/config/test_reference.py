"""The table of settings."""

from __future__ import annotations

from config.reference import markdown, reference

CONTRACT = [
    "data_dir",
    "database.url",
    "storage.url",
    "storage.endpoint",
    "dicom.ae_title",
    "dicom.host",
    "dicom.port",
    "dicom.allow",
    "destinations[].name",
    "destinations[].ae_title",
    "destinations[].host",
    "destinations[].port",
    "destinations[].tls",
    "destinations[].storage_commitment",
    "destinations[].label",
    "destinations[].default",
    "rules[].release",
    "rules[].forward_original",
    "web.host",
    "web.port",
    "web.tls_cert",
    "web.tls_key",
    "web.trusted_proxies",
    "enhancer.device",
    "enhancer.model",
    "enhancer.scale",
    "enhancer.max_output_side",
    "enhancer.min_output_spacing",
]


def test_every_setting_is_described_in_a_sentence():
    for entry in reference():
        assert entry.description.endswith("."), f"{entry.key} has no description"
        assert "|" not in entry.description


def test_the_settings_that_the_outside_relies_on_are_there():
    assert set(CONTRACT) <= {entry.key for entry in reference()}


def test_no_setting_stands_twice():
    keys = [entry.key for entry in reference()]
    assert len(keys) == len(set(keys))


def test_defaults_are_written_as_in_a_file():
    defaults = {entry.key: entry.default for entry in reference()}
    assert defaults["data_dir"] == '"var"'
    assert defaults["dicom.port"] == "11112"
    assert defaults["dicom.allow"] == "[]"
    assert defaults["enhancer.min_output_spacing"] == "0.05"
    assert defaults["destinations[].tls"] == "false"
    assert defaults["destinations[].name"] == "required"
    assert defaults["web.tls_cert"] == "none"
    assert defaults["rules[].match"] == "{}"


def test_the_table_has_a_row_for_each():
    rows = markdown().splitlines()
    assert rows[0] == "| key | default | meaning |"
    assert len(rows) == len(reference()) + 2
    assert "| `dicom.port` | `11112` | Port to listen on; 0 takes a free one. |" in rows
