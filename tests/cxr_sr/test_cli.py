from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from cxr_sr import cli
from cxr_sr.failure import Failure


def walk(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            assert inner is not None
            yield from walk(inner, (*path, name))


EVERY = list(walk(cli.cli))


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[" ".join(path) or "cxr-sr" for path, _ in EVERY])
def test_every_command_explains_itself_with_an_example(path, command, capsys):
    assert cli.run([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example: cxr-sr" in shown
    assert command.help


def test_the_commands_of_the_contract_are_there():
    wanted = {
        "serve",
        "demo",
        "enhance",
        "evaluate",
        "train",
        "bench",
        "doctor",
        "jobs",
        "user",
        "token",
        "db",
    }
    assert wanted | {"conformance"} <= set(cli.COMMANDS)


NODE = {"serve", "doctor", "jobs", "fetch", "user", "token", "db"}


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[" ".join(path) or "cxr-sr" for path, _ in EVERY])
def test_every_command_of_the_node_takes_a_configuration_file(path, command):
    if path and path[0] in NODE and not isinstance(command, click.Group):
        assert "--config" in {flag for parameter in command.params for flag in parameter.opts}


def test_help_imports_no_room():
    code = (
        "import sys; from cxr_sr.cli import run; run(['--help']);"
        "print([m for m in ('torch', 'sqlalchemy', 'pydicom', 'numpy') if m in sys.modules], file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stderr == "[]\n"
    assert "serve" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["jobs", "show"], ["jobs", "list", "--state", "lost"], []]
)
def test_wrong_usage_ends_with_2_and_writes_nothing_to_stdout(arguments, capsys):
    assert cli.run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err


@pytest.fixture
def command_that_raises(monkeypatch):
    def install(error: BaseException) -> None:
        @click.command("doctor")
        def broken() -> None:
            raise error

        monkeypatch.setattr(cli.LazyGroup, "get_command", lambda self, ctx, name: broken)

    return install


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (Failure("no room; make some"), "cxr-sr: no room; make some\n"),
        (
            FileNotFoundError(2, "No such file or directory", "x.toml"),
            "cxr-sr: No such file or directory: x.toml\n",
        ),
        (KeyboardInterrupt(), "cxr-sr: stopped\n"),
    ],
)
def test_a_failure_is_one_line_on_stderr_and_exit_status_1(error, shown, command_that_raises, capsys):
    command_that_raises(error)
    assert cli.run(["doctor"]) == 1
    captured = capsys.readouterr()
    assert captured.err.lstrip() == shown
    assert captured.out == ""


def test_an_unexpected_error_shows_its_traceback_only_with_debug(command_that_raises, capsys):
    command_that_raises(RuntimeError("two\nlines"))
    assert cli.run(["doctor"]) == 1
    assert capsys.readouterr().err == (
        "cxr-sr: internal error (RuntimeError: two lines); run it again with --debug to see where\n"
    )
    for arguments in (["--debug", "doctor"], ["doctor", "--debug"]):
        with pytest.raises(RuntimeError):
            cli.run(arguments)
