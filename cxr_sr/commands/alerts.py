"""`cxr-sr alerts`: what needs somebody now, and whether those who are to be told can be."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_sr.failure import Failure
from cxr_sr.options import config_option, json_option, load, open_database, print_json, print_table


@click.group(epilog="Example: cxr-sr alerts test")
def alerts() -> None:
    """See what needs somebody, and test who is told."""


@alerts.command("list", epilog="Example: cxr-sr alerts list --json")
@click.option("--all", "everything", is_flag=True, help="Those that are over, too.")
@json_option
@config_option
def alerts_list(everything: bool, as_json: bool, config: Path | None) -> None:
    """List the alerts that stand."""
    from db import alerts as table

    with open_database(load(config)) as database, database.read() as session:
        rows = table.past(session, limit=500) if everything else table.open_alerts(session)
    if as_json:
        found = [
            {
                "kind": row.kind,
                "subject": row.subject,
                "message": row.message,
                "raised": row.raised_at,
                "told": row.told_at,
                "trouble": row.trouble,
                "cleared": row.cleared_at,
            }
            for row in rows
        ]
        print_json({"alerts": found})
        return
    print_table(
        ("SINCE", "STATE", "WHAT"),
        [(f"{row.raised_at:%Y-%m-%d %H:%M}", _state(row), row.message) for row in rows],
    )


def _state(row: object) -> str:
    from db.desk import Alert

    assert isinstance(row, Alert)
    if row.cleared_at is not None:
        return "over"
    return "told" if row.told_at is not None else "not told"


@alerts.command("test", epilog="Example: cxr-sr alerts test --config cxr-sr.toml")
@config_option
def alerts_test(config: Path | None) -> None:
    """Send a message to each address of `alerts.urls` and say what became of it."""
    from cxr_sr.alerting import called, send

    settings = load(config)
    urls = settings.alerts.urls
    if not urls:
        raise Failure("alerts.urls names nobody; write there whom to tell, docs/alerts.md has examples")
    where = settings.web.public_url
    body = "This is a test: alerts of this node arrive here." + (f"\n{where}" if where else "")
    silent = []
    for number, url in enumerate(urls, start=1):
        name = called(number, url)
        told = send(url, "cxr-sr: test", body)
        click.echo(f"{'told  ' if told.ok else 'FAILED'}  {name}{f': {told.why}' if told.why else ''}")
        if not told.ok:
            silent.append(name)
    if silent:
        raise Failure(f"not told: {', '.join(silent)}")
