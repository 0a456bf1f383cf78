"""`cxr-sr db`: the schema, copies of the database while it is in use, and the way back."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_sr.failure import Failure
from cxr_sr.options import actor, config_option, load, open_database

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
    from db import Database, adrift, schema
    from db.objects import store_of

    settings = load(config)
    with node_lock(settings.data_dir, seconds=0):
        opened = Database(settings.database_url)
        try:
            adrift.check_start(opened, store_of(settings))
            schema.upgrade(opened)
        finally:
            opened.close()
    click.echo("the schema is up to date", err=True)


@database.command("backup", epilog="Example: cxr-sr db backup /backup/cxr-sr-monday.db")
@click.argument("target", type=FILE)
@config_option
def db_backup(target: Path, config: Path | None) -> None:
    """Write a consistent copy of the database to TARGET, also while the node runs."""
    from db import audit, schema

    if target.exists():
        raise Failure(f"{target} exists; name a file that does not")
    with open_database(load(config)) as opened:
        with opened.write() as session:
            audit.record(session, actor(), "database.backup", object_type="database")
        schema.backup(opened, target)
    click.echo(str(target))


@database.command("restore", epilog="Example: cxr-sr db restore /backup/cxr-sr-monday.db")
@click.argument("source", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@config_option
def db_restore(source: Path, config: Path | None) -> None:
    """Make the database from the copy SOURCE. The node must not run, and the old database be moved away."""
    from cxr_sr.supervisor import node_lock
    from db import adrift, audit, schema
    from db.objects import store_of

    settings = load(config)
    with node_lock(settings.data_dir, seconds=0):
        schema.restore(settings.database_url, source)
        with open_database(settings) as opened, opened.write() as session:
            audit.record(session, actor(), "database.restore", object_type="database")
        with open_database(settings) as opened:
            found = adrift.count(opened, store_of(settings))
    click.echo(f"restored from {source}", err=True)
    if found.objects:
        click.echo(
            f"{found.objects} images came after this copy was made; they are kept: `cxr-sr db adopt` takes "
            "them in",
            err=True,
        )
    if found.rows:
        click.echo(
            f"{found.rows} objects that the copy names are not in the store (retention may have removed them "
            "since): jobs and deliveries that need one fail and say so",
            err=True,
        )


@database.command("adopt", epilog="Example: cxr-sr db adopt --by-rules")
@click.option("--by-rules", is_flag=True, help="Treat them as sent by a modality now: the rules decide.")
@click.option("--list", "only_list", is_flag=True, help="Print their keys and do nothing.")
@click.option("--none", "forget", is_flag=True, help="Leave them to the sweep, which removes them.")
@config_option
def db_adopt(by_rules: bool, only_list: bool, forget: bool, config: Path | None) -> None:
    """Take in again what came after the copy that was put back.

    Such images are in the store and in no table. They are enhanced like uploads and sent nowhere; with
    --by-rules as if a modality had sent them now.
    """
    from cxr_sr.adoption import adopt
    from db import adrift, audit
    from db.objects import store_of

    settings = load(config)
    store, done = store_of(settings), 0
    with open_database(settings) as opened:
        for key in [] if forget else list(adrift.unnamed_sources(opened, store)):
            if only_list:
                click.echo(key)
                continue
            taken = adopt(settings, opened, store, key, by_rules=by_rules, actor=actor())
            click.echo(f"job {taken.job_id}{' (was here already)' if taken.known else ''}")
            done += 1
        if only_list:
            return
        with opened.write() as session:
            adrift.settle(session)
            audit.record(
                session, actor(), "database.adopt", object_type="database",
                detail={"images": done, "by_rules": by_rules, "none": forget},
            )  # fmt: skip
    click.echo(f"{done} images were taken in; orphans are swept again", err=True)
