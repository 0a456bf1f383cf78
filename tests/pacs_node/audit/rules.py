"""What the standard asks of an audit message: the schema of PS3.15 A.5.1 and the tables of A.5.3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from lxml import etree

SCHEMA = Path(__file__).with_name("schema.rng")


@dataclass(frozen=True)
class Demands:
    """One table of A.5.3: actions, types, who must take part (role code: fewest and most), what is shown."""

    actions: str
    types: tuple[str, ...] = ()
    roles: dict[str | None, tuple[int, int]] = field(default_factory=dict)
    studies: tuple[int, int] = (0, 0)
    patients: tuple[int, int] = (0, 0)
    one_requestor: bool = False


_MANY = 99
_TRANSFER: dict[str | None, tuple[int, int]] = {"110152": (1, 1), "110153": (1, 1)}
TABLES: dict[str, Demands] = {
    "110100": Demands("E", ("110120", "110121"), {"110150": (1, 1)}),
    "110101": Demands("R", (), {None: (1, 2)}),
    "110102": Demands("E", (), _TRANSFER, (1, _MANY), (1, 1)),
    "110103": Demands("CRUD", (), {None: (1, 2)}, (1, _MANY), (1, 1)),
    "110104": Demands("CRU", (), _TRANSFER, (1, _MANY), (1, 1)),
    "110106": Demands("R", (), {"110153": (1, _MANY), "110154": (1, 1)}, (0, _MANY), (1, _MANY), True),
    "110107": Demands("C", (), {"110152": (1, _MANY), "110155": (1, 1)}, (0, _MANY), (1, _MANY), True),
    "110112": Demands("E", (), _TRANSFER | {None: (0, 1)}),
    "110113": Demands("E", ("110126", "110133", "110137"), {None: (1, 3)}),
    "110114": Demands("E", ("110122", "110123"), {None: (1, 2)}),
}


def faults(message: bytes) -> list[str]:
    """What is wrong with a message; nothing if it is as the standard wants it."""
    try:
        root = etree.fromstring(message)
    except etree.XMLSyntaxError as error:
        return [f"not XML: {error}"]
    schema = _schema()
    if not schema.validate(root):
        return [str(error.message) for error in schema.error_log]
    return list(_faults_of(root))


def _faults_of(root: Any) -> Iterator[str]:
    event = root.find("EventIdentification")
    code = event.find("EventID").get("csd-code")
    demands = TABLES.get(code)
    if demands is None:
        yield f"no table for event {code}"
        return
    if event.get("EventActionCode") not in demands.actions:
        yield f"action {event.get('EventActionCode')} of event {code}"
    if not event.get("EventDateTime").endswith("Z"):
        yield "a time without zone"
    types = [one.get("csd-code") for one in event.findall("EventTypeCode")]
    if demands.types and (len(types) != 1 or types[0] not in demands.types):
        yield f"types {types} of event {code}"
    everyone = root.findall("ActiveParticipant")
    requestors = [one for one in everyone if one.get("UserIsRequestor") == "true"]
    if len(requestors) > 1 or (demands.one_requestor and len(requestors) != 1):
        yield f"{len(requestors)} requestors of event {code}"
    roles = Counter(next((r.get("csd-code") for r in one.findall("RoleIDCode")), None) for one in everyone)
    for role, (fewest, most) in demands.roles.items():
        if not fewest <= roles.pop(role, 0) <= most:
            yield f"participants of role {role} in event {code}"
    if roles:
        yield f"participants of roles {sorted(map(str, roles))} in event {code}"
    for one in everyone:
        if not one.get("UserID"):
            yield "a participant without ID"
        media = [role.get("csd-code") in {"110154", "110155"} for role in one.findall("RoleIDCode")]
        if any(media) != (one.find("MediaIdentifier") is not None):
            yield "a medium without its identifier"
    if code == "110114" and not (
        everyone[0].get("NetworkAccessPointID") and everyone[0].get("NetworkAccessPointTypeCode")
    ):
        yield "a login from nowhere"
    yield from _objects(root, code, demands)


def _objects(root: Any, code: str, demands: Demands) -> Iterator[str]:
    objects = root.findall("ParticipantObjectIdentification")
    kinds = Counter(
        (
            one.get("ParticipantObjectTypeCode"),
            one.get("ParticipantObjectTypeCodeRole"),
            one.find("ParticipantObjectIDTypeCode").get("csd-code"),
        )
        for one in objects
    )
    for kind, (fewest, most) in (
        (("2", "3", "110180"), demands.studies),
        (("1", "1", "2"), demands.patients),
    ):
        if not fewest <= kinds.pop(kind, 0) <= most:
            yield f"objects {kind} in event {code}"
    for one in objects:
        if not one.get("ParticipantObjectID"):
            yield "an object without ID"
    if code == "110112":
        queries = [one.find("ParticipantObjectQuery") for one in objects]
        if len(queries) != 1 or queries[0] is None:
            yield "a query that does not say what was asked"
    elif code == "110101":
        names = [one.findtext("ParticipantObjectName") for one in objects]
        if list(kinds) != [("2", "13", "12")] or names != ["Security Audit Log"]:
            yield f"objects {sorted(kinds)} of names {names} in event {code}"
    elif code == "110113":
        for one in objects:
            if "Alert Description" not in [d.get("type") for d in one.findall("ParticipantObjectDetail")]:
                yield "an alert without description"
    elif kinds:
        yield f"objects {sorted(kinds)} in event {code}"


@cache
def _schema() -> Any:
    return etree.RelaxNG(etree.parse(SCHEMA))
