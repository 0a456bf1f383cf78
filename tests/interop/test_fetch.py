"""Archives worked through: an Orthanc by C-GET, by C-MOVE and by DICOMweb, results into another archive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from config import Destination, Settings
from config.network import Archive
from config.settings import EnhancerSettings, FetchSettings
from cxr_sr import cli
from db import Database, batches
from db.models import Batch, Job, RoleInstance, Source
from db.states import JobState
from pacs_node import codecs, pull, receiver, sender, worker
from pacs_node.echo import echo
from pacs_node.searches import search
from tests import dicom_variants as variants
from tests.interop.conftest import Dcmtk, Orthanc, Roles, _free_port, running_orthanc
from tests.pacs_node.nodes import CT, PATIENT, eventually, make_database, make_settings
from tests.pacs_node.webpeers import Answered, Asked, as_json, web_peer
from tests.peers import ROOT, require

pytestmark = pytest.mark.peer("orthanc", "orthanc-dicomweb")

USER, PASSWORD = "node", "open sesame"
LONG = 300.0
KIM = "Kim^Minsu=金^民洙=김^민수"


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Iterator[Orthanc]:
    """Return an Orthanc with old studies that asks for a password by HTTP."""
    folder = tmp_path_factory.mktemp("archive")
    with running_orthanc(
        folder,
        AuthenticationEnabled=True,
        RegisteredUsers={USER: PASSWORD},
        DicomAlwaysAllowFind=True,
        DefaultEncoding="Utf8",
        DicomAlwaysAllowGet=True,
        DicomAlwaysAllowMove=True,
    ) as orthanc:
        for number, ds in enumerate(old_studies()):
            deposit(orthanc, variants.written(ds, folder / f"{number}.dcm"))
        yield orthanc


def old_studies() -> Iterator[Dataset]:
    """Four studies: CR, DX, a compressed CR with a lateral beside it, and a hand (CR) with a CT series."""
    yield variants.cr(SpecificCharacterSet="ISO_IR 192", **old("1", "20240105", PatientName=KIM))
    yield variants.dx(**old("2", "20240120"))
    frontal = variants.cr(**old("3", "20240131"))
    yield variants.encoded(frontal, codecs.JPEG_LOSSLESS_SV1)
    beside: dict[str, Any] = {"StudyInstanceUID": frontal.StudyInstanceUID}
    yield variants.cr(ViewPosition="LL", **old("3", "20240131"), **beside)
    hand = variants.cr(BodyPartExamined="HAND", **old("4", "20240210"))
    yield hand
    beside = {"StudyInstanceUID": hand.StudyInstanceUID}
    yield variants.cr(Modality="CT", SOPClassUID=CT, **old("4", "20240210"), **beside)


def old(number: str, day: str, **more: str) -> dict[str, Any]:
    return {"PatientID": f"OLD-{number}", "AccessionNumber": f"A-{number}", "StudyDate": day} | more


def deposit(orthanc: Orthanc, file: Path) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{orthanc.http_port}/instances",
        method="POST",
        data=file.read_bytes(),
        headers=orthanc._signed_in() | {"Content-Type": "application/dicom"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200


@dataclass
class Node:
    """A node's settings and state, with an archive before it and Orthanc behind it."""

    settings: Settings
    database: Database

    def batch(self, *terms: str, name: str = "old") -> int:
        """Make a batch of what matches."""
        archive = self.settings.archive(name)
        query = pull.parse(dict(term.split("=", 1) for term in terms))
        found = search(archive, self.settings, query, 100)
        with self.database.write() as session:
            chosen = [batches.Chosen(study.uid, study.shown) for study in found.studies]
            return batches.create(session, name, chosen, query={"modalities": list(query.modalities)}).id

    def state(self, number: int) -> str:
        with self.database.read() as session:
            return session.get_one(Batch, number).state

    def items(self, number: int) -> list[tuple[str, int, str | None]]:
        with self.database.read() as session:
            return [(one.state, one.received, one.reason) for one in batches.items(session, number)]

    def jobs(self, number: int) -> list[Job]:
        with self.database.read() as session:
            return list(session.scalars(select(Job).where(Job.batch_id == number).order_by(Job.id)))

    def sources(self) -> list[Source]:
        with self.database.read() as session:
            return list(session.scalars(select(Source).order_by(Source.id)))

    def ended(self, number: int) -> bool:
        """Whether every study has come or not, and every job of it has ended."""
        over = {JobState.DONE, JobState.FAILED, JobState.SKIPPED, JobState.CANCELLED}
        return self.state(number) == "finished" and all(job.state in over for job in self.jobs(number))


