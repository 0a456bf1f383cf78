from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from config import Settings
from pacs_node.certificates import certificates, told
from tests.pacs_node.certificates import Authority

NOW = datetime.now(UTC)
PACS = {"ae_title": "PACS", "host": "127.0.0.1", "port": 104, "tls": True}


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


def settings(cert, key, ca) -> Settings:
    own = {"tls_cert": cert, "tls_key": key, "tls_ca": ca}
    return Settings(
        dicom={"tls": {"cert": cert, "key": key, "ca": ca}},
        destinations=[{"name": "pacs", **PACS, **own}],
        archives=[{"name": "old", **PACS, "tls_ca": ca}],
        web={"tls_cert": cert, "tls_key": key},
    )


def test_each_file_is_looked_at_once_and_told_with_all_who_use_it(authority):
    pair = authority.issue("server", days=90)
    own, ca = certificates(settings(pair.cert, pair.key, authority.ca))
    assert own.keys == ("dicom.tls.cert", "destination pacs: tls_cert", "web.tls_cert")
    assert ca.keys == ("dicom.tls.ca", "destination pacs: tls_ca", "archive old: tls_ca")
    assert (own.subject, ca.subject) == ("server", "Test Authority")
    assert own.until is not None
    assert abs(own.until - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=5)


def test_of_a_chain_the_first_end_counts_and_of_authorities_the_last(authority, tmp_path):
    early, late = authority.issue("early", days=10), authority.issue("late", days=200)
    both = early.cert.read_bytes() + late.cert.read_bytes()
    late.cert.write_bytes(both)
    ca = tmp_path / "authorities.pem"
    ca.write_bytes(both)
    chain, authorities = certificates(settings(late.cert, late.key, ca))
    assert chain.until is not None
    assert authorities.until is not None
    assert (authorities.until - chain.until).days == 190


@pytest.mark.parametrize(
    ("days", "trouble"),
    [(31.5, None), (29.5, "in 29 days; replace it"), (1.5, "in 1 day; replace it"), (-1, "has expired on")],
)
def test_the_last_thirty_days_are_trouble(authority, days, trouble):
    pair = authority.issue("server", days=days)
    own, _ = certificates(settings(pair.cert, pair.key, authority.ca))
    said = own.trouble(NOW)
    assert said is None if trouble is None else trouble in str(said)


def test_a_file_that_is_no_certificate_or_gone_is_trouble_too(authority):
    pair = authority.issue("server")
    given = settings(pair.cert, pair.key, authority.ca)
    pair.cert.write_text("nothing")
    authority.ca.unlink()
    own, ca = certificates(given)
    assert own.trouble(NOW) == "holds no certificate in PEM"
    assert ca.trouble(NOW) == "cannot be read: No such file or directory"
    assert told([own], NOW) == [
        {
            "keys": "dicom.tls.cert, destination pacs: tls_cert, web.tls_cert",
            "subject": "",
            "until": None,
            "trouble": "holds no certificate in PEM",
        }
    ]
