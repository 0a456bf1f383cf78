"""What many commands share: `--config`, `--json`, the open database, tables and JSON on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from config import Settings
    from db import Database

F = TypeVar("F", bound=Callable[..., Any])

CONFIG_HELP = "Configuration file (else CXR_SR_CONFIG, else ./cxr-sr.toml, else the defaults)."


def config_option(command: F) -> F:
    """`--config FILE`, given to the command as `config`."""
    kind = click.Path(dir_okay=False, path_type=Path)
    return click.option("--config", "config", type=kind, metavar="FILE", help=CONFIG_HELP)(command)


def json_option(command: F) -> F:
    """`--json`, given to the command as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")(command)


def load(config: Path | None) -> Settings:
    """The settings that a command works with. Raises :class:`config.ConfigError`."""
    from config import load_settings

    return load_settings(config)


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """The database, its schema checked; closed at the end. Raises :class:`db.schema.SchemaError`."""
    from db import Database, schema

    database = Database(settings.database_url)
    try:
        schema.check(database)
        yield database
    finally:
        database.close()


def actor() -> str:
    """Who acts from this shell, for events and the audit trail."""
    import getpass

    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"


def print_json(value: object) -> None:
    """`value` as JSON on stdout; times in ISO 8601."""
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns aligned with two spaces between; the head is written even when there are no rows."""
    cells = [list(head), *([("" if value is None else str(value)) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        click.echo("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())
