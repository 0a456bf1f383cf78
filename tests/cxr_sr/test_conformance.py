"""The statement against the node itself: what is accepted, what is proposed, what is made."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, cast

import pytest
from pydicom import uid as uids
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context

from config import Destination
from config.network import Archive
from cxr_sr.conformance import activities, annexes, services, statement, web
from cxr_sr.conformance.words import code
from db import commitment_requests
from db.objects import LocalStore
from pacs_node import (
    codecs,
    commitment,
    echo,
    presence_check,
    provenance,
    pull,
    pull_dimse,
    receiver,
    recipe,
    statuses,
)
from pacs_node.audit.triggers import TRIGGERS
from pacs_node.commitment_scp import Teller
from tests.pacs_node.nodes import (
    CR,
    DX,
    EXPLICIT,
    IMPLICIT,
    PATIENT,
    make_database,
    make_object,
    make_settings,
    receiving,
    store_object,
)
from tests.pacs_node.office import Office
from tests.peers import ROOT

MOST_CONTEXTS = 128


@pytest.fixture(scope="module")
def doc() -> dict[str, Any]:
    return statement().data()


def table(doc, caption: str) -> list[list[str]]:
    (found,) = [b for b in doc["blocks"] if b["kind"] == "table" and b["caption"] == caption]
    return found["rows"]


def pairs(rows) -> set[tuple[str, str]]:
    """SOP class and transfer syntax of each line of a table of presentation contexts."""
    return {
        (row[1].strip("`"), syntax.rsplit(" ", 1)[1].strip("`"))
        for row in rows
        for syntax in row[2].split("; ")
    }


def proposals() -> Iterator[list[PresentationContext]]:
    """Everything that DICOM knows, and what nobody knows, in associations of 128 presentation contexts."""
    known = [uids.UID(u) for u in uids.UID_dictionary]
    classes = [str(u) for u in known if u.type in ("SOP Class", "Meta SOP Class", "Service Class")]
    syntaxes = [str(u) for u in known if u.type == "Transfer Syntax"]
    ours = {str(cx.abstract_syntax) for cx in receiver.supported_contexts()} | {commitment.SOP_CLASS}
    singles = [build_context(one, syntax) for one in ours for syntax in syntaxes]
    others = [build_context(one, syntaxes) for one in classes if one not in ours]
    every = [*singles, *others, build_context("1.2.3.4.5", EXPLICIT)]
    for start in range(0, len(every), MOST_CONTEXTS):
        yield every[start : start + MOST_CONTEXTS]


@pytest.mark.parametrize("committing", [False, True])
def test_the_statement_says_exactly_what_the_running_receiver_accepts(tmp_path, doc, committing):
    accepted = set()
    ae = AE(ae_title="MODALITY")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    configured = PATIENT | {"storage_commitment": committing}
    with receiving(make_settings(tmp_path, dicom=configured)) as node:
        for contexts in proposals():
            assoc = ae.associate("127.0.0.1", node.port, contexts=contexts, ae_title="CXR_SR")
            if assoc.is_established:
                found = assoc.accepted_contexts
                accepted |= {(str(cx.abstract_syntax), str(cx.transfer_syntax[0])) for cx in found}
                assoc.release()
    rows = table(doc, "Presentation contexts accepted")
    assert accepted == pairs([row for row in rows if committing or not row[4]])
    assert {(CR, syntax) for syntax in codecs.decodable()} <= accepted


def test_what_is_said_of_further_negotiation_holds(tmp_path, doc):
    """User identity, a window of asynchronous operations, extended negotiation, a role that is not ours."""
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field = 2, b"somebody"
    identity.secondary_field, identity.positive_response_requested = b"secret", True
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 5
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = uids.UID(CR), b"\2\0\0\0"
    asked: list[Any] = [identity, window, extended, build_role(CR, scp_role=True)]
    ae = AE(ae_title="MODALITY")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    with receiving(make_settings(tmp_path, dicom=PATIENT)) as node:
        cx = build_context(CR, EXPLICIT)
        assoc = ae.associate("127.0.0.1", node.port, contexts=[cx], ae_title="CXR_SR", ext_neg=asked)
        assert assoc.is_established
        theirs = assoc.acceptor
        assert theirs.user_identity is None
        assert theirs.asynchronous_operations == (1, 1)
        assert theirs.sop_class_extended == {}
        assert theirs.implementation_class_uid == said(doc, "Implementation class UID")
        assert theirs.implementation_version_name == said(doc, "Implementation version name")
        assert f"{theirs.maximum_length} bytes" == said(doc, "Largest PDU that is received")
        assert store_object(assoc, make_object())[0] == 0x0000
        assoc.release()


@pytest.mark.parametrize(
    ("proposed", "expected"),
    [
        ((IMPLICIT, EXPLICIT), EXPLICIT),
        ((EXPLICIT, IMPLICIT), EXPLICIT),
        ((codecs.JPEG_BASELINE, codecs.JPEG_2000_LOSSLESS), codecs.JPEG_2000_LOSSLESS),
    ],
)
def test_of_several_proposed_syntaxes_ours_is_the_choice(tmp_path, proposed, expected):
    ae = AE(ae_title="MODALITY")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    with receiving(make_settings(tmp_path, dicom=PATIENT)) as node:
        cx = build_context(CR, list(proposed))
        assoc = ae.associate("127.0.0.1", node.port, contexts=[cx], ae_title="CXR_SR")
        (accepted,) = assoc.accepted_contexts
        assoc.release()
    assert accepted.transfer_syntax == [expected]


def said(doc, parameter: str) -> str:
    rows = table(doc, "Association parameters; times and numbers are the configurable defaults")
    return dict(rows)[parameter].strip("`")


@contextmanager
def everything() -> Iterator[tuple[int, list[tuple[str, str, str]]]]:
    """A peer that accepts whatever is proposed; its port, and what was: SOP class, syntax, our role."""
    proposed: list[tuple[str, str, str]] = []

    def requested(event: evt.Event) -> None:
        requestor = event.assoc.requestor
        roles = {str(uid): role for uid, role in requestor.role_selection.items()}
        for cx in requestor.requested_contexts:
            uid = str(cx.abstract_syntax)
            ours = "SCP" if uid in roles and roles[uid].scp_role else "SCU"
            proposed.extend((uid, str(syntax), ours) for syntax in cx.transfer_syntax)

    ae = AE(ae_title="PACS")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    for activity in activities.requested():
        for cx in activity.contexts:
            ae.add_supported_context(
                cx.sop_class, list(uids.AllTransferSyntaxes), scp_role=True, scu_role=True
            )
    done = Dataset()
    done.Status = 0x0000

    def no_match(_event: evt.Event) -> Iterator[tuple[int, None]]:
        yield 0x0000, None

    def nothing(_event: evt.Event) -> Iterator[Any]:
        yield 0

    def nowhere(_event: evt.Event) -> Iterator[Any]:
        yield "127.0.0.1", 1
        yield 0

    handlers: list[Any] = [
        (evt.EVT_REQUESTED, requested),
        (evt.EVT_C_ECHO, lambda _event: 0x0000),
        (evt.EVT_C_STORE, lambda _event: 0x0000),
        (evt.EVT_C_FIND, no_match),
        (evt.EVT_C_GET, nothing),
        (evt.EVT_C_MOVE, nowhere),
        (evt.EVT_N_ACTION, lambda _event: (0x0000, None)),
        (evt.EVT_N_EVENT_REPORT, lambda _event: (0x0000, None)),
    ]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.socket.getsockname()[1], proposed
    finally:
        server.shutdown()


def stated(doc, activity: str) -> set[tuple[str, str, str]]:
    rows = table(doc, f"Presentation contexts proposed: {activity.lower()}")
    return {(uid, syntax, row[3]) for row in rows for uid, syntax in pairs([row])}


class _Nobody:
    """A basket that wants nothing."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def given_up(self) -> bool:
        return False


