"""STOW-RS: what is sent, what each answer means, and how we sign in."""

from __future__ import annotations

import base64
import io
import json
import logging
import ssl
import tracemalloc
from email import message_from_bytes
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from config import Destination
from config.settings import DicomSettings
from pacs_node import codecs, header, webclient
from pacs_node.carrier import Parcel, PeerError, Receipt
from pacs_node.echo import echo
from pacs_node.statuses import Verdict
from pacs_node.stow import Multipart, StowCarrier
from tests.pacs_node.certificates import Authority
from tests.pacs_node.nodes import CR, EXPLICIT, encoded, make_object
from tests.pacs_node.webpeers import Answered, Asked, Script, as_json, refused, stored, web_peer

DICOM = DicomSettings(connection_timeout=5, dimse_timeout=10)
UID = "1.2.826.0.1.3680043.8.498.1"
V = Verdict


def destination(url: str, **more: Any) -> Destination:
    return Destination(name="cloud", kind="dicomweb", url=f"{url}/dicom-web/", **more)


def parcel(to: Destination, whole: bytes | None = None) -> Parcel:
    whole = whole or file_bytes()
    return Parcel(to, header.read_part10(io.BytesIO(whole)), io.BytesIO(whole), ours=True)


@cache
def file_bytes() -> bytes:
    ds = make_object(uid=UID)
    return header.part10_header(CR, UID, EXPLICIT) + encoded(ds)


def carry(script: Script, **more: Any) -> tuple[Receipt, list[Asked]]:
    """Carry one object to a server that answers so."""
    carrier = StowCarrier(DICOM)
    with web_peer(script) as peer:
        try:
            return carrier.carry(parcel(destination(peer.url, **more))), peer.asked
        finally:
            carrier.close()


def always(status: int, answer: Any = None, **more: Any) -> Script:
    body = b"" if answer is None else as_json(answer)
    return lambda asked: Answered(status, body, **more) if asked.method == "POST" else Answered(404)


def test_the_body_is_one_part_with_the_file_as_it_is():
    receipt, asked = carry(always(200, stored(UID)))
    assert (receipt.verdict, receipt.code) == (V.STORED, 200)
    (post,) = asked
    assert post.path == "/dicom-web/studies"
    assert int(post.headers["Content-Length"]) == len(post.body)
    kind = post.headers["Content-Type"]
    message: Any = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + post.body)
    (part,) = message.get_payload()
    assert message.get_param("type") == part.get_content_type() == "application/dicom"
    assert part.get_payload(decode=True) == file_bytes()
    assert post.headers["Accept"] == "application/dicom+json"


@pytest.mark.parametrize(
    ("status", "answer", "verdict", "said"),
    [
        (200, stored(UID), V.STORED, "200"),
        (200, None, V.STORED, "200"),
        (200, refused(UID, 0xA900), V.FAIL, "0xA900"),
        (202, refused(UID, 0xA700), V.RETRY, "0xA700"),
        (202, stored(UID, 0xB007), V.WARNING, "0xB007"),
        (202, None, V.RETRY, "not that it was stored"),
        (409, refused(UID, 0x0111), V.WARNING, "there already"),
        (409, refused(UID, 45070), V.WARNING, "there already"),
        (409, refused(UID, 45071), V.RETRY, "another request"),
        (409, refused(UID, 0xC122), V.FAIL, "0xC122"),
        (409, refused(UID, 0x0110), V.RETRY, "0x0110"),
        (409, refused(UID, 0x0124), V.ALERT, "0x0124"),
        (409, refused(UID, 0xB006), V.FAIL, "0xB006"),
        (409, refused(UID, None), V.FAIL, "without a reason"),
        (409, refused("1.2.3", 0x0111), V.FAIL, "without a reason"),
        (409, None, V.FAIL, "without a reason"),
        (400, {"Message": "Bad file format"}, V.FAIL, "Bad file format"),
        (415, None, V.FAIL, "415"),
        (413, None, V.FAIL, "413"),
        (404, None, V.FAIL, "404"),
        (401, None, V.ALERT, "401"),
        (403, None, V.ALERT, "403"),
        (408, None, V.RETRY, "408"),
        (429, None, V.RETRY, "429"),
        (500, None, V.RETRY, "500"),
        (503, None, V.RETRY, "503"),
        (507, None, V.RETRY, "507"),
    ],
)
def test_what_an_answer_means(status, answer, verdict, said):
    receipt, _ = carry(always(status, answer))
    assert (receipt.verdict, receipt.code) == (verdict, status)
    assert said in receipt.text


