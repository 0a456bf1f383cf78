"""DICOM over TLS with dcmtk's programs and Orthanc: both directions, mutual, and every way to be refused."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pynetdicom.presentation import build_context

from config import Destination
from config.network import DicomTls
from config.settings import DicomSettings
from pacs_node import scu
from pacs_node.echo import echo
from tests import peers
from tests.interop.conftest import running_orthanc
from tests.pacs_node.certificates import Authority
from tests.pacs_node.nodes import (
    CR,
    EXPLICIT,
    PATIENT,
    encoded,
    eventually,
    make_object,
    make_settings,
    receiving,
    sources,
)

OURS = DicomSettings(**PATIENT)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


@pytest.fixture
def stranger(tmp_path):
    return Authority(tmp_path / "strange", "Strange Authority")


def show(pair, *authorities):
    """dcmtk's options for a certificate of one's own and those whom one trusts."""
    trust = [option for one in authorities for option in ("+cf", one.ca)]
    return ["+tls", pair.key, pair.cert, *trust]


@contextmanager
def tls_node(folder, authority, *, mutual=True, profile="bcp195"):
    pair = authority.issue("server")
    door = DicomTls(
        port=0, cert=pair.cert, key=pair.key, ca=authority.ca if mutual else None, profile=profile, only=True
    )
    with receiving(make_settings(folder, dicom=PATIENT | {"tls": door})) as node:
        yield node


@pytest.mark.peer("echoscu", "storescu")
@pytest.mark.parametrize("profile", ["bcp195", "bcp195-extended"])
@pytest.mark.parametrize("theirs", ["--profile-bcp195-nd", "--profile-bcp195", "--profile-bcp195-ex"])
def test_dcmtk_sends_over_tls_with_each_of_its_profiles(
    tmp_path, authority, dcmtk, samples_dir, profile, theirs
):
    file = min(samples_dir.glob("*.dcm"), key=lambda path: path.stat().st_size)
    with tls_node(tmp_path / "node", authority, profile=profile) as node:
        options = [*show(authority.issue("client"), authority), theirs, "-aec", "CXR_SR", "127.0.0.1"]
        done = dcmtk("echoscu", *options, node.tls_port)
        assert done.returncode == 0, done.stdout
        done = dcmtk("storescu", "-R", *options, node.tls_port, file)
        assert done.returncode == 0, done.stdout
        assert len(sources(node)) == 1
        assert node.receiver.facts()["refused"] == {}


@pytest.mark.peer("echoscu")
def test_dcmtk_is_refused_without_a_certificate_and_with_one_of_another_authority(
    tmp_path, authority, stranger, dcmtk
):
    with tls_node(tmp_path / "node", authority) as node:
        us = ["-aec", "CXR_SR", "127.0.0.1", node.tls_port]
        assert dcmtk("echoscu", "+tla", "-ic", *us).returncode != 0
        pair = stranger.issue("client")
        assert dcmtk("echoscu", *show(pair, authority), *us).returncode != 0
        assert eventually(lambda: node.receiver.facts()["refused"] == {"tls": 2})
        assert dcmtk("echoscu", *show(authority.issue("client"), stranger), *us).returncode != 0, (
            "it trusts us not"
        )
        assert dcmtk("echoscu", *us).returncode != 0, "in clear"
        assert dcmtk("echoscu", *show(authority.issue("client"), authority), *us).returncode == 0


@pytest.mark.peer("echoscu")
def test_dcmtk_without_a_certificate_is_served_where_none_is_asked_for(tmp_path, authority, dcmtk):
    with tls_node(tmp_path / "node", authority, mutual=False) as node:
        us = ["-aec", "CXR_SR", "127.0.0.1", node.tls_port]
        done = dcmtk("echoscu", "+tla", "+cf", authority.ca, *us)
        assert done.returncode == 0, done.stdout


@contextmanager
def storescp(folder, free_port, *options) -> Iterator[int]:
    """dcmtk's storescp, as a PACS; its port."""
    program, port = peers.require("storescp"), free_port()
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-od", folder, "-aet", "PACS", *options, str(port)], stdout=log, stderr=log
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(30)


