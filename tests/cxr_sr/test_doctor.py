from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from config import Destination, Settings
from config.network import Archive as ConfiguredArchive
from config.settings import AuditSettings, WebSettings
from cxr_sr import cli, doctor
from db.presence import Presence
from pacs_node.archive import Archive
from tests.pacs_node.archives import Promiser, promising
from tests.pacs_node.audit.repository import repository
from tests.pacs_node.certificates import Authority
from tests.pacs_node.nodes import make_settings, receiving
from tests.webui.providers import CLIENT, SECRET, OwnProvider


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


def test_a_healthy_store_is_written_read_back_and_left_clean(settings, store):
    assert "MiB free" in doctor.check_storage(settings)
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_too_little_room_is_unfit(data_dir):
    settings = Settings(data_dir=data_dir, storage={"reserve_bytes": 1 << 60})
    with pytest.raises(Exception, match=r"reserve|room|free"):
        doctor.check_storage(settings)


def test_a_database_that_is_not_there_yet_is_said_and_not_made(settings, data_dir):
    with pytest.raises(doctor.Unfit, match="cxr-sr db upgrade"):
        doctor.check_database(settings)
    assert not data_dir.exists()


def test_a_sound_database_is_named_with_what_waits(settings, database):
    assert doctor.check_database(settings) == "sqlite, schema up to date, 0 jobs waiting"


