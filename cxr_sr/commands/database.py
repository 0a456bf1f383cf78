"""`cxr-sr db`: the schema, copies of the database while it is in use, and the way back."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_sr.failure import Failure
from cxr_sr.options import config_option, load, open_database

FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("db", epilog="Example: cxr-sr db backup /backup/cxr-sr.db")
def database() -> None:
    """Upgrade, back up and restore the database."""


@database.command("upgrade", epilog="Example: cxr-sr db upgrade --config cxr-sr.toml")
@config_option
def db_upgrade(config: Path | None) -> None:
    """Bring the schema up to what this version needs; `serve` does it by itself. The node must not be
    running.
    """
    from cxr_sr.supervisor import node_lock
    from db import Database, schema

    settings = load(config)
    with node_lock(settings.data_dir, seconds=0):
        opened = Database(settings.database_url)
        try:
            schema.upgrade(opened)
        finally:
            opened.close()
    click.echo("the schema is up to date", err=True)


@database.command("backup", epilog="Example: cxr-sr db backup /backup/cxr-sr-monday.db")
@click.argument("target", type=FILE)
@config_option
def db_backup(target: Path, config: Path | None) -> None:
    """Write a consistent copy of the database to TARGET, also while the node runs."""
    from db import schema

    if target.exists():
        raise Failure(f"{target} exists; name a file that does not")
    with open_database(load(config)) as opened:
        schema.backup(opened, target)
    click.echo(str(target))


@database.command("restore", epilog="Example: cxr-sr db restore /backup/cxr-sr-monday.db")
@click.argument("source", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@config_option
def db_restore(source: Path, config: Path | None) -> None:
    """Make the database from the copy SOURCE. The node must not run, and the old database be moved away."""
    from cxr_sr.supervisor import node_lock
    from db import schema

    settings = load(config)
    with node_lock(settings.data_dir, seconds=0):
        schema.restore(settings.database_url, source)
    click.echo(f"restored from {source}", err=True)