@pytest.fixture
def make_node(tmp_path, archive, orthanc, small_model) -> Iterator[Callable[..., Node]]:
    """Return a function that makes a node which fetches as it is told."""
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    made: list[Node] = []

    def make(
        destinations: tuple[Destination, ...] = (), fetch: dict[str, Any] | None = None, **how: Any
    ) -> Node:
        if how.get("kind") == "dicomweb":
            url = f"http://127.0.0.1:{archive.http_port}/dicom-web"
            how = {"url": url, "auth": "basic", "username": USER, "secret_file": secret} | how
        else:
            how = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": archive.dicom_port} | how
        settings = make_settings(
            tmp_path / "node", dicom=PATIENT, destinations=destinations or (orthanc.destination,)
        ).model_copy(
            update={
                "archives": (Archive(name="old", **how),),
                "fetch": FetchSettings(**(fetch or {})),
                "enhancer": EnhancerSettings(model=str(small_model), device="cpu"),
            }
        )
        node = Node(settings, make_database(settings))
        made.append(node)
        return node

    yield make
    for node in made:
        node.database.close()


WAYS = pytest.mark.parametrize("how", [{}, {"kind": "dicomweb"}], ids=["dimse", "dicomweb"])


@WAYS
def test_a_search_finds_what_matches_and_nothing_else(make_node, how):
    node = make_node(**how)

    def found(*terms: str, limit: int = 100) -> list[str]:
        query = pull.parse(dict(term.split("=", 1) for term in terms))
        answer = search(node.settings.archives[0], node.settings, query, limit)
        return sorted(study.shown["PatientID"] for study in answer.studies)

    assert found("patient=OLD-*") == ["OLD-1", "OLD-2", "OLD-3", "OLD-4"]
    assert found("patient=OLD-*", "modality=DX") == ["OLD-2"]
    assert found("patient=OLD-*", "modality=MR") == []
    assert found("accession=A-3") == ["OLD-3"]
    assert found("date=20240101-20240131") == ["OLD-1", "OLD-2", "OLD-3"]
    assert found("date=20240131-") == ["OLD-3", "OLD-4"]
    assert found("name=Kim^Min*") == ["OLD-1"]
    if not how:  # this Orthanc does not decode quoted characters of a search by DICOMweb
        assert found("name=*民洙*") == ["OLD-1"]
    assert len(found("patient=OLD-*", limit=2)) == 2
    query = pull.parse({"accession": "A-1"})
    (study,) = search(node.settings.archives[0], node.settings, query, 5).studies
    assert study.shown["PatientName"] == KIM
    assert study.shown["ModalitiesInStudy"] == ["CR"]
    assert search(node.settings.archives[0], node.settings, pull.parse({"patient": "OLD-*"}), 2).more


