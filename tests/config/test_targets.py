"""Addresses of alerts: whole ones are taken, others stop the start without being repeated."""

from __future__ import annotations

import pytest

from config import ConfigError, load_settings


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load(urls: str):
        file = tmp_path / "node.toml"
        file.write_text(f"[alerts]\nurls = {urls}\n", "utf-8")
        return load_settings(file)

    return load


def test_addresses_that_apprise_knows_are_taken(load):
    urls = '["mailtos://ann:geheim@mail.example?to=ops@hospital.example", "jsons://host.example/hook"]'
    assert len(load(urls).alerts.urls) == 2


@pytest.mark.parametrize(
    ("urls", "said"),
    [
        ('["nothing://ann:geheim@host"]', "number 1 begins with nothing://, but is none of them"),
        ('["jsons://host.example/geheim", "geheim"]', "number 2 is no SCHEME://... and is none of them"),
        ('["slack://geheim"]', "number 1 begins with slack://, but is none of them"),
        ('["json://geheim.example/", "json://geheim.example/"]', "expected different addresses"),
        ('"mailtos://ann:geheim@host"', "alerts.urls: expected a list"),
    ],
)
def test_a_wrong_address_stops_the_start_and_is_not_repeated(load, urls, said):
    with pytest.raises(ConfigError, match=r"alerts\.urls") as caught:
        load(urls)
    assert said in str(caught.value)
    assert "geheim" not in str(caught.value)
