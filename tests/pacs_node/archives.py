"""An archive that stores and promises as a test wants: on the same association, on a new one, late, never."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association

from config import Destination
from pacs_node import commitment
from pacs_node.scu import hang_up
from tests.pacs_node.nodes import CR, EXPLICIT

_SERVICE = (commitment.SOP_CLASS, commitment.SOP_INSTANCE)
Verdicts = dict[tuple[str, str], int | None]


@dataclass
class Promiser:
    """A PACS with storage commitment. `asked` holds what each N-ACTION said."""

    port: int = 0
    stored: list[str] = field(default_factory=list)
    asked: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    told: list[int | None] = field(default_factory=list)
    """What we answered to its reports."""

    @property
    def destination(self) -> Destination:
        return Destination(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=self.port, storage_commitment=True
        )

    def verdicts(self, number: int = -1, reason: int | None = None) -> tuple[str, Verdicts]:
        """A transaction, and an answer for each of its instances."""
        transaction, instances = self.asked[number]
        return transaction, dict.fromkeys(instances, reason)

    def report(self, port: int, transaction: str, verdicts: Verdicts, *, role: bool = True) -> int | None:
        """Answer on an association of its own to a receiver; the status that it gives."""
        event_type, ds = commitment.event_information(transaction, verdicts)
        ae = AE(ae_title="PACS")
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
        ae.add_requested_context(commitment.SOP_CLASS)
        roles = [build_role(commitment.SOP_CLASS, scp_role=True)] if role else []
        assoc = ae.associate("127.0.0.1", port, ae_title="CXR_SR", ext_neg=roles)  # type: ignore[arg-type]
        assert assoc.is_established
        try:
            status, _ = assoc.send_n_event_report(
                ds, event_type, commitment.SOP_CLASS, commitment.SOP_INSTANCE
            )
            assoc.release()
        finally:
            hang_up(assoc)
        self.told.append(status.get("Status"))
        return self.told[-1]


@contextmanager
def promising(
    status: Callable[[int], int] = lambda n: 0,
    *,
    reply: Callable[[Promiser, evt.Event], None] | None = None,
    offers: bool = True,
    hasty: bool = False,
) -> Iterator[Promiser]:
    """Listen as such an archive. `status(n)` answers the n-th N-ACTION; `reply`, in a thread of its own, may
    report; a hasty one reports before it answers."""
    archive = Promiser()
    threads: list[threading.Thread] = []
    ae = AE(ae_title="PACS")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    ae.add_supported_context(CR, EXPLICIT)
    if offers:
        ae.add_supported_context(commitment.SOP_CLASS)

    def stored(event: evt.Event) -> int:
        request: Any = event.request
        archive.stored.append(str(request.AffectedSOPInstanceUID))
        return 0

    def asked(event: evt.Event) -> tuple[int, Dataset | None]:
        archive.asked.append(commitment.read_action(event.action_information))
        if hasty:
            on_the_same(archive, event)
        code = status(len(archive.asked))
        if reply is not None and code == 0:
            threads.append(threading.Thread(target=reply, args=(archive, event)))
            threads[-1].start()
        return code, None

    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, stored), (evt.EVT_N_ACTION, asked)]
    )
    assert server is not None
    archive.port = server.server_address[1]
    try:
        yield archive
    finally:
        for thread in threads:
            thread.join(60)
        server.shutdown()
        for assoc in server.active_associations:
            assoc.abort()


def on_the_same(archive: Promiser, event: evt.Event) -> None:
    """Promise everything on the association on which we were asked."""
    transaction, instances = commitment.read_action(event.action_information)
    event_type, ds = commitment.event_information(transaction, dict.fromkeys(instances))
    answer, _ = event.assoc.send_n_event_report(ds, event_type, *_SERVICE)
    archive.told.append(answer.get("Status"))


@dataclass
class Modality:
    """Who asks us for storage commitment, and where it hears the answers."""

    calling: str = "MODALITY"
    port: int = 0
    heard: list[tuple[str, dict[str, int | None]]] = field(default_factory=list)
    """Transactions, with the failure reason of each instance, None for a promise."""
    status: int = 0
    """What it answers to reports."""
    roles: list[tuple[bool, bool]] = field(default_factory=list)
    """SCU and SCP role that we proposed to it."""

    @property
    def destination(self) -> Destination:
        return Destination(
            name="modality", ae_title=self.calling, host="127.0.0.1", port=self.port, default=False
        )

    def hear(self, event: evt.Event) -> tuple[int, Dataset | None]:
        roles = event.assoc.requestor.role_selection.values()
        self.roles.extend((bool(role.scu_role), bool(role.scp_role)) for role in roles)
        transaction, answers = commitment.read_event(event.event_information)
        self.heard.append((transaction, {uid: a.reason if a else None for uid, a in answers.items()}))
        return self.status, None

    @contextmanager
    def asking(self, port: int) -> Iterator[Association]:
        """An association to us."""
        ae = AE(ae_title=self.calling)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
        ae.add_requested_context(commitment.SOP_CLASS)
        assoc = ae.associate(
            "127.0.0.1", port, ae_title="CXR_SR", evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.hear)]
        )
        assert assoc.is_established
        try:
            yield assoc
            assoc.release()
        finally:
            hang_up(assoc)


def ask(assoc: Association, transaction: str, *instances: tuple[str, str], action: int = 1) -> int | None:
    """Ask for a promise; the status of the answer."""
    ds = commitment.action_information(transaction, instances)
    status, _ = assoc.send_n_action(ds, action, *_SERVICE)
    code = status.get("Status")
    return None if code is None else int(code)


@contextmanager
def modality(calling: str = "MODALITY") -> Iterator[Modality]:
    """A modality that listens for answers."""
    one = Modality(calling)
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    ae.add_supported_context(commitment.SOP_CLASS, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_N_EVENT_REPORT, one.hear)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)  # type: ignore[arg-type]
    assert server is not None
    one.port = server.server_address[1]
    try:
        yield one
    finally:
        server.shutdown()
        for assoc in server.active_associations:
            assoc.abort()