@WAYS
def test_old_studies_come_back_enhanced_into_the_archive(make_node, orthanc, how):
    """Paused before it begins, resumed, and worked through to the end."""
    node = make_node(**how)
    number = node.batch("patient=OLD-*")
    with node.database.write() as session:
        batches.pause(session, batches.get(session, number))
    with Roles(node.settings, worker.run, sender.run):
        time.sleep(1)
        assert node.items(number) == [("waiting", 0, None)] * 4
        with node.database.write() as session:
            batches.resume(session, batches.get(session, number))
        assert eventually(lambda: node.ended(number), LONG), node.items(number)
    assert sorted(node.items(number)) == [("fetched", 1, None)] * 3 + [("fetched", 2, None)]
    jobs = node.jobs(number)
    reasons = sorted((job.state.value, job.reason_code or "") for job in jobs)
    assert reasons == [("done", "")] * 3 + [("skipped", "not-chest"), ("skipped", "not-frontal")]
    assert {job.priority for job in jobs} == {20}
    assert {source.origin_kind for source in node.sources()} == {"fetch"}
    assert codecs.JPEG_LOSSLESS_SV1 in {source.transfer_syntax_uid for source in node.sources()}
    for job in jobs:
        if job.state is JobState.DONE:
            assert orthanc.instance(job.result_sop_uid)
    again = node.batch("patient=OLD-*")
    with Roles(node.settings, worker.run, sender.run):
        assert eventually(lambda: node.ended(again), LONG), node.items(again)
    assert node.jobs(again) == []
    assert {reason for _, _, reason in node.items(again)} == {
        "1 of 1 objects were here already",
        "2 of 2 objects were here already",
    }


def test_studies_are_moved_to_our_receiver_and_counted(make_node, archive):
    """adit#415: what the archive says it sent is compared with what is safely here."""
    node = make_node(retrieve="move")
    with Roles(node.settings, receiver.run, worker.run, sender.run):
        port = listening(node)
        archive.request("/modalities/node", "PUT", {"AET": "CXR_SR", "Host": "127.0.0.1", "Port": port})
        number = node.batch("patient=OLD-*")
        assert eventually(lambda: node.ended(number), LONG), node.items(number)
    assert sorted(node.items(number)) == [("fetched", 1, None)] * 3 + [("fetched", 2, None)]
    assert {source.origin_kind for source in node.sources()} == {"fetch"}
    assert {job.priority for job in node.jobs(number)} == {20}
    assert len(node.jobs(number)) == 5


def test_a_move_without_an_address_for_us_fails_with_advice(make_node, archive):
    archive.request("/modalities/node", "PUT", {"AET": "ELSEWHERE", "Host": "127.0.0.1", "Port": 1})
    node = make_node(retrieve="move", fetch={"max_attempts": 1})
    number = node.batch("accession=A-1")
    with Roles(node.settings, sender.run):
        assert eventually(lambda: node.ended(number), LONG), node.items(number)
    ((state, received, reason),) = node.items(number)
    assert (state, received) == ("failed", 0)
    assert reason


