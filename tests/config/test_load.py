"""Where settings come from, and what is said of those that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import ConfigError, load_settings


def test_without_a_file_and_variables_there_are_the_defaults(folder):
    settings = load_settings()
    assert settings.data_dir == Path("var")
    assert (settings.dicom.ae_title, settings.dicom.host, settings.dicom.port) == (
        "CXR_SR",
        "127.0.0.1",
        11112,
    )
    assert (settings.web.host, settings.web.port) == ("127.0.0.1", 8080)
    assert (settings.enhancer.model, settings.enhancer.scale, settings.enhancer.device) == (
        "srgan",
        "auto",
        "auto",
    )
    assert (settings.enhancer.max_output_side, settings.enhancer.min_output_spacing) == (9216, 0.05)
    assert settings.destinations == settings.rules == settings.dicom.allow == ()
    assert settings.database_url == f"sqlite:///{folder}/var/cxr-sr.db"
    assert settings.storage_url == f"file://{folder}/var/objects"


def test_the_file_of_the_working_folder_is_read_unless_another_is_named(folder, monkeypatch):
    for name, port in (("cxr-sr.toml", 1), ("variable.toml", 2), ("given.toml", 3)):
        (folder / name).write_text(f"[dicom]\nport = {port}\n")
    assert load_settings().dicom.port == 1
    monkeypatch.setenv("CXR_SR_CONFIG", "variable.toml")
    assert load_settings().dicom.port == 2
    assert load_settings(Path("given.toml")).dicom.port == 3


@pytest.mark.parametrize("named", [True, False])
def test_a_named_file_that_is_not_there_is_not_passed_over(monkeypatch, named):
    monkeypatch.setenv("CXR_SR_CONFIG", "none.toml")
    with pytest.raises(ConfigError, match=r"^none\.toml: expected a configuration file, but there is none$"):
        load_settings(Path("none.toml") if named else None)


def test_a_variable_wins_over_the_file_and_leaves_the_rest_of_its_section(load):
    settings = load(
        '[dicom]\nport = 104\nae_title = "FILE"\n',
        DICOM__PORT="105",
        DATA_DIR="/srv/cxr",
        ENHANCER__SCALE="2",
    )
    assert (settings.dicom.port, settings.dicom.ae_title) == (105, "FILE")
    assert settings.data_dir == Path("/srv/cxr")
    assert settings.database_url == "sqlite:////srv/cxr/cxr-sr.db"
    assert settings.enhancer.scale == 2


def test_lists_are_json_in_the_environment_and_replace_those_of_the_file(load):
    settings = load(
        '[[destinations]]\nname = "old"\nae_title = "OLD"\nhost = "h"\nport = 1\n',
        DESTINATIONS='[{"name": "pacs", "ae_title": "PACS", "host": "h", "port": 104, "default": false}]',
        DICOM__ALLOW='[{"ae_title": "CR1", "address": "192.0.2.0/24"}]',
        WEB__TRUSTED_PROXIES='["192.0.2.9"]',
    )
    assert [d.name for d in settings.destinations] == ["pacs"]
    assert settings.default_destinations == ()
    assert settings.destination("pacs") is settings.destinations[0]
    assert settings.destination("old") is None
    assert settings.dicom.allow[0].address == "192.0.2.0/24"
    assert settings.web.trusted_proxies == ("192.0.2.9",)


def test_an_empty_variable_takes_an_optional_value_away(load):
    assert load('[storage]\nendpoint = "http://s3"\n', STORAGE__ENDPOINT="").storage.endpoint is None


def test_variables_for_tests_are_no_settings(load):
    load(TEST_ANYTHING="x")


def test_rules_and_destinations_of_a_file_are_read_as_they_stand(load):
    settings = load(
        """
        [[destinations]]
        name = "pacs"
        ae_title = "ORTHANC"
        host = "pacs.example"
        port = 104
        storage_commitment = true
        label = "overlay"

        [[rules]]
        name = "chest"
        match = { Modality = ["CR", "DX"], BodyPartExamined = "CHEST*" }
        destinations = ["pacs"]
        release = "review"
        scale = 4
        """
    )
    [rule], [destination] = settings.rules, settings.destinations
    assert rule.match == {"Modality": ("CR", "DX"), "BodyPartExamined": "CHEST*"}
    assert (rule.release, rule.scale, rule.forward_original) == ("review", 4, "never")
    assert destination.default
    assert destination.model_dump(mode="json")["label"] == "overlay"


WRONG = [
    ('[dicom]\nport = "x"', {}, "node.toml: dicom.port: expected a whole number, got 'x'"),
    ("[dicom]\nport = 1.5", {}, "node.toml: dicom.port: expected a whole number, got 1.5"),
    ("[dicom]\nport = 70000", {}, "node.toml: dicom.port: expected less than or equal to 65535, got 70000"),
    ("[dicom]\nprot = 104", {}, "node.toml: dicom.prot: expected a setting that exists, perhaps 'port'"),
    ("[dcom]\nport = 104", {}, "node.toml: dcom: expected a setting that exists, perhaps 'dicom'"),
    ("dicom = 1", {}, "node.toml: dicom: expected a table, got 1"),
    ("destinations = 1", {}, "node.toml: destinations: expected a list, got 1"),
    ("data_dir = 1", {}, "node.toml: data_dir: expected a path, got 1"),
    (
        "[log]\nlevel = 'loud'",
        {},
        "node.toml: log.level: expected 'debug', 'info', 'warning' or 'error', got 'loud'",
    ),
    ("[web]\nthreads = true", {}, "node.toml: web.threads: expected a number, got True"),
    ("[enhancer]\nscale = 3", {}, "node.toml: enhancer.scale: expected 'auto', 2 or 4, got 3"),
    (
        "[retention]\nresults_days = 0",
        {},
        "node.toml: retention.results_days: expected greater than 0, got 0",
    ),
    (
        "[dicom]\nae_title = 'A\\B'",
        {},
        "node.toml: dicom.ae_title: expected 1 to 16 characters of ASCII without backslash, got 'A\\\\B'",
    ),
    (
        "[[destinations]]\nname = 'pacs'",
        {},
        "node.toml: destinations.0: expected ae_title and host and port of a dimse system",
    ),
    (
        "[[rules]]\nname = 'a'\nmatch = {Modality = 3}",
        {},
        "node.toml: rules.0.match.Modality: expected text, got 3",
    ),
    ("[web]\ntls_cert = 'no.pem'", {}, "node.toml: web.tls_cert: expected a file that exists, got 'no.pem'"),
    (
        "[dicom]\nallow = [{ae_title = 'A', address = 'x'}]",
        {},
        "node.toml: dicom.allow.0.address: expected an IP address or a network such as 192.0.2.0/24, got 'x'",
    ),
    (
        "[storage]\nurl = 'file://relative/path'",
        {},
        "node.toml: storage.url: expected file:///FOLDER or s3://BUCKET/PREFIX",
    ),
    ("", {"DICOM__PORT": "x"}, "CXR_SR_DICOM__PORT: dicom.port: expected a whole number, got 'x'"),
    ("", {"DICOM__HOST": ""}, "CXR_SR_DICOM__HOST: dicom.host: expected text"),
    (
        "",
        {"DICOM__PROT": "1"},
        "CXR_SR_DICOM__PROT: dicom.prot: expected a setting that exists, perhaps 'port'",
    ),
    ("", {"DICOM__PORT__X": "1"}, "CXR_SR_DICOM__PORT__X: dicom.port.x: expected nothing below it"),
    ("", {"DICOM__ALLOW": "CR1"}, "CXR_SR_DICOM__ALLOW: dicom.allow: expected JSON"),
    ("", {"DESTINATIONS": "[1]"}, "CXR_SR_DESTINATIONS: destinations.0: expected a table, got 1"),
    ("a =", {}, "node.toml: expected TOML: Invalid value (at end of document)"),
]


@pytest.mark.parametrize(("toml", "variables", "message"), WRONG, ids=str)
def test_what_is_wrong_is_said_in_one_line_with_its_place_its_key_and_what_was_expected(
    load, toml, variables, message
):
    with pytest.raises(ConfigError) as caught:
        load(toml, **variables)
    assert str(caught.value) == message


def test_text_that_is_not_utf8_is_refused(folder):
    (folder / "node.toml").write_bytes(b"data_dir = '\xff'")
    with pytest.raises(ConfigError, match=r"node\.toml: expected text in UTF-8"):
        load_settings(Path("node.toml"))


def test_a_password_in_an_address_is_not_repeated(load):
    with pytest.raises(ConfigError) as caught:
        load(DATABASE__URL="mysql://anna:secret@host/name")
    assert "secret" not in str(caught.value)
    assert "expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME" in str(caught.value)


PACS = "[[destinations]]\nname = 'pacs'\nae_title = 'PACS'\nhost = 'h'\nport = 104\n"
BEYOND = (
    "CXR_SR_WEB__HOST: web.tls_cert: expected a certificate, or web.trusted_proxies, because web.host '::' "
    "is not loopback: passwords and images would travel in the clear"
)
CONFLICTS = [
    (PACS + PACS, {}, "node.toml: destinations: expected different names, 'pacs' stands twice"),
    (
        "[[rules]]\nname = 'a'\n[[rules]]\nname = 'a'\n",
        {},
        "node.toml: rules: expected different names, 'a' stands twice",
    ),
    (
        PACS + "[[rules]]\nname = 'a'\ndestinations = ['pasc']\n",
        {},
        "node.toml: rules.0.destinations: expected names of destinations (pacs), got 'pasc'",
    ),
    (
        "[dicom]\nhost = '::'",
        {},
        "node.toml: dicom.allow: expected the callers to accept, because dicom.host '::' is not loopback",
    ),
    (
        "",
        {"WEB__HOST": "::"},
        BEYOND,
    ),
    (
        "[web]\ntls_cert = 'node.toml'",
        {},
        "node.toml: web.tls_key: expected a file, because web.tls_cert is given",
    ),
]


@pytest.mark.parametrize(
    ("toml", "variables", "message"), CONFLICTS, ids=[message for _, _, message in CONFLICTS]
)
def test_settings_that_contradict_each_other_are_refused(load, toml, variables, message):
    with pytest.raises(ConfigError) as caught:
        load(toml, **variables)
    assert str(caught.value) == message


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_needs_neither_callers_nor_tls(load, host):
    load(DICOM__HOST=host, WEB__HOST=host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "pacs.example", ""])
def test_everything_else_is_beyond_loopback(load, host):
    with pytest.raises(ConfigError):
        load(f"[dicom]\nhost = '{host}'")


def test_beyond_loopback_with_callers_and_tls_is_fine(load, folder):
    for name in ("cert.pem", "key.pem"):
        (folder / name).touch()
    load(
        "[dicom]\nhost = '0.0.0.0'\nallow = [{ae_title = 'CR1'}]\n"
        "[web]\nhost = '0.0.0.0'\ntls_cert = 'cert.pem'\ntls_key = 'key.pem'\n"
    )


def test_beyond_loopback_behind_a_trusted_proxy_is_fine(load):
    load("[web]\nhost = '0.0.0.0'\ntrusted_proxies = ['192.0.2.9']\n")
