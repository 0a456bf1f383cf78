"""From a file in the spool to a source and a job: what uploads and STOW-RS have in common.

Both doors of the house end in :func:`db.intake.intake`; this one adds only who brought the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from db import picks
from db.intake import Accepted, Arrival, IntakePaused, Origin, QueueFull, intake
from db.models import Batch
from db.objects import StoreError, StoreFull
from db.states import Priority, Purpose
from db.trouble import Trouble, trouble
from webui import archive, auth, content
from webui.content import Content, NotTaken
from webui.errors import NoRoom, intake_paused
from webui.security import client_address
from webui.services import services
from webui.uploads import new_spool_file

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Wishes:
    """What the sender asks to be done."""

    kind: str
    purpose: Purpose = Purpose.MANUAL
    priority: Priority = Priority.ROUTINE
    requested: dict[str, Any] = field(default_factory=dict)
    demographics: dict[str, Any] | None = None
    """For images that are not DICOM."""


@dataclass(frozen=True)
class Parcel:
    """One file that was sent, or one member of an archive; `file` is None when it was refused already."""

    name: str
    file: Any
    content: Content | None
    refusal: NotTaken | None = None


class ClosedNow(NotTaken):
    """Nothing more can come in at this time."""


@dataclass
class Outcome:
    """What became of the parcels, in their order."""

    accepted: list[tuple[Parcel, Accepted]] = field(default_factory=list)
    refused: list[tuple[Parcel, NotTaken]] = field(default_factory=list)
    batch: int | None = None
    """The batch that the jobs form."""


def unpack(files: Iterable[tuple[str, Any]], *, max_bytes: int) -> Iterator[Parcel]:
    """Tell what each file is and open archives (not those within archives)."""
    for name, file in files:
        name = display_name(name)
        try:
            found = content.examine(file)
            if found.media_type != content.ZIP:
                yield Parcel(name, file, found)
                continue
            for member in archive.members(file, new_spool_file, max_bytes=max_bytes):
                yield _member(f"{name}/{display_name(member.name)}", member)
        except NotTaken as refusal:
            yield Parcel(name, None, None, refusal)
        except NoRoom as error:
            yield Parcel(name, None, None, NotTaken(error.detail, "no-room"))


def _member(name: str, member: archive.Member) -> Parcel:
    if member.refusal is not None:
        return Parcel(name, None, None, member.refusal)
    try:
        found = content.examine(member.file)
        if found.media_type == content.ZIP:
            raise NotTaken("Archives within archives are not opened.")
    except NotTaken as refusal:
        discard(member.file)
        return Parcel(name, None, None, refusal)
    return Parcel(name, member.file, found)


def take(parcels: Iterable[Parcel], wishes: Wishes, *, together: bool, batch: int | None = None) -> Outcome:
    """Bring each parcel in; a refusal does not stop the others, a full queue or disk stops the rest.

    `together`: the jobs form a batch, a new one unless `batch` names it.
    """
    outcome = Outcome(batch=batch)
    stopped: NotTaken | None = None
    for parcel in parcels:
        refusal = parcel.refusal or stopped
        if refusal is None:
            try:
                outcome.batch = outcome.batch or (new_batch() if together else None)
                outcome.accepted.append((parcel, _bring(parcel, wishes, outcome.batch)))
                continue
            except ClosedNow as error:
                refusal = stopped = error
            except NotTaken as error:
                refusal = error
        outcome.refused.append((parcel, refusal))
        if parcel.file is not None:
            discard(parcel.file)
    return outcome


def _bring(parcel: Parcel, wishes: Wishes, batch: int | None) -> Accepted:
    """One parcel through the common door. Raises :class:`NotTaken`, :class:`ClosedNow` for all after it."""
    assert parcel.content is not None
    here, actor = services(), auth.actor()
    found = parcel.content
    demographics = None if found.media_type == content.DICOM else wishes.demographics
    is_named = found.media_type == content.DICOM or picks.PICKED in (demographics or {})
    if wishes.requested.get("destinations") and not is_named:
        raise NotTaken(str(picks.NotPicked()), "not-picked")
    parcel.file.close()
    arrival = Arrival(
        file=parcel.file.path,
        media_type=found.media_type,
        suffix=found.suffix,
        sop_class_uid=found.sop_class_uid,
        sop_instance_uid=found.sop_instance_uid,
        transfer_syntax_uid=found.transfer_syntax_uid,
        file_name=parcel.name[-256:],
        demographics=demographics,
        priority=wishes.priority,
        purpose=wishes.purpose,
        requested=wishes.requested,
        batch_id=batch,
    )
    origin = Origin(wishes.kind, address=client_address(), user_id=actor.user_id, actor=actor.user)
    try:
        accepted = intake(
            here.database, here.store, arrival, origin, max_waiting=here.settings.queue.max_waiting
        )
    except IntakePaused as error:
        raise ClosedNow(intake_paused().detail, "intake-paused") from error
    except QueueFull as error:
        raise ClosedNow("The queue is full; try again later.", "queue-full") from error
    except (StoreFull, NoRoom) as error:
        raise ClosedNow("There is no room left for new images.", "no-room") from error
    except StoreError as error:
        log.error("upload not stored", error=type(error).__name__)
        raise ClosedNow("The store does not answer; try again later.", "store") from error
    except SQLAlchemyError as error:
        if trouble(error) is Trouble.FULL:
            raise ClosedNow("There is no room left for new images.", "no-room") from error
        log.error("upload not recorded", error=type(error).__name__)
        raise ClosedNow("The database does not answer; try again later.", "database") from error
    log.info(
        "upload taken",
        job=accepted.job_id,
        source=accepted.source_id,
        resend=accepted.resend,
        kind=wishes.kind,
    )
    return accepted


def new_batch() -> int:
    """A batch of uploads, empty at first."""
    with services().database.write() as session:
        batch = Batch(created_by=auth.actor().user_id)
        session.add(batch)
        session.flush()
        return batch.id


def discard(file: Any) -> None:
    """Remove a file from the spool before the request ends."""
    file.close()
    file.path.unlink(missing_ok=True)


def display_name(name: str) -> str:
    """The last part of a file's name, printable, at most 200 characters; for people, never a path of ours."""
    last = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return "".join(letter for letter in last if letter.isprintable())[:200] or "unnamed"