@contextmanager
def qrscp(folder: Path, dcmtk: Dcmtk, our_port: int) -> Iterator[int]:
    """dcmtk's archive with the old studies, which knows us at a port; its own port."""
    folder.mkdir()
    port, config = _free_port(), folder / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nnode = (CXR_SR, 127.0.0.1, {our_port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQRSCP {folder} RW (200, 1024mb) ANY\nAETable END\n"
    )
    process = subprocess.Popen([require("dcmqrscp"), "-c", config], cwd=folder)
    try:
        called = ("-aec", "QRSCP", "127.0.0.1", port)
        assert eventually(lambda: dcmtk("echoscu", *called).returncode == 0, LONG)
        for number, ds in enumerate(old_studies()):
            if not ds.file_meta.TransferSyntaxUID.is_compressed:  # it sends what it has uncompressed alone
                file = variants.written(ds, folder / f"old-{number}.dcm")
                done = dcmtk("storescu", "-R", *called, file)
                assert done.returncode == 0, done.stdout
        yield port
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.peer("dcmqrscp", "storescu", "echoscu")
@pytest.mark.parametrize("retrieve", ["get", "move"])
def test_the_archive_of_dcmtk_is_worked_through(make_node, tmp_path, dcmtk, retrieve):
    our_port = _free_port()
    with qrscp(tmp_path / "qrscp", dcmtk, our_port) as port:
        node = make_node(retrieve=retrieve, ae_title="QRSCP", port=port)
        dicom = node.settings.dicom.model_copy(update={"port": our_port})
        node.settings = node.settings.model_copy(update={"dicom": dicom})
        with Roles(node.settings, receiver.run, worker.run, sender.run):
            listening(node)
            number = node.batch("patient=OLD-*")
            assert eventually(lambda: node.ended(number), LONG), node.items(number)
    assert node.items(number) == [("fetched", 1, None)] * 4
    assert {source.origin_kind for source in node.sources()} == {"fetch"}
    assert {job.priority for job in node.jobs(number)} == {20}


def listening(node: Node) -> int:
    found: list[int] = []

    def listens() -> list[int]:
        with node.database.read() as session:
            rows = session.scalars(select(RoleInstance).where(RoleInstance.role == "receiver"))
            found.extend(row.info["port"] for row in rows)
        return found

    assert eventually(listens, LONG)
    return found[0]


def test_results_go_by_stow_to_an_archive_that_asks_for_a_password(make_node, archive, tmp_path):
    web = Destination(
        name="web",
        kind="dicomweb",
        url=f"http://127.0.0.1:{archive.http_port}/dicom-web",
        auth="basic",
        username=USER,
        secret_file=make_secret(tmp_path, PASSWORD),
    )
    node = make_node(destinations=(web,))
    assert echo(web, node.settings.dicom).ok
    number = node.batch("accession=A-1")
    with Roles(node.settings, worker.run, sender.run):
        assert eventually(lambda: node.ended(number), LONG), node.items(number)
    (job,) = node.jobs(number)
    assert (job.state, job.reason) == (JobState.DONE, None)
    assert archive.instance(job.result_sop_uid)
    again = node.batch("accession=A-1")
    with Roles(node.settings, worker.run, sender.run):
        assert eventually(lambda: node.ended(again), LONG), node.items(again)
    assert node.items(again)[0][1] == 1, "our own result is not fetched"


def test_a_wrong_password_fails_the_delivery_and_tells_why(make_node, archive, tmp_path):
    wrong = Destination(
        name="web",
        kind="dicomweb",
        url=f"http://127.0.0.1:{archive.http_port}/dicom-web",
        auth="basic",
        username=USER,
        secret_file=make_secret(tmp_path, "guess"),
    )
    node = make_node(destinations=(wrong,))
    answer = echo(wrong, node.settings.dicom)
    assert (answer.ok, "401" in answer.message) == (False, True)
    number = node.batch("accession=A-2")
    with Roles(node.settings, worker.run, sender.run):
        assert eventually(lambda: node.ended(number), LONG), node.items(number)
    (job,) = node.jobs(number)
    assert job.state is JobState.FAILED
    with node.database.read() as session:
        (delivery,) = session.get_one(Job, job.id).deliveries
        assert (delivery.status_code, "401" in delivery.comment) == (401, True)
        assert "guess" not in json.dumps(delivery.destination) + delivery.comment


def make_secret(folder: Path, password: str) -> Path:
    file = folder / "destination-secret"
    file.write_text(password)
    return file


def test_the_command_line_searches_and_makes_a_batch(make_node, archive, tmp_path, capsys):
    node = make_node()
    config = tmp_path / "node.toml"
    config.write_text(
        f'data_dir = "{node.settings.data_dir}"\n[[archives]]\nname = "old"\nae_title = "ORTHANC"\n'
        f'host = "127.0.0.1"\nport = {archive.dicom_port}\n'
    )
    where = ["--config", str(config)]
    asked = ["fetch", "--archive", "old", "--query", "date=20240101-20240131", *where]
    assert cli.run([*asked, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert ("OLD-1" in shown, "OLD-4" in shown) == (True, False)
    assert cli.run([*asked, "--scale", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["studies"]) == 3
    number = str(told["batch"])
    with node.database.read() as session:
        assert session.get_one(Batch, told["batch"]).query["requested"] == {"scale": 2}
    for action, state in (("pause", "paused"), ("resume", "open"), ("cancel", "cancelled")):
        assert cli.run(["fetch", action, number, *where]) == 0
        assert f"batch {number} is {state} now" in capsys.readouterr().err
    assert cli.run(["fetch", "pause", number, *where]) == 1
    capsys.readouterr()
    assert cli.run(["fetch", "show", number, "--json", *where]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["studies"] == {"cancelled": 3}
    assert "OLD" not in shown
    assert cli.run(["fetch", "list", *where]) == 0
    assert "cancelled" in capsys.readouterr().out
    assert cli.run(["fetch", "--archive", "new", "--query", "patient=1", *where]) == 1
    assert cli.run(["fetch", "--archive", "old", "--query", "modality=CR", *where]) == 2
    assert cli.run(["fetch", "--archive", "old", "--query", "date=january", *where]) == 2


class SlowArchive:
    """An archive by DICOMweb with three studies; it is silent when asked for the second one."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.stuck = False
        self.hang = True

    def __call__(self, asked: Asked) -> Answered:
        study = asked.path.split("/studies/")[1].split("/")[0]
        if asked.path.endswith("/series") or "/series?" in asked.path:
            series = {
                "0020000E": {"vr": "UI", "Value": [f"{study}.1"]},
                "00080060": {"vr": "CS", "Value": ["CR"]},
            }
            return Answered(200, as_json([series]))
        if self.hang and study == list(self.files)[1]:
            self.stuck = True
            while self.hang:
                time.sleep(0.05)
        head = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary=b'
        return Answered(200, head + self.files[study] + b"\r\n--b--", kind)


def test_a_batch_whose_fetcher_is_killed_in_the_middle_goes_on(tmp_path, small_model):
    """procrastinate#740: work that was taken by a process that died is taken again."""
    files = {}
    for number in range(3):
        ds = variants.cr(PatientID=f"K-{number}")
        files[str(ds.StudyInstanceUID)] = variants.written(ds, tmp_path / f"{number}.dcm").read_bytes()
    slow = SlowArchive(files)
    with web_peer(slow) as peer:
        settings = make_settings(tmp_path / "var", queue={"lease_seconds": 3}).model_copy(
            update={"archives": (Archive(name="slow", kind="dicomweb", url=peer.url),)}
        )
        node = Node(settings, make_database(settings))
        with node.database.write() as session:
            number = batches.create(session, "slow", [batches.Chosen(uid) for uid in files], query={}).id
        config = tmp_path / "cxr-sr.toml"
        config.write_text(
            f'data_dir = "{tmp_path / "var"}"\n[queue]\nlease_seconds = 3\npoll_seconds = 0.05\n'
            "[storage]\nreserve_bytes = 0\n"
            f'[[archives]]\nname = "slow"\nkind = "dicomweb"\nurl = "{peer.url}"\n'
        )
        first = subprocess.Popen(
            [sys.executable, "-m", "cxr_sr", "serve", "--config", config, "--role", "sender"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            assert eventually(lambda: slow.stuck, LONG)
            assert [state for state, _, _ in node.items(number)] == ["fetched", "fetching", "waiting"]
        finally:
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
        slow.hang = False
        with Roles(settings, sender.run):
            assert eventually(lambda: node.state(number) == "finished", LONG), node.items(number)
    assert node.items(number) == [("fetched", 1, None)] * 3
    with node.database.read() as session:
        assert [one.attempts for one in batches.items(session, number)] == [1, 2, 1]
    assert len(node.sources()) == 3
    node.database.close()
