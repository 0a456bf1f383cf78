"""`cxr-sr jobs`: the job table from a shell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_sr.failure import Failure
from cxr_sr.options import actor, config_option, json_option, load, open_database, print_json, print_table

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.models import Job

STATES = ("queued", "running", "held", "delivering", "done", "failed", "skipped", "cancelled", "retracted")


@click.group(epilog="Example: cxr-sr jobs list --state failed")
def jobs() -> None:
    """See and steer the job table."""


@jobs.command("list", epilog="Example: cxr-sr jobs list --state failed --state skipped --json")
@click.option(
    "--state", "states", multiple=True, type=click.Choice(STATES), help="Only this state (may be repeated)."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="At most so many, newest first.",
)
@json_option
@config_option
def jobs_list(states: tuple[str, ...], limit: int, as_json: bool, config: Path | None) -> None:
    """List jobs, newest first; no patient data is shown."""
    from sqlalchemy import select
    from sqlalchemy.orm import joinedload

    from db.models import Job
    from db.states import JobState

    query = select(Job).options(joinedload(Job.source)).order_by(Job.id.desc()).limit(limit)
    if states:
        query = query.where(Job.state.in_([JobState(state) for state in states]))
    with open_database(load(config)) as database, database.read() as session:
        found = session.scalars(query).all()
        rows = [_summary(job) for job in found]
    if as_json:
        print_json({"jobs": rows})
        return
    print_table(
        ("ID", "STATE", "ORIGIN", "SCALE", "CREATED", "REASON"),
        [(r["id"], r["state"], r["origin"], r["scale"], str(r["created"])[:19], r["reason"]) for r in rows],
    )


@jobs.command("show", epilog="Example: cxr-sr jobs show 42 --json")
@click.argument("number", metavar="ID", type=int)
@json_option
@config_option
def jobs_show(number: int, as_json: bool, config: Path | None) -> None:
    """Show one job with its timeline, result and deliveries."""
    with open_database(load(config)) as database, database.read() as session:
        record = _whole(_job(session, number))
    if as_json:
        print_json(record)
        return
    for key, value in record.items():
        if not isinstance(value, list | dict):
            click.echo(f"{key:10} {'' if value is None else value}")
    if record["result"]:
        click.echo(
            "result     "
            + ", ".join(f"{k} {v}" for k, v in record["result"].items() if not isinstance(v, dict))
        )
    for d in record["deliveries"]:
        _echo("delivery  ", d["what"], "to", d["destination_name"], d["state"], d["comment"])
    for e in record["events"]:
        _echo(str(e["at"])[:19], e["kind"], e["after"], e["message"])


@jobs.command("log", epilog="Example: cxr-sr jobs log 42 --json")
@click.argument("number", metavar="ID", type=int)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=1000,
    show_default=True,
    help="At most so many, the newest.",
)
@json_option
@config_option
def jobs_log(number: int, limit: int, as_json: bool, config: Path | None) -> None:
    """Show what receiver, worker, sender and web logged of a job; lines come some seconds late."""
    from db import joblog

    with open_database(load(config)) as database, database.read() as session:
        _job(session, number)
        lines, _ = joblog.lines(session, number, limit=limit)
        rows = [_some(line, ("at", "role", "level", "event", "fields")) for line in lines]
    if as_json:
        print_json({"lines": rows})
        return
    for row in rows:
        fields = " ".join(f"{key}={value}" for key, value in row["fields"].items() if key != "logger")
        click.echo(
            f"{row['at'].isoformat(timespec='milliseconds')} {row['role']:9} {row['level']:8} "
            f"{row['event']} {fields}".rstrip()
        )


def _echo(*words: object) -> None:
    click.echo(" ".join(str(word) for word in words if word is not None))


def _change(name: str, done: str, summary: str, change: Callable[[Session, Job, str], None]) -> None:
    """Add `cxr-sr jobs NAME ID...`, which changes each job in a transaction of its own."""

    @jobs.command(name, help=summary, epilog=f"Example: cxr-sr jobs {name} 42 43")
    @click.argument("numbers", metavar="ID...", type=int, nargs=-1, required=True)
    @json_option
    @config_option
    def command(numbers: tuple[int, ...], as_json: bool, config: Path | None) -> None:
        _apply(name, done, numbers, as_json, config, change)


def _apply(
    name: str,
    done: str,
    numbers: tuple[int, ...],
    as_json: bool,
    config: Path | None,
    change: Callable[[Session, Job, str], None],
) -> None:
    from db import audit
    from db.states import IllegalTransition

    rows: list[dict[str, Any]] = []
    refused = []
    who = actor()
    with open_database(load(config)) as database:
        for number in numbers:
            try:
                with database.write() as session:
                    job = _job(session, number, lock=True)
                    change(session, job, who)
                    audit.record(session, who, f"job.{name}", object_type="job", object_id=str(number))
                    session.flush()
                    rows.append(_summary(job))
            except (IllegalTransition, Failure) as error:
                refused.append(f"job {number}: {getattr(error, 'message', error)}")
    if as_json:
        print_json({"jobs": rows, "refused": refused})
    for row in rows:
        click.echo(f"job {row['id']}: {done}, it is {row['state']} now", err=True)
    if refused:
        raise Failure("; ".join(refused))


def _retry(session: Session, job: Job, who: str) -> None:
    from db import queue

    queue.retry(session, job, actor=who)


def _cancel(session: Session, job: Job, who: str) -> None:
    from db import queue

    queue.cancel(session, job, actor=who)


def _release(session: Session, job: Job, who: str) -> None:
    from db import queue

    queue.release(session, job, actor=who)


_change(
    "retry",
    "tried again",
    "Try failed, skipped or cancelled jobs again (a stored result is only sent again), or the lost notes of "
    "retracted ones.",
    _retry,
)
_change("cancel", "cancelled", "Cancel jobs: at once where they wait, soon where they run.", _cancel)
_change("release", "released", "Let held results go to their destinations.", _release)


@jobs.command("retract", epilog="Example: cxr-sr jobs retract 42 --reason 'wrong patient'")
@click.argument("numbers", metavar="ID...", type=int, nargs=-1, required=True)
@click.option("--reason", required=True, help="Why; it is kept with the job. No patient data, please.")
@click.option(
    "--why",
    type=click.Choice(["quality", "safety", "worklist"]),
    default="quality",
    show_default=True,
    help="What archives are told: not good enough, not to be seen again, or of the wrong patient or order.",
)
@json_option
@config_option
def jobs_retract(numbers: tuple[int, ...], reason: str, why: str, as_json: bool, config: Path | None) -> None:
    """Take results back: open deliveries are cancelled, the results hidden.

    Each archive that has a result is sent a rejection note (IHE IOCM), which asks it to hide the result too.
    """

    def change(session: Session, job: Job, who: str) -> None:
        from db import queue

        queue.retract(session, job, reason=reason, actor=who, why=why)

    _apply("retract", "retracted", numbers, as_json, config, change)


def _what(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """`intake`, `processing` or `destination:NAME`."""
    if value in ("intake", "processing") or (value.startswith("destination:") and value[12:].strip()):
        return value
    raise click.BadParameter("expected intake, processing or destination:NAME")


@jobs.command("pause", epilog="Example: cxr-sr jobs pause destination:pacs --reason 'new firmware'")
@click.argument("what", callback=_what)
@click.option("--reason", default="", help="Why, for whoever wonders; no patient data, please.")
@config_option
def jobs_pause(what: str, reason: str, config: Path | None) -> None:
    """Let intake, processing, or the deliveries to a destination (destination:NAME) stand still.

    What runs may end, what has been received is kept; paused intake tells senders to come back later.
    """
    from db import pauses

    settings = load(config)
    name = pauses.destination_in(what)
    if name is not None and settings.destination(name) is None:
        raise Failure(f"no destination {name} is configured")
    with open_database(settings) as database, database.write() as session:
        try:
            pauses.pause(session, what, actor=actor(), reason=reason[:256])
        except pauses.AlreadyPaused as error:
            raise Failure(str(error)) from error
        _note_pause(session, "pause", what, {"reason": reason[:256]} if reason else None)
    click.echo(f"{what}: paused", err=True)


@jobs.command("resume", epilog="Example: cxr-sr jobs resume processing")
@click.argument("what", callback=_what)
@config_option
def jobs_resume(what: str, config: Path | None) -> None:
    """Let intake, processing, or the deliveries to a destination go on."""
    from db import pauses

    with open_database(load(config)) as database, database.write() as session:
        try:
            pauses.resume(session, what)
        except pauses.NotPaused as error:
            raise Failure(str(error)) from error
        _note_pause(session, "resume", what)
    click.echo(f"{what}: goes on", err=True)


def _note_pause(session: Session, action: str, what: str, detail: dict[str, str] | None = None) -> None:
    from db import audit

    audit.record(session, actor(), f"queue.{action}", object_type="pause", object_id=what, detail=detail)


def _job(session: Session, number: int, *, lock: bool = False) -> Job:
    from db import queue

    job = queue.get(session, number, lock=lock)
    if job is None:
        raise Failure(f"there is no job {number}; `cxr-sr jobs list` shows them")
    return job


def _summary(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state.value,
        "reason": job.reason,
        "reason_code": job.reason_code,
        "origin": job.source.origin_kind,
        "sop_instance_uid": job.source.sop_instance_uid,
        "scale": job.scale,
        "attempts": job.attempts,
        "created": job.created_at,
        "finished": job.finished_at,
    }


def _whole(job: Job) -> dict[str, Any]:
    from db.states import Priority

    source = ("id", "sha256", "size_bytes", "sop_class_uid", "transfer_syntax_uid", "rows", "columns")
    result = ("sop_instance_uid", "series_instance_uid", "rows", "columns", "size_bytes", "figures")
    delivery = ("destination_name", "what", "state", "attempts", "status_code", "comment")
    event = ("at", "kind", "before", "after", "message", "actor")
    return {
        **_summary(job),
        "priority": Priority(job.priority).name.lower(),
        "purpose": job.purpose,
        "rule": job.rule,
        "source": _some(job.source, source),
        "result": _some(job.result, result) if job.result is not None else None,
        "deliveries": [_some(d, delivery) for d in job.deliveries],
        "events": [_some(e, event) for e in job.events],
    }


def _some(row: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}
