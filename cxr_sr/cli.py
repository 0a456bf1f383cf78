"""The command line `cxr-sr`: the list of its commands, and how any of them ends.

Exit status: 0 done, 1 the work failed, 2 wrong usage. Data goes to stdout, everything else to stderr, and
never a traceback unless `--debug` asks for it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import click

ROOMS = ("config", "db", "enhancer", "pacs_node", "webui", "cxr_sr")


class Entry(NamedTuple):
    """Where a command lives and what it does, so that `--help` imports none of them."""

    module: str
    attribute: str
    summary: str


COMMANDS: dict[str, Entry] = {
    "serve": Entry("serve", "serve", "Run the node, or some of its roles."),
    "demo": Entry("demo", "demo", "Show the whole node at work on sample radiographs."),
    "enhance": Entry("enhance", "enhance", "Enhance a file or a folder without a service."),
    "check": Entry("check", "check", "Check a derived object against its source."),
    "evaluate": Entry("evaluate", "evaluate", "Measure image quality beside bicubic and Lanczos."),
    "qa": Entry("qa", "qa", "Test a model with objects whose truth is known."),
    "train": Entry("train", "train", "Train the generator and discriminator."),
    "bench": Entry("bench", "bench", "Run the project's own benchmarks."),
    "doctor": Entry("doctor", "doctor", "Check configuration, storage, database, model and destinations."),
    "jobs": Entry("jobs", "jobs", "See and steer the job table."),
    "fetch": Entry("fetch", "fetch", "Enhance studies of an archive as a batch."),
    "export": Entry("export", "export", "Take de-identified results out for research."),
    "rules": Entry("rules", "rules", "Try the rules of the configuration on files."),
    "user": Entry("people", "user", "Manage the people who may log in."),
    "token": Entry("people", "token", "Manage API tokens for programs."),
    "audit": Entry("audit", "audit", "Read, export and verify the audit trail."),
    "alerts": Entry("alerts", "alerts", "See what needs somebody, and test who is told."),
    "db": Entry("database", "database", "Upgrade, back up and restore the database."),
    "conformance": Entry("conformance", "conformance", "Print the DICOM Conformance Statement."),
}


class LazyGroup(click.Group):
    """Commands in the order of the table, imported only when one is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(f"cxr_sr.commands.{entry.module}"), entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


def _version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from pacs_node.identity import software_version

        click.echo(f"cxr-sr {software_version()}")
        ctx.exit()


@click.group(
    name="cxr-sr",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: cxr-sr serve --config cxr-sr.toml",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
)
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of what goes wrong.")
def cli() -> None:
    """Receive chest radiographs, enhance them and return them to the PACS.

    For research: nothing this program makes is cleared for diagnosis.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status; what goes wrong is one line on stderr."""
    arguments, debug = _without_debug(arguments)
    try:
        status = cli.main(args=list(arguments), prog_name="cxr-sr", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        hint = f" (see {error.ctx.command_path} --help)" if error.ctx is not None else ""
        click.echo(f"cxr-sr: {error.format_message()}{hint}", err=True)
        return 2
    except click.ClickException as error:
        click.echo(f"cxr-sr: {error.format_message()}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("cxr-sr: stopped", err=True)
        return 1
    except BrokenPipeError:  # the reader of our output has gone; nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        click.echo(f"cxr-sr: {explain(error)}", err=True)
        return 1


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """`--debug` is understood before and after the command's name."""
    before = list(arguments)
    end = before.index("--") if "--" in before else len(before)
    kept = [a for a in before[:end] if a != "--debug"] + before[end:]
    return kept, len(kept) != len(before)


def explain(error: BaseException) -> str:
    """One line for a person: what went wrong, where, and what to do."""
    kind = type(error)
    room, *_ = kind.__module__.split(".")
    if room in ROOMS:
        return _one_line(error) or kind.__name__
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if room == "sqlalchemy":
        from sqlalchemy.exc import SQLAlchemyError

        from db.trouble import Trouble, advice, trouble

        if isinstance(error, SQLAlchemyError) and trouble(error) is not Trouble.OTHER:
            return advice(error)
        cause = getattr(error, "orig", None) or error
        return f"the database cannot be used: {_one_line(cause)}; check database.url and `cxr-sr doctor`"
    return f"internal error ({kind.__name__}: {_one_line(error)}); run it again with --debug to see where"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))