def test_a_success_that_names_a_failure_is_a_failure():
    """weasis-dicom-tools#4: success was told although the archive had answered A900."""
    receipt, _ = carry(always(200, refused(UID, 0xA900)))
    assert not receipt.verdict.arrived


def test_a_conflict_about_an_object_that_is_there_counts_as_stored():
    """karnak#193: 409 is "already there", whatever the archive says with it."""

    def script(asked: Asked) -> Answered:
        if asked.method == "GET":
            return Answered(200, as_json([{"00080018": {"vr": "UI", "Value": [UID]}}]))
        return Answered(409)

    receipt, asked = carry(script)
    assert receipt.verdict is V.WARNING
    assert asked[-1].path.startswith(f"/dicom-web/instances?SOPInstanceUID={UID}")


def test_an_answer_in_xml_is_understood():
    xml = (
        '<?xml version="1.0"?><NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
        '<DicomAttribute tag="00081198" vr="SQ"><Item number="1">'
        f'<DicomAttribute tag="00081155" vr="UI"><Value number="1">{UID}</Value></DicomAttribute>'
        '<DicomAttribute tag="00081197" vr="US"><Value number="1">43264</Value></DicomAttribute>'
        "</Item></DicomAttribute></NativeDicomModel>"
    )
    receipt, _ = carry(lambda _: Answered(409, xml.encode(), "application/dicom+xml"))
    assert (receipt.verdict, "0xA900" in receipt.text) == (V.FAIL, True)


def test_a_redirection_is_not_followed_with_the_image():
    def script(asked: Asked) -> Answered:
        return Answered(302, headers={"Location": "/elsewhere"})

    receipt, asked = carry(script)
    assert receipt.verdict is V.FAIL
    assert [one.path for one in asked] == ["/dicom-web/studies"]


def test_an_endless_answer_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(webclient, "MAX_ANSWER_BYTES", 1000)
    with pytest.raises(PeerError, match="no answer that can be used"):
        carry(lambda _: Answered(200, b"x" * 100_000))


def test_a_dead_archive_is_a_matter_for_later():
    with web_peer(always(200)) as peer:
        gone = destination(peer.url)
    carrier = StowCarrier(DICOM)
    with pytest.raises(PeerError, match="cannot be reached"):
        carrier.carry(parcel(gone))
    assert not echo(gone, DICOM).ok


