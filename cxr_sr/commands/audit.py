"""`cxr-sr audit`: read the audit trail, take it along, and find out whether it is what was written."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from cxr_sr.failure import Failure
from cxr_sr.options import actor, config_option, json_option, load, open_database, print_json, print_table

if TYPE_CHECKING:
    from db import Database
    from db.verification import Report

DAY = click.DateTime(["%Y-%m-%d"])


@click.group(epilog="Example: cxr-sr audit verify")
def audit() -> None:
    """Read, export and verify the audit trail."""


@audit.command("list", epilog="Example: cxr-sr audit list --action job. --limit 20")
@click.option("--actor", "who", help="A user's name, or a role.")
@click.option("--action", help="An action, or its beginning with a dot: `job.`.")
@click.option("--outcome", help="success, refused, failure or throttled.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many."
)
@json_option
@config_option
def audit_list(
    who: str | None, action: str | None, outcome: str | None, limit: int, as_json: bool, config: Path | None
) -> None:
    """List entries, newest first; what was searched for is left out."""
    from db import audit as trail
    from webui.api.audit import EntryView

    wanted = trail.Filter(actor=who, action=action, outcome=outcome)
    with open_database(load(config)) as database, database.read() as session:
        rows = [EntryView.of(row) for row in trail.page(session, wanted, limit=limit)[0]]
    if as_json:
        print_json({"entries": [row.model_dump(mode="json") for row in rows]})
        return
    print_table(
        ("ID", "WHEN", "WHO", "ACTION", "OBJECT", "OUTCOME"),
        [
            (r.id, f"{r.at:%Y-%m-%d %H:%M:%S}", r.actor, r.action,
             f"{r.object_type or ''} {r.object_id or ''}".strip(), r.outcome)
            for r in rows
        ],
    )  # fmt: skip


@audit.command("export", epilog="Example: cxr-sr audit export audit.csv --since 2026-01-01")
@click.argument("target", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@click.option("--since", type=DAY, help="The first day, in UTC.")
@click.option("--seals", is_flag=True, help="The seals instead of the entries (JSON).")
@config_option
def audit_export(target: Path, form: str, since: datetime | None, seals: bool, config: Path | None) -> None:
    """Write entries with their chains, or the seals, to TARGET (- for stdout), for its owner alone."""
    with open_database(load(config)) as database:
        parts = _parts(database, form, since, seals)
        if str(target) == "-":
            _write(sys.stdout, parts)
            return
        try:
            made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise Failure(f"{target} exists; name a file that does not") from error
        with os.fdopen(made, "w", encoding="utf-8", newline="") as file:
            _write(file, parts)
    click.echo(str(target))


def _parts(database: Database, form: str, since: datetime | None, seals: bool) -> Iterable[str]:
    """The text of an export; the trail tells of it."""
    from db import audit as trail
    from db.seals import seals as all_seals
    from webui.api.audit import FORMS, EntryView, SealView

    asked = {"format": form, "since": f"{since:%Y-%m-%d}" if since else None, "seals": seals or None}
    with database.write() as session:
        detail = {key: value for key, value in asked.items() if value is not None}
        trail.record(session, actor(), "audit.export", detail=detail)
    if seals:
        return (SealView.of(one).model_dump_json() + "\n" for one in all_seals(database))
    wanted = trail.Filter(since=since.replace(tzinfo=UTC) if since else None)
    return FORMS[form][0](EntryView.of(row) for row in trail.every(database, wanted))


def _write(file: TextIO, parts: Iterable[str]) -> None:
    for part in parts:
        file.write(part)


@audit.command("verify", epilog="Example: cxr-sr audit verify --head 5b2c...e1")
@click.option("--head", metavar="DIGEST", help="Of a seal that must be there, from the log or a repository.")
@json_option
@config_option
def audit_verify(head: str | None, as_json: bool, config: Path | None) -> None:
    """Find out whether rows were changed, removed or put in. Fails when something was found.

    Keep the digest it prints: with --head, a later run finds out whether the whole trail was replaced.
    """
    from db import verification

    with open_database(load(config)) as database:
        report = verification.verify(database, head=head)
        with database.write() as session:
            verification.note(session, actor(), report)
    if as_json:
        print_json({"sound": report.sound, **asdict(report)})
    else:
        _print(report)
    if not report.sound:
        raise Failure(f"the audit trail is not what was written: {_count(report.count)}")


def _print(report: Report) -> None:
    for one in report.findings:
        click.echo(f"{one.kind.value:13} {one.message}")
    click.echo(f"{report.rows} rows in {report.chains} chains, {report.seals} seals")
    if report.before:
        click.echo(f"{report.before} rows from before there were chains")
    if report.unsealed:
        click.echo(f"{report.unsealed} rows are later than the last seal")
    click.echo(f"last seal {report.head or 'none'}")


def _count(number: int) -> str:
    return "1 finding" if number == 1 else f"{number} findings"
