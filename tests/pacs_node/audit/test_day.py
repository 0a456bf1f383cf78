"""What is told of an image from the modality to the archive, by the program's own steps."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from lxml import etree

from config import Destination
from db.states import JobState
from pacs_node.archive import Archive
from pacs_node.audit.exporter import Exporter
from pacs_node.sender import Sender
from tests import dicom_variants as variants
from tests.pacs_node.audit.rules import faults
from tests.pacs_node.clinic import open_clinic
from tests.pacs_node.nodes import eventually


class Box:
    """A sink in memory."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def send(self, messages: Sequence[bytes]) -> None:
        self.messages += messages


def test_an_image_is_followed_from_the_modality_to_the_archive(tmp_path):
    box = Box()
    with Archive(tmp_path / "archive") as archive:
        pacs = Destination(name="pacs", ae_title="DEMO_PACS", host="127.0.0.1", port=archive.port)
        with open_clinic(tmp_path / "node", destinations=(pacs,)) as clinic:
            exporter = Exporter(clinic.settings, clinic.database, box)
            exporter.run()
            source = variants.cr(PatientID="4711", AccessionNumber="A-1")
            job_id = clinic.receive(source).job_id
            assert exporter.run() == 0  # nobody knows yet whose image it is
            clinic.work()
            sender = Sender(clinic.settings, clinic.database, clinic.store, threading.Event())

            def delivered() -> bool:
                sender.step()
                return clinic.job(job_id).state == JobState.DONE

            assert eventually(delivered, 60)
            sender.drain()
            exporter.run()
            result = clinic.job(job_id).result_sop_uid
    assert [faults(message) for message in box.messages] == [[]] * 3
    came, began, arrived = (etree.fromstring(message) for message in box.messages)
    for root, code, action, instance in (
        (came, "110104", "C", source.SOPInstanceUID),
        (began, "110102", "E", result),
        (arrived, "110104", "R", result),
    ):
        event = root.find("EventIdentification")
        assert (event.find("EventID").get("csd-code"), event.get("EventActionCode")) == (code, action)
        assert event.get("EventOutcomeIndicator") == "0"
        study, patient = root.findall("ParticipantObjectIdentification")
        assert study.get("ParticipantObjectID") == source.StudyInstanceUID
        assert study.find(".//Accession").get("Number") == "A-1"
        assert study.find(".//Instance").get("UID") == instance
        assert patient.get("ParticipantObjectID").startswith("4711")
    assert [p.get("UserID") for p in came.findall("ActiveParticipant")] == ["MODALITY", "receiver"]
    assert [p.get("UserID") for p in arrived.findall("ActiveParticipant")] == ["sender", "DEMO_PACS"]