def test_a_large_object_is_not_held_in_memory():
    """pynetdicom#629, #517: MemoryError on large objects."""
    whole = file_bytes() + bytes(48 << 20)
    to_send = io.BytesIO(whole)
    tracemalloc.start()
    try:
        body = Multipart(to_send)
        sent = sum(len(piece) for piece in body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent == len(body) > len(whole)
    assert peak < 4 << 20


def test_basic_and_bearer_send_the_secret_of_the_file_and_never_log_it(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    secret = tmp_path / "secret"
    secret.write_text("päss:word\n", "utf-8")
    _, asked = carry(always(200, stored(UID)), auth="basic", username="node", secret_file=secret)
    scheme, _, sent = asked[0].headers["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(sent).decode()) == ("Basic", "node:päss:word")
    secret.write_text("a-token-of-ours")
    _, asked = carry(always(200, stored(UID)), auth="bearer", secret_file=secret)
    assert asked[0].headers["Authorization"] == "Bearer a-token-of-ours"
    assert "a-token-of-ours" not in caplog.text
    assert "päss" not in caplog.text


def test_without_authentication_nobody_looks_for_a_password_elsewhere(tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    _, asked = carry(always(200, stored(UID)))
    assert "Authorization" not in asked[0].headers


class TokenEndpoint:
    """Gives out numbered tokens to who knows the secret; the archive beside it accepts those in `good`."""

    def __init__(self, *, expires_in: Any = 3600, in_body: bool = False) -> None:
        self.given: list[str] = []
        self.good: set[str] = set()
        self.expires_in, self.in_body = expires_in, in_body

    def __call__(self, asked: Asked) -> Answered:
        if asked.path == "/token":
            return self._token(asked)
        token = asked.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.good:
            return Answered(401)
        return Answered(200, as_json(stored(UID) if asked.method == "POST" else []))

    def _token(self, asked: Asked) -> Answered:
        form = {key: values[0] for key, values in parse_qs(asked.body.decode()).items()}
        basic = base64.b64decode(asked.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        known = (
            form.get("client_secret") == "s:cret" and form["client_id"] == "the node"
            if self.in_body
            else basic == "the+node:s%3Acret"
        )
        if not known or form["grant_type"] != "client_credentials" or form.get("scope") != "dicom.write":
            return Answered(401, as_json({"error": "invalid_client"}), "application/json")
        token = f"token-{len(self.given)}"
        self.given.append(token)
        self.good.add(token)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": self.expires_in}
        return Answered(200, as_json(answer), "application/json")


@pytest.fixture
def oauth(tmp_path: Path) -> Any:
    """Return a function that gives the settings of a destination behind a token endpoint."""
    secret = tmp_path / "client-secret"
    secret.write_text("s:cret")
    webclient._tokens.clear()

    def made(url: str, **more: Any) -> Destination:
        return destination(
            url,
            **(
                {"auth": "oauth2", "username": "the node", "secret_file": secret, "scope": "dicom.write"}
                | more
            ),
            token_url=f"{url}/token",
        )

    return made


@pytest.mark.parametrize("in_body", [False, True])
def test_a_token_is_asked_for_once_and_used_for_every_object(oauth, in_body):
    endpoint = TokenEndpoint(in_body=in_body)
    with web_peer(endpoint) as peer:
        for _ in range(2):  # two couriers, one after another
            carrier = StowCarrier(DICOM)
            for _ in range(2):
                assert carrier.carry(parcel(oauth(peer.url))).verdict is V.STORED
            carrier.close()
        assert echo(oauth(peer.url), DICOM).ok
    assert endpoint.given == ["token-0"]


def test_a_token_is_replaced_when_its_time_is_over(oauth):
    endpoint = TokenEndpoint(expires_in=0)
    with web_peer(endpoint) as peer:
        carrier = StowCarrier(DICOM)
        for _ in range(2):
            assert carrier.carry(parcel(oauth(peer.url))).verdict is V.STORED
        carrier.close()
    assert endpoint.given == ["token-0", "token-1"]


def test_a_token_that_is_refused_is_replaced_once_and_the_object_sent_again(oauth):
    endpoint = TokenEndpoint()
    with web_peer(endpoint) as peer:
        carrier = StowCarrier(DICOM)
        assert carrier.carry(parcel(oauth(peer.url))).verdict is V.STORED
        endpoint.good.clear()
        assert carrier.carry(parcel(oauth(peer.url))).verdict is V.STORED
        bodies = [one.body for one in peer.asked if one.path.endswith("/studies")]
        assert [file_bytes() in body for body in bodies] == [True] * 3
        endpoint.good = _Nothing()
        receipt = carrier.carry(parcel(oauth(peer.url)))
        carrier.close()
    assert (receipt.verdict, receipt.code) == (V.ALERT, 401)
    assert len(endpoint.given) == 3


class _Nothing(set[str]):
    def add(self, _: str) -> None:
        """No token is good any more."""


def test_a_token_endpoint_that_refuses_us_is_a_matter_for_an_administrator(oauth, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("not the secret")
    with web_peer(TokenEndpoint()) as peer:
        receipt = StowCarrier(DICOM).carry(parcel(oauth(peer.url, secret_file=wrong)))
        assert not peer.paths("POST")[0].endswith("studies")
    assert receipt.verdict is V.ALERT
    assert "invalid_client" in receipt.text
    assert "secret" not in receipt.text


def test_a_token_endpoint_that_is_dead_is_a_matter_for_later(oauth):
    with web_peer(TokenEndpoint()) as peer:
        gone = oauth(peer.url)
    with pytest.raises(PeerError, match="token endpoint"):
        StowCarrier(DICOM).carry(parcel(gone))


def test_a_secret_file_of_several_lines_is_refused_in_words(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("one\ntwo\n")
    to = destination("http://127.0.0.1:9", auth="bearer", secret_file=secret)
    receipt = StowCarrier(DICOM).carry(parcel(to))
    assert (receipt.verdict, "one line" in receipt.text) == (V.ALERT, True)


def test_what_a_delivery_keeps_of_its_destination_holds_no_secret(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    copy = destination("http://127.0.0.1:9", auth="bearer", secret_file=secret).model_dump(mode="json")
    assert "hidden" not in json.dumps(copy)
    assert copy["secret_file"] == str(secret)


@pytest.fixture
def secure(tmp_path: Path) -> Any:
    """Return an authority, and a TLS context for a server that wants to see a certificate of it."""
    authority = Authority(tmp_path / "ca")
    own = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.cert, own.key)
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return authority, context


def test_https_trusts_its_own_authority_and_shows_our_certificate(secure, monkeypatch):
    authority, context = secure
    ours = authority.issue("node")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")  # what the environment says does not count
    with web_peer(always(200, stored(UID)), context) as peer:
        to = destination(peer.url, tls_ca=authority.ca, tls_cert=ours.cert, tls_key=ours.key)
        assert StowCarrier(DICOM).carry(parcel(to)).verdict is V.STORED


def test_https_sends_nothing_to_a_server_of_another_authority(secure, tmp_path):
    _, context = secure
    stranger = Authority(tmp_path / "stranger")
    with web_peer(always(200, stored(UID)), context) as peer:
        with pytest.raises(PeerError, match="not trusted"):
            StowCarrier(DICOM).carry(parcel(destination(peer.url, tls_ca=stranger.ca)))
        with pytest.raises(PeerError, match=r"no secure connection|connection was lost"):
            StowCarrier(DICOM).carry(parcel(destination(peer.url, tls_ca=secure[0].ca)))
        assert peer.asked == []


def test_https_checks_to_whom_the_certificate_is_made_out(tmp_path):
    authority = Authority(tmp_path / "ca")
    other = authority.issue("server", host="elsewhere.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(other.cert, other.key)
    with web_peer(always(200, stored(UID)), context) as peer:
        with pytest.raises(PeerError, match="another name"):
            StowCarrier(DICOM).carry(parcel(destination(peer.url, tls_ca=authority.ca)))
        assert peer.asked == []


def test_an_object_goes_out_compressed_where_the_archive_takes_it_and_else_uncompressed():
    sent: list[str] = []

    def takes_no_compression(asked: Asked) -> Answered:
        start = asked.body.index(b"DICM") - 128
        sent.append(header.read_part10(io.BytesIO(asked.body[start:])).transfer_syntax_uid)
        return Answered(200, as_json(stored(UID))) if sent[-1] == EXPLICIT else Answered(415)

    carrier = StowCarrier(DICOM)
    with web_peer(takes_no_compression) as peer:
        for _ in range(2):
            to = destination(peer.url, transfer_syntax="jpeg-ls")
            assert carrier.carry(parcel(to, greyscale())).verdict is V.STORED
    carrier.close()
    compressed = codecs.JPEG_LS_LOSSLESS
    assert sent == [compressed, EXPLICIT, EXPLICIT], "what it has refused is not tried with the next object"


@cache
def greyscale() -> bytes:
    ds = make_object(uid=UID)
    ds.PixelData = bytes(b & 0x0F if n % 2 else b for n, b in enumerate(ds.PixelData))
    return header.part10_header(CR, UID, EXPLICIT) + encoded(ds)