def test_a_damaged_database_is_unfit(settings, database, data_dir):
    database.close()
    with open(data_dir / "cxr-sr.db", "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    with pytest.raises(Exception, match=r"malformed|damaged|not a database"):
        doctor.check_database(settings)


def test_ports_are_free_ours_or_taken(settings, database):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(doctor.Unfit, match="in use"):
            doctor.check_port(settings, "web", "127.0.0.1", port)
        with Presence(database, "web"):
            assert "our running web" in doctor.check_port(settings, "web", "127.0.0.1", port)
    assert "is free" in doctor.check_port(settings, "web", "127.0.0.1", port)


def test_destinations_are_echoed(settings, tmp_path, free_port):
    with Archive(tmp_path / "archive") as archive:
        here = Destination(name="here", ae_title="DEMO_PACS", host="127.0.0.1", port=archive.port)
        assert "answers C-ECHO" in doctor.check_echo(settings, destination=here)
    gone = Destination(name="gone", ae_title="DEMO_PACS", host="127.0.0.1", port=free_port())
    with pytest.raises(doctor.Unfit, match="nothing listens there"):
        doctor.check_echo(settings, destination=gone)


def test_an_unreadable_configuration_is_one_failed_check(tmp_path, capsys):
    file = tmp_path / "cxr-sr.toml"
    file.write_text("[web]\nport = 'eighty'\n")
    assert cli.run(["doctor", "--config", str(file), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]
    (check,) = report["checks"]
    assert check["name"] == "configuration"
    assert "web.port" in check["message"]


def test_a_model_that_is_not_there_is_named(data_dir):
    settings = Settings(data_dir=data_dir, enhancer={"model": "nowhere"})
    with pytest.raises(Exception, match="nowhere"):
        doctor.check_model(settings)


def configured(data_dir, authority, **dicom):
    pair = authority.issue("server", **dicom)
    tls = {"port": 0, "cert": pair.cert, "key": pair.key, "ca": authority.ca}
    return Settings(data_dir=data_dir, dicom={"port": 0, "tls": tls})


def test_sound_certificates_are_told_with_the_first_end(data_dir, authority):
    settings = configured(data_dir, authority)
    assert doctor.check_tls(settings) == "PS3.15 B.12, callers show a certificate"
    assert doctor.check_certificates(settings).startswith("2, the first to expire is dicom.tls.cert on 20")
    plain = Settings(data_dir=data_dir)
    assert doctor.check_tls(plain) == "no TLS listener is configured"
    assert doctor.check_certificates(plain) == "none configured"


def test_a_certificate_that_expires_within_thirty_days_is_a_warning_and_an_expired_one_a_failure(
    data_dir, authority
):
    with pytest.raises(doctor.Caution, match=r"dicom.tls.cert .* expires on .*, in 28 days; replace it"):
        doctor.check_certificates(configured(data_dir, authority, days=29))
    with pytest.raises(doctor.Unfit, match=r"dicom.tls.cert .* has expired on"):
        doctor.check_certificates(configured(data_dir, authority, days=-1))


def test_a_broken_new_certificate_shows(data_dir, authority):
    settings = configured(data_dir, authority)
    settings.dicom.tls.cert.write_text("half a file")
    with pytest.raises(doctor.Unfit, match="a receiver that is running keeps what it has"):
        doctor.check_tls(settings)
    with pytest.raises(doctor.Unfit, match="holds no certificate in PEM"):
        doctor.check_certificates(settings)


def test_a_warning_is_no_failure(monkeypatch, capsys, tmp_path):
    def soon(_settings):
        raise doctor.Caution("expires on 2031-01-01, in 3 days; replace it")

    monkeypatch.setattr(doctor, "checks", lambda _settings: [("certificates", soon)])
    file = tmp_path / "cxr-sr.toml"
    file.write_text(f'data_dir = "{tmp_path}/var"\n')
    assert cli.run(["doctor", "--config", str(file)]) == 0
    assert "warn  certificates: expires on 2031-01-01" in capsys.readouterr().out
    assert cli.run(["doctor", "--config", str(file), "--json"]) == 0
    (_, check) = json.loads(capsys.readouterr().out)["checks"]
    assert (check["ok"], check["warn"]) == (True, True)


def test_an_archive_is_echoed_through_tls_with_a_sentence_for_what_is_wrong(settings, authority, tmp_path):
    node = make_settings(tmp_path / "node", dicom={"tls": configured(tmp_path, authority).dicom.tls})
    client = authority.issue("client")
    given = {"name": "old", "ae_title": "CXR_SR", "host": "127.0.0.1", "tls": True, "tls_ca": authority.ca}
    given |= {"tls_cert": client.cert, "tls_key": client.key}
    with receiving(node) as here:
        given["port"] = here.tls_port
        assert "answers C-ECHO over TLS" in doctor.check_echo(
            settings, destination=ConfiguredArchive(**given)
        )
        for change, says in (
            ({"host": "localhost"}, "made out to another name; correct host"),
            ({"tls_ca": client.cert}, "authority of its certificate is not in tls_ca"),
            ({"ae_title": "OTHER"}, "it is not called OTHER; correct ae_title"),
        ):
            with pytest.raises(doctor.Unfit, match=says):
                doctor.check_echo(settings, destination=ConfiguredArchive(**(given | change)))


def test_the_ports_of_both_doors_are_looked_at_unless_one_stays_closed(data_dir, authority):
    settings = configured(data_dir, authority)
    assert {"dicom port", "tls port"} <= {name for name, _ in doctor.checks(settings)}
    tls = settings.dicom.tls.model_copy(update={"only": True})
    only = settings.model_copy(update={"dicom": settings.dicom.model_copy(update={"tls": tls})})
    assert "dicom port" not in {name for name, _ in doctor.checks(only)}


def test_a_destination_is_asked_whether_it_offers_storage_commitment(data_dir):
    def found(archive: Promiser, calling: str | None = None, **dicom: Any) -> str:
        pacs = archive.destination.model_copy(update={"calling_ae_title": calling})
        given = Settings(data_dir=data_dir, destinations=(pacs,), dicom=dicom)
        (check,) = [run for name, run in doctor.checks(given) if name == "commitment pacs"]
        return check(given)

    with promising() as archive:
        assert found(archive) == "PACS offers storage commitment"
        assert archive.asked == []
        stranger = [{"ae_title": "MODALITY"}]
        with pytest.raises(doctor.Caution, match=r"dicom\.allow does not list PACS"):
            found(archive, allow=stranger)
        assert found(archive, allow=[*stranger, {"ae_title": "PACS"}]) == "PACS offers storage commitment"
        with pytest.raises(doctor.Caution, match=r"dicom\.ae_titles does not list SENDER"):
            found(archive, "SENDER")
        assert found(archive, "SENDER", ae_titles=["SENDER"]) == "PACS offers storage commitment"
    with (
        promising(offers=False) as archive,
        pytest.raises(doctor.Unfit, match="offers no storage commitment"),
    ):
        found(archive)


def test_the_audit_repository_is_reached_without_a_message(data_dir, free_port):
    with repository() as there:
        audit = AuditSettings(messages="syslog", host="127.0.0.1", port=there.port, tls=False)
        assert "takes messages" in doctor.check_audit(Settings(data_dir=data_dir, audit=audit))
        assert there.lines == []
    gone = audit.model_copy(update={"port": free_port()})
    with pytest.raises(doctor.Unfit, match=r"cannot be reached.*wait in the database"):
        doctor.check_audit(Settings(data_dir=data_dir, audit=gone))
    file = Settings(data_dir=data_dir, audit=AuditSettings(messages="file"))
    assert doctor.check_audit(file) == "its file can be written"
    assert "audit" in [name for name, _ in doctor.checks(file)]


def test_the_provider_that_people_sign_in_by_is_asked_for_its_document(settings):
    provider = OwnProvider()
    oidc = {"issuer": provider.issuer, "client_id": CLIENT, "client_secret": SECRET}

    def asking(**web: Any) -> Settings:
        return settings.model_copy(update={"web": WebSettings(oidc=oidc, **web)})

    try:
        assert "openid connect" in [name for name, _ in doctor.checks(asking())]
        said = doctor.check_oidc(asking(public_url="https://cxr.example/"))
        assert "answers; keys: 1; it offers logout" in said
        assert "https://cxr.example/login/oidc/back" in said
        with pytest.raises(doctor.Caution, match=r"web\.public_url"):
            doctor.check_oidc(asking())
        provider.document = {"issuer": "https://evil.example"}
        with pytest.raises(doctor.Unfit, match="calls itself"):
            doctor.check_oidc(asking())
    finally:
        provider.close()
    with pytest.raises(doctor.Unfit, match="can log in all the same"):
        doctor.check_oidc(asking())
