"""What the header says, as rows and searches hold it."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs_node.facts import header_facts
from tests import dicom_variants as variants


def test_what_dicomweb_searches_by_is_read_from_the_header() -> None:
    request = Dataset()
    request.ScheduledProcedureStepID, request.RequestedProcedureID = "SPS1", "RP1"
    said = header_facts(
        variants.cr(
            ReferringPhysicianName="House^Gregory", PerformedProcedureStepStartDate="2024.05.01",
            PerformedProcedureStepStartTime="0800", InstanceNumber="7",
            RequestAttributesSequence=Sequence([request, Dataset()]),
        )
    )  # fmt: skip
    assert said.study.referring_physician == "House^Gregory"
    assert (said.series.performed_date, said.series.performed_time) == ("20240501", "0800")
    assert (said.series.scheduled_step_id, said.series.requested_procedure_id) == ("SPS1", "RP1")
    assert said.instance_number == 7


def test_what_is_missing_or_odd_says_nothing_and_fails_nothing() -> None:
    ds = variants.cr(InstanceNumber="", RequestAttributesSequence=Sequence())
    said = header_facts(ds)
    assert (said.instance_number, said.series.scheduled_step_id) == (None, "")
    del ds.RequestAttributesSequence
    ds.add_new(0x00400275, "LO", "no sequence")
    assert header_facts(ds).series.requested_procedure_id == ""