def test_what_is_proposed_to_archives_stands_in_the_statement(tmp_path, doc):
    settings = make_settings(tmp_path, dicom=PATIENT)
    with everything() as (port, proposed):
        reach: dict[str, Any] = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port}
        assert echo.echo(Destination(**reach), settings.dicom).ok
        assert set(proposed) == stated(doc, "Verify a destination or an archive")
        proposed.clear()
        with pull_dimse.DimseSource(Archive(**reach), settings.dicom) as source:
            source.search(pull.parse({"patient": "1"}), 5)
        assert set(proposed) == stated(doc, "Search an archive")
        proposed.clear()
        name = presence_check.Name("1.2", "1.3", "1.4")
        assert not presence_check.has(Destination(**reach), settings.dicom, name)
        assert set(proposed) == stated(doc, "Ask whether an original is there")
        for how in ("get", "move"):
            proposed.clear()
            with pull_dimse.DimseSource(Archive(**reach, retrieve=how), settings.dicom) as source:
                with suppress(pull.Refused, pull.Broken):
                    source.retrieve("1.2.3", None, cast("Any", _Nobody(settings)), 1)
            assert set(proposed) == stated(doc, f"Retrieve by C-{how}")


@pytest.mark.parametrize("wanted", ["uncompressed", "jpeg-ls", "jpeg-2000", "htj2k"])
def test_what_is_proposed_for_a_delivery_stands_in_the_statement(tmp_path, doc, wanted):
    settings = make_settings(tmp_path, dicom=PATIENT)
    with everything() as (port, proposed):
        pacs = Destination(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=port, transfer_syntax=wanted,
            storage_commitment=wanted == "uncompressed",
        )  # fmt: skip
        office = Office(settings, make_database(settings), LocalStore(tmp_path / "objects"))
        try:
            office.post(make_object(DX), pacs)
            office.post(make_object(CR), pacs, what="original")
            assert office.work(lambda: all(d.stored_at for d in office.deliveries()), 60)
            commit = stated(doc, "Ask for storage commitment")
            if wanted == "uncompressed":
                assert office.work(lambda: commit <= set(proposed), 60)
        finally:
            office.stop.set()
            office.sender.drain()
            office.database.close()
    results = {one for one in proposed if one[0] == DX}
    originals = {one for one in proposed if one[0] == CR}
    assert results
    assert results <= stated(doc, "Deliver a result")
    assert originals
    assert originals <= stated(doc, "Forward an original")
    assert set(proposed) <= results | originals | commit


