from __future__ import annotations

import io
import json

import pytest

from cxr_sr import cli
from db import people
from db.models import AuditEvent


@pytest.fixture
def run(data_dir, database, monkeypatch, capsys):
    """Return a function that runs a command line on the test's node and gives status, stdout and stderr."""
    monkeypatch.setenv("CXR_SR_DATA_DIR", str(data_dir))

    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        status = cli.run(arguments)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


def test_a_user_is_added_with_a_password_from_stdin_and_may_log_in(run, database):
    assert run("user", "add", "ada", "--role", "admin", stdin="correct horse\n")[0] == 0
    with database.read() as session:
        user = people.verify(session, "ada", "correct horse")
        assert user is not None
        assert user.role == "admin"
        assert session.query(AuditEvent).one().action == "user.add"


def test_a_password_can_be_changed_and_the_old_one_is_refused(run, database):
    run("user", "add", "ada", stdin="correct horse\n")
    assert run("user", "passwd", "ada", stdin="battery staple\n")[0] == 0
    with database.read() as session:
        assert people.verify(session, "ada", "correct horse") is None
        assert people.verify(session, "ada", "battery staple") is not None


def test_a_disabled_user_is_shut_out(run, database):
    run("user", "add", "ada", stdin="correct horse\n")
    assert run("user", "disable", "ada")[0] == 0
    with database.read() as session:
        assert people.verify(session, "ada", "correct horse") is None
    (shown,) = json.loads(run("user", "list", "--json")[1])["users"]
    assert shown["name"] == "ada"
    assert shown["disabled"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "expected"),
    [
        (["user", "add", "bea"], "", "no password was given"),
        (["user", "add", "bea"], "short\n", "at least"),
        (["user", "add", "ada"], "another one\n", "there is a user ada already"),
        (["user", "passwd", "bea"], "another one\n", "there is no user bea"),
        (["user", "disable", "bea"], "", "there is no user bea"),
        (["token", "create", "bea", "--name", "x"], "", "there is no user bea"),
        (["token", "revoke", "7"], "", "there is no token 7"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(run, arguments, stdin, expected):
    run("user", "add", "ada", stdin="correct horse\n")
    status, out, err = run(*arguments, stdin=stdin)
    assert status == 1
    assert out == ""
    assert expected in err
    assert err.count("\n") == 1


def test_a_token_is_printed_once_works_and_can_be_revoked(run, database):
    run("user", "add", "ada", stdin="correct horse\n")
    status, raw, _ = run("token", "create", "ada", "--name", "night", "--days", "3")
    assert status == 0
    with database.read() as session:
        token = people.token_for(session, raw.strip())
        assert token is not None
        assert token.user.name == "ada"
    (shown,) = json.loads(run("token", "list", "--json")[1])["tokens"]
    assert shown["state"] == "valid"
    assert raw.strip() not in run("token", "list")[1]
    assert run("token", "revoke", str(shown["id"]))[0] == 0
    with database.read() as session:
        assert people.token_for(session, raw.strip()) is None
    assert "revoked" in run("token", "list")[1]
