from __future__ import annotations

import ssl
import threading

import pytest
from structlog.testing import capture_logs

from config.network import Destination, DicomTls
from pacs_node import tls
from tests.pacs_node.certificates import Authority


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


def listener(pair, ca=None, profile="bcp195"):
    return tls.server_credentials(DicomTls(cert=pair.cert, key=pair.key, ca=ca, profile=profile))


def remote(ca, pair=None, **more):
    own = {"tls_cert": pair.cert, "tls_key": pair.key} if pair else {}
    given = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104, "tls": True, "tls_ca": ca}
    return Destination(**(given | own | more))


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "127.0.0.1"):
    """Shake hands in memory: the client's end after it, whose certificate and cipher can be looked at.

    Raises what either side raised first.
    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    far = server.wrap_bio(up, down, server_side=True)
    near = client.wrap_bio(down, up, server_hostname=name)
    left = {near, far}
    for _ in range(10):
        for side in (near, far):
            try:
                side.do_handshake()
                left.discard(side)
            except ssl.SSLWantReadError:
                continue
        if not left:
            return near
    raise AssertionError("no end to it")


def test_mutual_authentication_succeeds_between_those_who_know_each_other(authority):
    server = listener(authority.issue("server"), authority.ca)
    client = tls.client_context(remote(authority.ca, authority.issue("client")))
    assert shake(server.context(), client).version() == "TLSv1.3"


@pytest.mark.parametrize("profile", tls.PROFILES)
def test_a_profile_has_the_suites_of_its_table_and_no_other(authority, profile):
    context = listener(authority.issue("server"), profile=profile).context()
    found = {cipher["name"] for cipher in context.get_ciphers()}
    table = tls.PROFILES[profile]
    assert found == {*table.tls13, *(tls._openssl(suite) for suite in table.tls12)}


@pytest.mark.parametrize("profile", tls.PROFILES)
@pytest.mark.parametrize("rsa_bits", [0, 2048])
def test_tls_1_2_is_spoken_with_each_profile_and_kind_of_key(authority, profile, rsa_bits):
    server = listener(authority.issue("server", rsa_bits=rsa_bits), profile=profile)
    client = tls.client_context(remote(authority.ca, tls_profile=profile))
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        near = shake(server.context(), client)
    finally:
        client.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    assert near.version() == "TLSv1.2"
    assert near.cipher()[0] in {tls._openssl(suite) for suite in tls.PROFILES[profile].tls12}


@pytest.mark.filterwarnings("ignore:.*TLSv1_1 is deprecated:DeprecationWarning")
def test_older_versions_of_tls_are_refused(authority):
    client = tls.client_context(remote(authority.ca))
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.load_verify_locations(cafile=authority.ca)
    with pytest.raises(ssl.SSLError):
        shake(listener(authority.issue("server")).context(), old)
    assert client.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_caller_without_a_certificate_is_refused_where_one_is_asked_for(authority):
    server = listener(authority.issue("server"), authority.ca)
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake(server.context(), tls.client_context(remote(authority.ca)))


def test_a_caller_of_another_authority_is_refused(authority, tmp_path):
    stranger = Authority(tmp_path / "strange", "Strange Authority").issue("client")
    server = listener(authority.issue("server"), authority.ca)
    with pytest.raises(ssl.SSLError, match="verify failed"):
        shake(server.context(), tls.client_context(remote(authority.ca, stranger)))


@pytest.mark.parametrize("name", ["127.0.0.2", "localhost"])
def test_a_certificate_made_out_to_another_host_is_refused_unless_told_otherwise(authority, name):
    server = listener(authority.issue("server", host="127.0.0.1"))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server.context(), tls.client_context(remote(authority.ca)), name)
    shake(server.context(), tls.client_context(remote(authority.ca, tls_check_host=False)), name)


def test_an_expired_certificate_is_refused_even_where_the_name_is_not_checked(authority):
    server = listener(authority.issue("server", days=-1))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake(server.context(), tls.client_context(remote(authority.ca, tls_check_host=False)))


def serial(near) -> str:
    return str(near.getpeercert()["serialNumber"])


def test_a_certificate_that_was_replaced_is_used_for_the_next_connection(authority):
    server = listener(authority.issue("server"))
    client = tls.client_context(remote(authority.ca))
    before = serial(shake(server.context(), client))
    assert serial(shake(server.context(), client)) == before
    authority.issue("server")
    assert serial(shake(server.context(), client)) != before


def test_our_own_certificate_and_trust_are_read_again_on_the_client_side_too(authority, tmp_path):
    pacs = remote(authority.ca, authority.issue("client"))
    before = tls.client_context(pacs)
    assert tls.client_context(pacs) is before, "nothing changed"
    other = Authority(tmp_path / "new", "New Authority")
    server = listener(other.issue("server"), other.ca)
    with pytest.raises(ssl.SSLError):
        shake(server.context(), tls.client_context(pacs))
    authority.ca.write_bytes(other.ca.read_bytes())
    new = other.issue("client")
    pacs.tls_cert.write_bytes(new.cert.read_bytes())
    pacs.tls_key.write_bytes(new.key.read_bytes())
    shake(server.context(), tls.client_context(pacs))


def test_a_broken_new_file_keeps_the_old_certificate_until_it_is_whole(authority):
    pair = authority.issue("server")
    server, client = listener(pair), tls.client_context(remote(authority.ca))
    before = serial(shake(server.context(), client))
    new = authority.issue("new")
    pair.cert.write_bytes(new.cert.read_bytes())  # its key has not come yet
    with capture_logs() as logs:
        assert serial(shake(server.context(), client)) == before
        assert serial(shake(server.context(), client)) == before
    assert [entry["event"] for entry in logs] == ["tls.kept"], "said once"
    assert "does not belong to the certificate" in server.trouble
    pair.key.write_bytes(new.key.read_bytes())
    assert serial(shake(server.context(), client)) != before
    assert server.trouble is None


def test_a_file_that_vanishes_keeps_the_old_certificate(authority):
    pair = authority.issue("server")
    server, client = listener(pair), tls.client_context(remote(authority.ca))
    pair.cert.unlink()
    shake(server.context(), client)
    assert server.trouble == f"dicom.tls: there is no file {pair.cert}"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda pair, _: pair.key.write_text("nothing"), "no usable certificate and key"),
        (lambda pair, ca: pair.key.write_bytes(ca.issue("other").key.read_bytes()), "does not belong to"),
        (lambda _, ca: ca.issue("server", password=b"secret"), "protected by a password"),
        (lambda _, ca: ca.issue("server", rsa_bits=1024), "too short"),
        (lambda _, ca: ca.ca.write_text("nothing"), "holds no certificate"),
    ],
)
def test_files_of_no_use_are_named_at_the_start(authority, spoil, says):
    pair = authority.issue("server")
    spoil(pair, authority)
    with pytest.raises(tls.TlsError, match=says) as error:
        listener(pair, authority.ca)
    assert str(pair.cert.parent) in str(error.value)


def test_a_password_on_a_key_is_never_asked_for(authority, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    pair = authority.issue("server", password=b"secret")
    with pytest.raises(tls.TlsError):
        tls.client_context(remote(authority.ca, pair))


def test_many_threads_ask_for_one_context_while_its_files_change(authority):
    pacs = remote(authority.ca, authority.issue("client"))
    tls.client_context(pacs)
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(50):
                tls.client_context(pacs)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        authority.issue("client")
    for thread in threads:
        thread.join()
    assert failed == []
    tls.client_context(pacs)
    assert tls.client_credentials(pacs).trouble is None