def test_what_is_proposed_to_answer_a_caller_stands_in_the_statement(tmp_path, doc):
    with everything() as (port, proposed):
        caller = Destination(name="caller", ae_title="PACS", host="127.0.0.1", port=port)
        settings = make_settings(tmp_path, dicom=PATIENT, destinations=(caller,))
        database = make_database(settings)
        with database.write() as session:
            commitment_requests.take(
                session, transaction_uid="2.25.1", calling="PACS", called="CXR_SR", address="127.0.0.1",
                instances=[(CR, "1.2")], patience=timedelta(hours=1),
            )  # fmt: skip
        Teller(settings, database, "PACS", threading.Event()).run()
        database.close()
    assert set(proposed) == stated(doc, "Answer a request for storage commitment")


def test_the_overview_and_the_details_name_the_same_services(doc):
    overview = {(row[2].strip("`"), row[3], row[4]) for row in table(doc, "Network services")}
    scp = {row[1].strip("`") for row in table(doc, "Presentation contexts accepted")}
    for uid, _, as_scp in overview:
        assert (as_scp == "Y") == (uid in scp), uid
    scu = {cx.sop_class for one in activities.requested() for cx in one.contexts if cx.role == "SCU"}
    assert {uid for uid, as_scu, _ in overview if as_scu == "Y"} == scu


def test_the_web_services_are_those_of_the_routes(doc):
    served = {row[0] for row in table(doc, "Studies service") if row[1] == "Y"}
    assert served == web.transactions()
    assert len(table(doc, "Resources")) == len(web.resources())


