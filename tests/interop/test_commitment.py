"""Storage commitment with a real Orthanc, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from db.exchange import Commitment
from db.objects import LocalStore
from db.states import JobState
from tests import dicom_variants as variants
from tests.interop.conftest import Orthanc
from tests.pacs_node.nodes import PATIENT, make_database, make_settings, receiving
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
