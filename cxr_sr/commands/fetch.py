"""`cxr-sr fetch`: studies of an archive, enhanced as a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_sr.failure import Failure
from cxr_sr.options import actor, config_option, json_option, load, open_database, print_json, print_table

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from config import Settings
    from db.models import Batch
    from pacs_node.pull import Found, Query, StudyFound

EXAMPLE = "Example: cxr-sr fetch --archive pacs --query date=20240101-20240131 --query modality=DX --dry-run"
LIMIT = 500


@click.group(invoke_without_command=True, epilog=EXAMPLE)
@click.option("--archive", metavar="NAME", help="Which of the configured archives.")
@click.option(
    "--query",
    "terms",
    multiple=True,
    metavar="KEY=VALUE",
    help="What to look for; may be repeated, all must match. Keys: patient (ID), name, accession, date "
    "(YYYYMMDD, YYYYMMDD-YYYYMMDD), study (UID), modality (CR,DX if left out). * and ? are wildcards.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=LIMIT,
    show_default=True,
    help="At most so many studies.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be fetched.")
@click.option("--scale", type=click.Choice(["2", "4"]), help="Scale; left out: as the rules say.")
@click.option("--model", metavar="NAME", help="Model; left out: as the rules say.")
@click.option(
    "--destination",
    "destinations",
    multiple=True,
    metavar="NAME",
    help="Where results go (may be repeated); left out: where the rules say.",
)
@click.option("--name", default="", help="What to call the batch. No patient data, please.")
@json_option
@config_option
@click.pass_context
def fetch(ctx: click.Context, /, archive: str | None, terms: tuple[str, ...], **options: Any) -> None:
    """Fetch studies of an archive and enhance them as a batch.

    The running node's sender fetches them, within fetch.hours, behind everything clinical.
    """
    if ctx.invoked_subcommand is not None:
        return
    if not archive or not terms:
        raise click.UsageError("name an archive (--archive) and what to look for (--query)", ctx)
    _begin(archive, _terms(terms), options)


def _terms(terms: Sequence[str]) -> dict[str, str]:
    pairs = [term.partition("=") for term in terms]
    if not all(sep and value for _, sep, value in pairs):
        raise click.BadParameter("expected KEY=VALUE", param_hint="--query")
    return {key.strip().lower(): value for key, _, value in pairs}


def _begin(name: str, terms: dict[str, str], options: dict[str, Any]) -> None:
    """Search, show what was found, and make the batch."""
    from pacs_node import pull

    settings = load(options["config"])
    try:
        query = pull.parse(terms)
    except pull.QueryError as error:
        raise click.BadParameter(str(error), param_hint="--query") from error
    requested = _wishes(settings, options)
    found = _search(settings, name, query, options["limit"])
    number = None
    if found.studies and not options["dry_run"]:
        number = _create(settings, name, query, found.studies, requested, options["name"])
    if options["as_json"]:
        studies = [{"study": study.uid, **study.shown} for study in found.studies]
        print_json({"batch": number, "studies": studies, "more": found.more})
    elif options["dry_run"] or not found.studies:
        _show_found(found.studies)
    if found.more:
        click.echo(f"there are more; --limit {options['limit']} left them out", err=True)
    if not found.studies:
        click.echo("nothing matches", err=True)
    elif number is not None and not options["as_json"]:
        click.echo(
            f"batch {number}: {len(found.studies)} studies; see `cxr-sr fetch show {number}`", err=True
        )


def _wishes(settings: Settings, options: dict[str, Any]) -> dict[str, Any]:
    wishes: dict[str, Any] = {}
    if options["scale"]:
        wishes["scale"] = int(options["scale"])
    if options["model"]:
        wishes["model"] = options["model"]
    if options["destinations"]:
        unknown = [name for name in options["destinations"] if settings.destination(name) is None]
        if unknown:
            raise Failure(f"there is no destination {', '.join(unknown)}; see [[destinations]]")
        wishes["destinations"] = list(dict.fromkeys(options["destinations"]))
    return wishes


def _search(settings: Settings, name: str, query: Query, limit: int) -> Found:
    from db import audit
    from pacs_node.carrier import PeerError
    from pacs_node.searches import search

    archive = settings.archive(name)
    if archive is None:
        known = ", ".join(one.name for one in settings.archives) or "none"
        raise Failure(f"there is no archive {name}; configured: {known} (see [[archives]])")
    with open_database(settings) as database, database.write() as session:
        asked = {"query": dict(query.matches)} if settings.audit.messages != "none" else {}
        audit.record(session, actor(), "archive.search", object_type="archive", object_id=name, detail=asked)
    try:
        return search(archive, settings, query, limit)
    except PeerError as error:
        raise Failure(f"archive {name}: {error}") from error


def _create(
    settings: Settings,
    archive: str,
    query: Query,
    studies: list[StudyFound],
    requested: dict[str, Any],
    name: str,
) -> int:
    from db import audit, batches

    chosen = [batches.Chosen(study.uid, study.shown) for study in studies]
    asked = {"modalities": list(query.modalities), "matches": dict(query.matches), "requested": requested}
    with open_database(settings) as database, database.write() as session:
        batch = batches.create(session, archive, chosen, query=asked, name=name)
        audit.record(
            session,
            actor(),
            "batch.create",
            object_type="batch",
            object_id=batch.id,
            detail={"archive": archive, "studies": len(chosen)},
        )
        return batch.id


def _show_found(studies: list[StudyFound]) -> None:
    print_table(
        ("DATE", "MODALITY", "IMAGES", "ACCESSION", "PATIENT", "STUDY"),
        [
            (
                study.shown.get("StudyDate"),
                " ".join(study.shown.get("ModalitiesInStudy") or []),
                study.shown.get("NumberOfStudyRelatedInstances"),
                study.shown.get("AccessionNumber"),
                f"{study.shown.get('PatientID', '')} {study.shown.get('PatientName', '')}".strip(),
                study.uid,
            )
            for study in studies
        ],
    )


@fetch.command("list", epilog="Example: cxr-sr fetch list --json")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Newest first.")
@json_option
@config_option
def fetch_list(limit: int, as_json: bool, config: Path | None) -> None:
    """List batches, newest first; no patient data is shown."""
    from db import batches

    with open_database(load(config)) as database, database.read() as session:
        rows = [_summary(session, batch) for batch in batches.listing(session, limit)]
    if as_json:
        print_json({"batches": rows})
        return
    print_table(
        ("ID", "STATE", "ARCHIVE", "STUDIES", "FAILED", "IMAGES", "CREATED", "NAME"),
        [
            (
                row["id"],
                row["state"],
                row["archive"],
                f"{row['ended']}/{row['total']}",
                row["studies"].get("failed", 0),
                row["received"],
                str(row["created"])[:19],
                row["name"],
            )
            for row in rows
        ],
    )


@fetch.command("show", epilog="Example: cxr-sr fetch show 3 --json")
@click.argument("number", metavar="ID", type=int)
@json_option
@config_option
def fetch_show(number: int, as_json: bool, config: Path | None) -> None:
    """Show one batch: how far it is, and each of its studies; no patient data but UIDs is shown."""
    from db import batches

    with open_database(load(config)) as database, database.read() as session:
        batch = _batch(session, number)
        summary = _summary(session, batch)
        jobs = batches.jobs_by_study(session, number)
        studies: list[dict[str, Any]] = [
            {
                "study": item.study_instance_uid,
                "state": item.state,
                "received": item.received,
                "attempts": item.attempts,
                "reason": item.reason,
                "jobs": jobs.get(item.study_instance_uid, {}),
            }
            for item in batches.items(session, number)
        ]
    if as_json:
        print_json({**summary, "items": studies})
        return
    for key in ("id", "state", "archive", "created", "finished", "name"):
        click.echo(f"{key:10} {'' if summary[key] is None else summary[key]}")
    click.echo(
        f"{'studies':10} {summary['ended']} of {summary['total']} ended: {_counts(summary['studies'])}"
    )
    click.echo(f"{'jobs':10} {_counts(summary['jobs']) or 'none yet'}")
    print_table(
        ("STATE", "IMAGES", "JOBS", "STUDY", "REASON"),
        [(s["state"], s["received"], _counts(s["jobs"]), s["study"], s["reason"]) for s in studies],
    )


def _change(name: str, summary: str, change: Callable[[Session, Batch, str], None]) -> None:
    """Add `cxr-sr fetch NAME ID...`, which changes each batch in a transaction of its own."""

    @fetch.command(name, help=summary, epilog=f"Example: cxr-sr fetch {name} 3")
    @click.argument("numbers", metavar="ID...", type=int, nargs=-1, required=True)
    @json_option
    @config_option
    def command(numbers: tuple[int, ...], as_json: bool, config: Path | None) -> None:
        from db import audit
        from db.states import IllegalTransition

        rows, refused, who = [], [], actor()
        with open_database(load(config)) as database:
            for number in numbers:
                try:
                    with database.write() as session:
                        batch = _batch(session, number)
                        change(session, batch, who)
                        audit.record(session, who, f"batch.{name}", object_type="batch", object_id=number)
                        session.flush()
                        session.refresh(batch)
                        rows.append(_summary(session, batch))
                except (IllegalTransition, Failure) as error:
                    refused.append(f"batch {number}: {getattr(error, 'message', error)}")
        if as_json:
            print_json({"batches": rows, "refused": refused})
        for row in rows:
            click.echo(f"batch {row['id']} is {row['state']} now", err=True)
        if refused:
            raise Failure("; ".join(refused))


def _pause(session: Session, batch: Batch, _who: str) -> None:
    from db import batches

    batches.pause(session, batch)


def _resume(session: Session, batch: Batch, _who: str) -> None:
    from db import batches

    batches.resume(session, batch)


def _cancel(session: Session, batch: Batch, who: str) -> None:
    from db import batches

    batches.cancel(session, batch, actor=who)


def _retry(session: Session, batch: Batch, _who: str) -> None:
    from db import batches

    batches.retry(session, batch)


_change("pause", "Fetch no further study of these batches for now; what is here is still enhanced.", _pause)
_change("resume", "Go on with paused batches.", _resume)
_change("cancel", "Fetch nothing more of these batches, and cancel their jobs that wait.", _cancel)
_change("retry", "Fetch the failed studies of these batches again.", _retry)


def _batch(session: Session, number: int) -> Batch:
    from db import batches

    batch = batches.get(session, number)
    if batch is None:
        raise Failure(f"there is no batch {number} of fetched studies; see `cxr-sr fetch list`")
    return batch


def _summary(session: Session, batch: Batch) -> dict[str, Any]:
    from db import batches

    progress = batches.progress(session, batch.id)
    return {
        "id": batch.id,
        "state": batch.state,
        "archive": batch.archive,
        "name": batch.name,
        "created": batch.created_at,
        "finished": batch.finished_at,
        "total": progress.total,
        "ended": progress.ended,
        "received": progress.received,
        "studies": progress.studies,
        "jobs": progress.jobs,
    }


def _counts(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items())