def test_every_status_that_is_answered_and_understood_stands_in_the_statement(doc):
    ours = {row[0] for row in table(doc, "C-STORE responses that we give")}
    assert ours == {f"0x{row.first:04X}" for row in statuses.TABLE if row.ours}
    assert len(table(doc, "C-STORE responses that we get")) == len(statuses.TABLE)


def test_every_answer_of_the_code_stands_in_one_of_the_tables(doc):
    """Each `Answer(statuses.NAME, ...)` of the receiver and of the storage commitment service."""
    store = {row[0] for row in table(doc, "C-STORE responses that we give")}
    service = {row[0] for row in table(doc, "N-ACTION and N-EVENT-REPORT responses that we give")}
    told = {
        file: set(re.findall(r"Answer\(\s*statuses\.([A-Z_]+)", (ROOT / "pacs_node" / file).read_text()))
        for file in ("commitment_scp.py", "commitment_scu.py", "scp.py", "receiver.py", "received.py")
    }
    assert all(told.values())
    for file, names in told.items():
        codes = {f"0x{getattr(statuses, name):04X}" for name in names}
        assert codes <= (service if file.startswith("commitment") else service | store), file
    used = {f"0x{getattr(statuses, name):04X}" for names in told.values() for name in names}
    assert service | store == used | {"0x0110"}  # what has no status of its own


def test_every_status_of_a_retrieval_that_the_code_tells_apart_stands_in_the_statement(doc):
    rows = " ".join(row[0] for row in table(doc, "C-FIND, C-GET and C-MOVE responses that we get"))
    known = set(re.findall("0x[0-9A-F]{4}", (ROOT / "pacs_node" / "pull_dimse.py").read_text()))
    assert "0xA801" in known
    assert {status for status in known if status not in rows} == set()


def test_the_attributes_of_results_are_those_of_the_recipe(doc):
    assert annexes.HOW_WRITTEN.keys() == set(recipe.WRITTEN)
    gone = {keyword for keywords in recipe.GONE.values() for keyword in keywords}
    assert len(table(doc, "Attributes that are left out")) == len(gone)
    assert provenance.OWN_IMAGE_TYPE in annexes.HOW_WRITTEN["ImageType"]


def test_every_code_and_every_audit_message_stands_in_the_statement(doc):
    codes = {(row[1], row[2], row[3]) for row in table(doc, "Codes that are written")}
    for _, (value, meaning), scheme in provenance.CODES:
        assert (value, scheme, meaning) in codes
    assert len(table(doc, "Audit messages")) == len(TRIGGERS)


@pytest.mark.parametrize("name", services.CHARACTER_SETS)
def test_every_character_set_that_is_claimed_can_be_read(name):
    assert name in python_encoding
    assert isinstance("A".encode(python_encoding[name]), bytes)


def test_the_statement_has_the_chapters_of_the_template(doc):
    heads = [
        f"{b['number']} {b['text']}" for b in doc["blocks"] if b["kind"] == "heading" and b["level"] == 1
    ]
    assert heads == [
        "1 Overview", "2 Table of Contents", "3 Introduction", "4 Implementation Model",
        "5 Service and Interoperability Description", "6 Configuration",
        "7 Network and Media Communication Details", "8 Security",
        "Annex A Information Object Definitions", "Annex B Structured Report Content Encoding",
        "Annex C Security Details", "Annex D Mapping of Attributes", "Annex E Code Set Usage",
    ]  # fmt: skip
    assert code(activities.FOR_PROCESSING) in json.dumps(doc)


def test_the_page_of_the_statement_is_what_the_command_prints():
    """Write it again with: .venv/bin/cxr-sr conformance > docs/conformance.md"""
    assert (ROOT / "docs" / "conformance.md").read_text() == statement().markdown()


def test_the_command_prints_it():
    printed = subprocess.run([sys.executable, "-m", "cxr_sr", "conformance"], capture_output=True, check=True)
    assert printed.stdout.decode() == statement().markdown()
    assert printed.stderr == b""
