"""Audit messages as XML: the standard's structure, whatever strangers have put into the values."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from pacs_node.audit import codes
from pacs_node.audit.message import (
    PATIENT,
    PERSON,
    REPORT,
    SYSTEM,
    Instances,
    Message,
    Outcome,
    Participant,
    Subject,
)
from tests.pacs_node.audit.rules import faults

AT = datetime(2026, 3, 1, 12, 30, 15, 250000, tzinfo=timezone(timedelta(hours=2)))


def transfer(*, title: str = "MODALITY", patient: str = "4711", comment: str = "") -> Message:
    return Message(
        event=codes.INSTANCES_TRANSFERRED,
        action="C",
        at=AT,
        outcome=Outcome.SUCCESS,
        source_id="cxr-sr",
        comment=comment,
        participants=(
            Participant(title, True, codes.SOURCE_ROLE, f"AETITLES={title}", address="192.0.2.7"),
            Participant("receiver", False, codes.DESTINATION_ROLE, address="node"),
        ),
        subjects=(
            Subject(
                "1.2.3",
                codes.STUDY_INSTANCE_UID,
                SYSTEM,
                REPORT,
                accession="A1",
                instances=(Instances("1.2.840.10008.5.1.4.1.1.1", ("1.2.3.4",)),),
            ),
            Subject(patient, codes.PATIENT_NUMBER, PERSON, PATIENT),
        ),
    )


def test_a_message_is_what_the_schema_and_its_table_ask_for():
    assert faults(transfer().xml()) == []


def test_times_are_told_in_utc_and_addresses_with_their_kind():
    root = etree.fromstring(transfer().xml())
    assert root.find("EventIdentification").get("EventDateTime") == "2026-03-01T10:30:15.250Z"
    kinds = [p.get("NetworkAccessPointTypeCode") for p in root.findall("ActiveParticipant")]
    assert kinds == ["2", "1"]


@given(title=st.text(min_size=1), patient=st.text(), comment=st.text())
def test_nothing_that_a_stranger_writes_breaks_a_message_or_its_line(title, patient, comment):
    encoded = transfer(title=f"A{title}", patient=f"P{patient}", comment=comment).xml()
    assert b"\n" not in encoded
    assert faults(encoded) == []


def test_markup_in_a_value_stays_text():
    root = etree.fromstring(transfer(patient='"/><Evil/>&').xml())
    patient = root.findall("ParticipantObjectIdentification")[1]
    assert patient.get("ParticipantObjectID") == '"/><Evil/>&'
    assert root.find(".//Evil") is None


def test_details_and_queries_travel_in_base64():

    alert = Message(
        event=codes.SECURITY_ALERT,
        type=codes.NODE_AUTHENTICATION,
        action="E",
        at=AT.astimezone(UTC),
        outcome=Outcome.SERIOUS_FAILURE,
        source_id="cxr-sr",
        participants=(Participant("receiver", True),),
        subjects=(
            Subject(
                "192.0.2.9", codes.NODE_ID, SYSTEM, "13", details=(("Alert Description", "who? \u5c71"),)
            ),
        ),
    )
    assert faults(alert.xml()) == []
    detail = etree.fromstring(alert.xml()).find(".//ParticipantObjectDetail")
    assert base64.b64decode(detail.get("value")).decode() == "who? \u5c71"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'csd-code="110104"', b'csd-code="110199"'),
        (b'EventActionCode="C"', b'EventActionCode="X"'),
        (b'EventActionCode="C"', b'EventActionCode="D"'),
        (b"EventDateTime=", b"EventTime="),
        (b'EventOutcomeIndicator="0"', b'EventOutcomeIndicator="1"'),
        (b"<ParticipantObjectName />", b""),
        (b'UserIsRequestor="false"', b'UserIsRequestor="true"'),
        (b'csd-code="110152"', b'csd-code="110150"'),
        (b'ParticipantObjectTypeCode="1"', b'ParticipantObjectTypeCode="2"'),
        (b'originalText="Source Role ID"', b""),
        (b' NumberOfInstances="1"', b""),
    ],
)
def test_the_rules_find_what_was_planted(before, after):
    encoded = transfer().xml()
    assert before in encoded
    assert faults(encoded.replace(before, after)) != []