def pacs(port, authority, pair=None, **more):
    own = {"tls_cert": pair.cert, "tls_key": pair.key} if pair else {}
    given = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "tls": True}
    return Destination(**(given | {"tls_ca": authority.ca} | own | more))


def sent(destination) -> int:
    ds = make_object(size=256)
    with scu.association(destination, OURS, [build_context(CR, EXPLICIT)]) as assoc:
        (cx,) = assoc.accepted_contexts
        stream = io.BytesIO(encoded(ds))
        return scu.store(assoc, cx, CR, ds.SOPInstanceUID, stream, message_id=1, timeout=60).status


@pytest.mark.peer("storescp")
@pytest.mark.parametrize("profile", ["bcp195", "bcp195-extended"])
def test_storescp_takes_our_results_over_tls(tmp_path, authority, free_port, profile):
    server = [*show(authority.issue("server"), authority), "--profile-bcp195-ex"]
    with storescp(tmp_path / "pacs", free_port, *server) as port:
        destination = pacs(port, authority, authority.issue("client"), tls_profile=profile)
        assert eventually(lambda: echo(destination, OURS).ok, 30)
        assert sent(destination) == 0
    assert len(list((tmp_path / "pacs").glob("CR.*"))) == 1


@pytest.mark.peer("storescp")
def test_nothing_is_sent_to_an_archive_that_is_not_who_it_should_be(tmp_path, authority, stranger, free_port):
    client = authority.issue("client")
    with storescp(tmp_path / "pacs", free_port, *show(authority.issue("server"), authority)) as port:
        good = pacs(port, authority, client)
        assert eventually(lambda: echo(good, OURS).ok, 30)
        wrong = {
            "the authority of its certificate is not in tls_ca": pacs(port, stranger, client),
            "its certificate is made out to another name": pacs(port, authority, client, host="localhost"),
            "it asks for our certificate; set tls_cert and tls_key": pacs(port, authority),
            "it does not trust the authority of our certificate": pacs(
                port, authority, stranger.issue("client")
            ),
            "it may expect TLS": pacs(port, authority, tls=False),
        }
        for says, destination in wrong.items():
            with pytest.raises(scu.PeerError) as error:
                sent(destination)
            assert says in str(error.value)
    assert list((tmp_path / "pacs").glob("CR.*")) == []


@pytest.mark.peer("storescp")
def test_our_certificate_replaced_while_running_is_shown_to_the_next_association(
    tmp_path, authority, stranger, free_port
):
    with storescp(tmp_path / "pacs", free_port, *show(stranger.issue("server"), stranger)) as port:
        pair = authority.issue("client")
        destination = pacs(port, stranger, pair)
        assert eventually(lambda: "does not trust" in echo(destination, OURS).message, 30)
        new = stranger.issue("client")
        pair.cert.write_bytes(new.cert.read_bytes())
        pair.key.write_bytes(new.key.read_bytes())
        assert sent(destination) == 0


@pytest.mark.peer("orthanc", "orthanc-dicomweb")
def test_orthanc_takes_our_results_over_mutual_tls(tmp_path, authority, stranger):
    server, client = authority.issue("orthanc"), authority.issue("client")
    encrypted = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(server.cert),
        "DicomTlsPrivateKey": str(server.key),
        "DicomTlsTrustedCertificates": str(authority.ca),
        "DicomTlsRemoteCertificateRequired": True,
    }
    folder = tmp_path / "orthanc"
    folder.mkdir()
    with running_orthanc(folder, **encrypted) as orthanc:
        tls = {"ae_title": "ORTHANC"}
        assert sent(pacs(orthanc.dicom_port, authority, client, **tls)) == 0
        assert len(orthanc.get("/instances")) == 1
        for pair in (None, stranger.issue("client")):
            assert not echo(pacs(orthanc.dicom_port, authority, pair, **tls), OURS).ok
        assert not echo(orthanc.destination, OURS).ok, "in clear"
        assert len(orthanc.get("/instances")) == 1
