from __future__ import annotations

import pytest

from config import Settings
from cxr_sr import cli
from cxr_sr.unbuilt import asked_for

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"storage": {"url": "s3://bucket/prefix"}}, "storage.url"),
    ],
)
def test_what_is_asked_for_and_not_there_is_named(given, key):
    (sentence,) = asked_for(Settings(**given))
    assert sentence.startswith(f"{key}: ")


def test_an_ordinary_configuration_asks_for_nothing_missing():
    assert list(asked_for(Settings(destinations=[PACS]))) == []


def test_the_node_does_not_start_without_what_was_asked_for(tmp_path, capsys):
    file = tmp_path / "cxr-sr.toml"
    file.write_text(f'data_dir = "{tmp_path}/var"\n[storage]\nurl = "s3://bucket/prefix"\n')
    assert cli.run(["serve", "--config", str(file)]) == 1
    assert "storage.url" in capsys.readouterr().err
    assert not (tmp_path / "var").exists()
