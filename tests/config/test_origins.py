"""Where settings came from, and what of them may be shown."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from config import ConfigError, Settings, load_settings
from config.load import read_again
from config.origins import MASK, Effective, differing, effective, fingerprint, masked
from config.reference import reference
from config.sources import lines_of

TOML = """\
# the node of ward 3
data_dir = "here"

[dicom]
ae_title = "WARD3"
ae_titles = [
  "OTHER",   # a list over lines
  "THIRD",
]

[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "192.0.2.1"
port = 104

[[destinations]]
name = "web"
kind = "dicomweb"
url = "https://joe:pa@ss@192.0.2.2/dicom-web?token=abc&limit=1"

[[rules]]
name = "portable"
[rules.match]
CallingAETitle = "ER*"

[web]
threads = 8
"""


def rows(settings: Settings) -> dict[str, Effective]:
    return {row.key: row for row in effective(settings)}


def test_every_setting_says_the_line_of_the_file_that_it_stands_in(load):
    found = rows(load(TOML))
    lines = {key: row.origin.line for key, row in found.items() if row.origin.kind == "file"}
    assert lines == {
        "data_dir": 2,
        "dicom.ae_title": 5,
        "dicom.ae_titles": 6,
        "destinations[0].name": 12,
        "destinations[0].ae_title": 13,
        "destinations[0].host": 14,
        "destinations[0].port": 15,
        "destinations[1].name": 18,
        "destinations[1].kind": 19,
        "destinations[1].url": 20,
        "rules[0].name": 23,
        "rules[0].match": 24,
        "web.threads": 28,
    }
    assert found["web.threads"].origin.name == str(Path("node.toml").absolute())


def test_what_nobody_set_is_the_default(load):
    found = rows(load(TOML))
    assert found["web.port"].origin.kind == "default"
    assert found["web.port"].value == found["web.port"].default == "8080"
    assert found["destinations[0].label"].origin.kind == "default"


def test_a_variable_is_named_and_wins_over_the_file(load):
    found = rows(load(TOML, WEB__THREADS="9", QUEUE='{"max_attempts": 5}'))
    assert (found["web.threads"].origin.kind, found["web.threads"].origin.name) == (
        "environment",
        "CXR_SR_WEB__THREADS",
    )
    assert found["queue.max_attempts"].origin.name == "CXR_SR_QUEUE"
    assert found["queue.lease_seconds"].origin.kind == "default"


def test_a_variable_in_json_replaces_a_whole_list(load):
    found = rows(load(TOML, RULES='[{"name": "mine"}]'))
    assert found["rules[0].name"].value == '"mine"'
    assert found["rules[0].name"].origin.name == "CXR_SR_RULES"


def test_values_that_a_program_gave_say_so():
    [row] = [r for r in effective(Settings(data_dir=Path("given"))) if r.key == "data_dir"]
    assert row.origin.kind == "program"


@pytest.mark.parametrize(
    "text",
    [
        'a = """\nx = 1\n"""\nb = 2\n',
        "a = [\n  1,\n  2,\n]\nb = 2\n",
        "# a comment\na.c = 1\n\nb = 2\n",
        "a = {c = 1, d = [\n{e = 1},\n]}\nb = 2\n",
    ],
)
def test_a_line_is_right_after_whatever_stands_over_several_lines(text):
    tomllib.loads(text)
    line = next(n for n, line in enumerate(text.splitlines(), 1) if line.startswith("b"))
    assert lines_of(text)[("b",)] == line


def test_tables_within_lists_belong_to_the_last_item():
    found = lines_of("[[a]]\n[a.b]\nx = 1\n[[a]]\n[[a.c]]\ny = 2\n[[a.c]]\ny = 3\n")
    assert found[("a", "0", "b", "x")] == 3
    assert found[("a", "1", "c", "0", "y")] == 6
    assert found[("a", "1", "c", "1", "y")] == 8


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        (
            "database.url",
            "postgresql+psycopg://joe:s3:c/r@t@db/cxr",
            f"postgresql+psycopg://joe:{MASK}@db/cxr",
        ),
        (
            "destinations[0].url",
            "https://h/p?api_key=geheim&limit=1",
            f"https://h/p?api_key={MASK}&limit=1",
        ),
        ("destinations[0].url", "https://h/dicom-web", "https://h/dicom-web"),
        ("alerts.urls", ("mailtos://joe:pw@h?to=me",), (f"mailtos://{MASK}",)),
        ("archives[2].password", "geheim", MASK),
        ("destinations[0].secret_file", "/etc/secret", "/etc/secret"),
        ("web.tls_key", Path("/etc/key.pem"), Path("/etc/key.pem")),
        ("dicom.port", 104, 104),
    ],
)
def test_secrets_are_masked_and_paths_are_not(key, value, shown):
    assert masked(key, value) == shown


def test_nothing_secret_is_in_the_table(load):
    settings = load(
        TOML, DATABASE__URL="postgresql+psycopg://u:geheim@db/x", ALERTS__URLS='["json://tok3n/x"]'
    )
    said = "\n".join(f"{row.key} {row.value}" for row in effective(settings))
    for secret in ("geheim", "pa@ss", "abc", "tok3n"):
        assert secret not in said
    assert rows(settings)["database.url"].masked
    assert not rows(settings)["web.port"].masked


def test_every_setting_of_the_reference_is_in_the_table_with_its_description(load):
    plain = {row.key for row in effective(load())}
    wanted = {
        entry.key
        for entry in reference()
        if "[]" not in entry.key and not entry.key.startswith(("dicom.tls.", "web.oidc.", "web.ldap."))
    }
    assert plain == wanted
    assert all(row.description for row in effective(load(TOML)))


def test_what_the_file_says_now_is_compared_with_what_was_started(load, folder):
    started = load(TOML)
    assert differing(started, read_again(started)) == []
    (folder / "node.toml").write_text(TOML.replace("threads = 8", "threads = 16").replace("s@192", "x@192"))
    now = read_again(started)
    assert differing(started, now) == ["destinations[1].url", "web.threads"]
    assert fingerprint(started) != fingerprint(now)
    assert fingerprint(started) == fingerprint(load(TOML))


def test_a_file_that_cannot_be_used_any_more_is_told(load, folder):
    started = load(TOML)
    (folder / "node.toml").write_text("[web]\nthreads = 1\n")
    with pytest.raises(ConfigError, match=r"web\.threads"):
        read_again(started)


def test_where_settings_came_from_does_not_make_them_other_settings(load):
    assert load("") == Settings()
    assert load_settings(None).model_dump() == Settings().model_dump()


def test_settings_that_a_program_gave_have_no_file_to_be_read_again(load):
    given = Settings(data_dir=Path("given"))
    assert read_again(given) is given
