"""The named points of the code at which a process is killed: the one list of them.

A point is a function of the product, before or after its call, where that matters only as called by a certain
other one. Nothing in the product knows of them.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Point:
    """`target` and `caller` are `module:qualified.name`; `act` is what brings a process there."""

    role: str
    act: Literal["store", "upload", "stow", "purge", "sweep", "backup", "leases"]
    target: str
    when: Literal["before", "after"]
    caller: str | None = None


_STORE = "db.objects:LocalStore"

POINTS: dict[str, Point] = {
    # A modality sends an image.
    "written to the spool, not synced": Point(
        "receiver", "store", "pacs_node.spool:Incoming.finish", "after"
    ),
    "synced, not named": Point("receiver", "store", f"{_STORE}._make_folder", "before", f"{_STORE}._move"),
    "named, its folder not synced": Point(
        "receiver", "store", "db.objects:sync_folder", "before", f"{_STORE}._move"
    ),
    "stored, without a row": Point("receiver", "store", f"{_STORE}.put", "after", "db.intake:intake"),
    "its row not committed": Point("receiver", "store", "db.intake:_note", "after"),
    "its row committed, not answered": Point("receiver", "store", "pacs_node.receiver:put_away", "after"),
    "answered": Point("receiver", "store", "pacs_node.acceptor:Acceptor._send", "after"),
    # It is enhanced.
    "a claim not committed": Point("worker", "store", "db.events:record", "before", "db.queue:claim"),
    "claimed": Point("worker", "store", "pacs_node.worker:Worker._work_on", "before"),
    "examined": Point("worker", "store", "pacs_node.examine:Examiner.examine", "after"),
    "the plan not committed": Point("worker", "store", "pacs_node.planning:Planner.write", "after"),
    "enhanced": Point("worker", "store", "pacs_node.worker:enhance_image", "after"),
    "the result stored, its preview not": Point(
        "worker", "store", "pacs_node.shelf:Shelf.put", "after", "pacs_node.worker:Worker._commit"
    ),
    "the result not committed": Point("worker", "store", "pacs_node.worker:Worker._finish", "after"),
    "the result committed": Point("worker", "store", "pacs_node.worker:Worker._commit", "after"),
    # It is delivered, and the archive asked for its promise.
    "a delivery's claim not committed": Point(
        "sender", "store", "db.deliveries:held", "after", "pacs_node.courier:Courier._next"
    ),
    "not connected": Point(
        "sender",
        "store",
        "pacs_node.scu:association",
        "before",
        "pacs_node.dimse_carrier:DimseCarrier._context",
    ),
    "connected, nothing sent": Point("sender", "store", "pacs_node.scu:store", "before"),
    "sent, not answered": Point("sender", "store", "pacs_node.scu:_answer", "before"),
    "the answer not written down": Point("sender", "store", "pacs_node.courier:Courier._record", "before"),
    "the arrival not committed": Point("sender", "store", "pacs_node.courier:Courier._arrived", "after"),
    "the arrival committed": Point("sender", "store", "pacs_node.courier:Courier._record", "after"),
    "a promise about to be asked for": Point(
        "sender", "store", "pacs_node.commitment_scu:Asker._ask_all", "before"
    ),
    "a promise asked for, not written down": Point(
        "sender", "store", "pacs_node.commitment_scu:Conversation.ask", "after"
    ),
    "a promise heard, not written down": Point(
        "sender", "store", "pacs_node.commitment_scu:take_report", "before"
    ),
    "a promise written down, not acknowledged": Point(
        "sender", "store", "pacs_node.commitment_scu:take_report", "after"
    ),
    # What happens by the clock.
    "leases ended, not committed": Point("scheduler", "leases", "db.queue:expire_leases", "after"),
    "let go, its object still there": Point(
        "scheduler", "purge", f"{_STORE}.delete", "before", "db.retention:_objects_gone"
    ),
    "one of a source's objects deleted": Point(
        "scheduler", "purge", f"{_STORE}.delete", "after", "db.retention:_objects_gone"
    ),
    "an orphan swept, others not": Point(
        "scheduler", "sweep", f"{_STORE}.delete", "after", "db.retention:sweep_orphans"
    ),
    "a backup half made": Point("scheduler", "backup", "db.backup:_sound", "before", "db.backup:backup"),
    "a backup named, its folder not synced": Point(
        "scheduler", "backup", "db.backup:sync_folder", "before", "db.backup:_draft"
    ),
    # The other doors.
    "an upload spooled": Point("web", "upload", "webui.door:_bring", "before"),
    "an upload stored, without a row": Point("web", "upload", f"{_STORE}.put", "after", "db.intake:intake"),
    "an upload committed, not answered": Point("web", "upload", "webui.door:_bring", "after"),
    "by STOW-RS stored, without a row": Point("web", "stow", f"{_STORE}.put", "after", "db.intake:intake"),
    "by STOW-RS committed, not answered": Point("web", "stow", "webui.door:_bring", "after"),
}


def find(name: str) -> tuple[Any, str, Callable[..., Any]]:
    """Where `module:qualified.name` stands: its owner, the last name and the function. Raises LookupError."""
    module, _, qualified = name.partition(":")
    *path, last = qualified.split(".")
    owner: Any = importlib.import_module(module)
    try:
        for step in path:
            owner = getattr(owner, step)
        function = vars(owner)[last]
    except (AttributeError, KeyError):
        raise LookupError(name) from None
    if not inspect.isfunction(function):
        raise LookupError(f"{name} is no function")
    return owner, last, function
