"""From the UIDs of an address to instances and their stored objects, or to the status that says why not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from flask import request

from db import audit
from webui import auth
from webui.dicomweb import header, rows
from webui.dicomweb.header import Header
from webui.dicomweb.rows import Instance
from webui.errors import ApiProblem, Conflict, NotFound
from webui.security import client_address
from webui.services import services

NOT_YET_SECONDS = 5
_UID = re.compile(r"[0-9.]{1,64}")


def instances(study: str, series: str = "", instance: str = "") -> list[Instance]:
    """The instances of a study, a series, or one instance.

    Raises 404 for what is not here, 410 for what was here, 409 for what has come and is not examined.
    """
    wanted = named(study, series, instance)
    with services().database.read() as session:
        found = rows.instances(session, wanted)
        if found:
            return found
        waiting = rows.waiting(session, instance) if instance else None
        gone = rows.gone(session, instance) if instance else False
    if waiting is not None:
        raise unexamined(waiting=waiting)
    if gone:
        raise ApiProblem("The instance is not kept here any more.", status=410, kind="object-gone")
    raise NotFound("There is no such instance.")


def named(study: str, series: str = "", instance: str = "") -> rows.Conditions:
    """The conditions of an address; 404 for what cannot be one UID, such as a list or an asterisk."""
    if not all(_UID.fullmatch(uid) for uid in (study, series, instance) if uid):
        raise NotFound("There is no such thing: a UID is made of digits and points.")
    return rows.named(study, series, instance)


def one(study: str, series: str, instance: str) -> Instance:
    """One instance; raises as :func:`instances` does."""
    return instances(study, series, instance)[0]


def unexamined(*, waiting: bool) -> ApiProblem:
    """The answer about an object that came and of which nothing more is known."""
    if waiting:
        again = {"Retry-After": str(NOT_YET_SECONDS)}
        return Conflict("The object is not examined yet.", kind="not-yet", headers=again)
    return Conflict("The object could not be examined; nothing of it is handed out.", kind="unreadable")


def accepted(instance: Instance) -> Instance:
    """The instance, if its pixels are sound; raises 409 where they were refused."""
    if not instance.accepted:
        raise Conflict(
            "The pixels of this object could not be decoded and are not handed out by themselves; "
            "the object as it came is.",
            kind="pixels-refused",
        )
    return instance


@contextmanager
def opened(instance: Instance) -> Iterator[Header]:
    """The header of an instance's object; raises 409 where it cannot be read."""
    pixels = (instance.rows or 0) * (instance.columns or 0) * 2
    try:
        with header.opened(
            services().store, instance.object_key, most=pixels + (8 << 20), sha256=instance.sha256
        ) as found:
            yield found
    except header.Unreadable:
        raise Conflict("The header of this object cannot be read.", kind="unreadable") from None


def note(action: str, study: str, instance: str = "", *, count: int = 1) -> None:
    """Write down that somebody took images or their attributes out.

    A viewer asks again and again: but for whole objects the same is one entry for a while.
    """
    here, who = services(), auth.actor().user
    if action != "retrieve" and not here.recent.first((who, action, study, instance)):
        return
    with here.database.write() as session:
        audit.record(
            session,
            who,
            f"dicomweb.{action}",
            object_type="instance" if instance else "study",
            object_id=instance or study,
            address=client_address(),
            detail={"instances": count},
        )


def url(study: str, series: str = "", instance: str = "") -> str:
    """The address of a study, a series or an instance."""
    found = f"{request.url_root}dicomweb/studies/{study}"
    if series:
        found += f"/series/{series}"
    return f"{found}/instances/{instance}" if instance else found
