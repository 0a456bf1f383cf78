"""Storage commitment with a real Orthanc, both ways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from config.settings import EnhancerSettings, Rule
from db.exchange import Commitment
from db.models import RoleInstance
from db.objects import LocalStore
from db.states import JobState
from pacs_node import receiver, sender, worker
from tests import dicom_variants as variants
from tests.interop.conftest import Orthanc, Roles
from tests.pacs_node.archives import Promiser, promising
from tests.pacs_node.nodes import CR, PATIENT, eventually, make_database, make_settings, receiving
from tests.pacs_node.office import Office

pytestmark = pytest.mark.peer("orthanc")


def introduce(orthanc: Orthanc, port: int, name: str = "cxr") -> None:
    """Tell Orthanc who we are and where we listen."""
    us: dict[str, Any] = {
        "AET": "CXR_SR",
        "Host": "127.0.0.1",
        "Port": port,
        "AllowStorageCommitment": True,
        "Timeout": 60,
    }
    orthanc.request(f"/modalities/{name}", "PUT", us)


@pytest.fixture
def office(tmp_path, orthanc) -> Iterator[Office]:
    """A node that asks Orthanc for storage commitment, its receiver at work and known to Orthanc."""
    destination = orthanc.destination.model_copy(update={"storage_commitment": True})
    settings = make_settings(tmp_path / "node", dicom=PATIENT, destinations=(destination,))
    with receiving(settings) as node:
        introduce(orthanc, node.port)
        office = Office(settings, make_database(settings), LocalStore(settings.data_dir / "objects"))
        try:
            yield office
        finally:
            office.stop.set()
            office.sender.drain(60)
            office.database.close()


def test_orthanc_promises_to_keep_a_result_and_the_delivery_is_committed(office, orthanc):
    ds = variants.cr()
    job_id = office.post(ds, *office.settings.destinations)
    assert office.work(lambda: office.deliveries()[0].state == "committed", 120)
    assert orthanc.instance(ds.SOPInstanceUID)
    assert office.job(job_id).state == JobState.DONE


def test_orthanc_does_not_promise_what_it_has_lost_and_gets_it_again(office, orthanc, monkeypatch):
    from pacs_node import commitment_scu

    ds = variants.cr()
    ask = commitment_scu.Asker.run
    lost: list[str] = []

    def lose_and_ask(asker: Any) -> None:
        name = orthanc.instance(ds.SOPInstanceUID)
        if name and not lost:
            lost.append(name)
            orthanc.request(f"/instances/{name}", "DELETE")
        ask(asker)

    monkeypatch.setattr(commitment_scu.Asker, "run", lose_and_ask)
    office.post(ds, *office.settings.destinations)
    assert office.work(lambda: office.deliveries()[0].state == "committed", 120)
    with office.database.read() as session:
        told = [(row.state, row.failure_reason) for row in session.scalars(select(Commitment))]
    assert told == [("refused", 0x0112), ("committed", None)]
    assert lost
    assert orthanc.instance(ds.SOPInstanceUID)


@contextmanager
def promising_node(data_dir: Path, orthanc: Orthanc, model: Path, archive: Promiser) -> Iterator[int]:
    """All roles of a node that forwards originals to an archive and promises them to Orthanc; its port."""
    modality = orthanc.destination.model_copy(update={"name": "modality", "default": False})
    settings = make_settings(
        data_dir,
        dicom=PATIENT | {"storage_commitment": True},
        destinations=(archive.destination, modality),
    ).model_copy(
        update={
            "enhancer": EnhancerSettings(model=str(model), device="cpu"),
            "rules": (Rule(name="all", destinations=("pacs",), forward_original="always"),),
        }
    )
    database = make_database(settings)

    def port() -> Any:
        with database.read() as session:
            row = session.scalar(select(RoleInstance).where(RoleInstance.role == "receiver"))
            return row and row.info["port"]

    with Roles(settings, receiver.run, worker.run, sender.run):
        assert eventually(port, 60)
        yield int(port())
    database.close()


def asked_of(archive: Promiser) -> dict[str, tuple[str, str]]:
    """What the archive was asked: the transaction and SOP class of each instance."""
    return {uid: (transaction, cls) for transaction, names in archive.asked for cls, uid in names}


@pytest.mark.peer("storescu")
def test_orthanc_as_modality_is_promised_what_an_archive_has_promised_us(
    tmp_path, orthanc, small_model, dcmtk
):
    """forward_original brings the image to the archive; its promise becomes ours."""
    ds = variants.cr()
    file = variants.written(ds, tmp_path / "image.dcm")
    uid = str(ds.SOPInstanceUID)
    done = dcmtk("storescu", "-aec", "ORTHANC", "127.0.0.1", orthanc.dicom_port, file)
    assert done.returncode == 0, done.stdout
    with (
        promising() as archive,
        promising_node(tmp_path / "node", orthanc, small_model, archive) as port,
    ):
        introduce(orthanc, port, "node")
        orthanc.request("/modalities/node/store", "POST", [orthanc.instance(uid)])
        asked = {"DicomInstances": [{"SOPClassUID": CR, "SOPInstanceUID": uid}]}
        answer = json.loads(orthanc.request("/modalities/node/storage-commitment", "POST", asked))
        assert eventually(lambda: uid in asked_of(archive), 300), "the original is forwarded"
        assert orthanc.get(answer["Path"])["Status"] == "Pending", "nobody has promised anything yet"
        transaction, _ = asked_of(archive)[uid]
        archive.report(port, transaction, {(CR, uid): None})
        assert eventually(lambda: orthanc.get(answer["Path"])["Status"] != "Pending", 300)
        told = orthanc.get(answer["Path"])
        assert told["Status"] == "Success", told
        assert [one["SOPInstanceUID"] for one in told["Success"]] == [uid]


def test_orthanc_as_modality_is_told_that_we_never_got_an_image(tmp_path, orthanc, small_model):
    with (
        promising() as archive,
        promising_node(tmp_path / "node", orthanc, small_model, archive) as port,
    ):
        introduce(orthanc, port, "node")
        asked = {"DicomInstances": [{"SOPClassUID": CR, "SOPInstanceUID": "1.2.3"}]}
        answer = json.loads(orthanc.request("/modalities/node/storage-commitment", "POST", asked))
        assert eventually(lambda: orthanc.get(answer["Path"])["Status"] != "Pending", 120)
        told = orthanc.get(answer["Path"])
    assert told["Status"] == "Failure"
    assert [one["SOPInstanceUID"] for one in told["Failures"]] == ["1.2.3"]
