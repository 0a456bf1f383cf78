"""`cxr-sr user` and `cxr-sr token`: who may log in, and which programs may call."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cxr_sr.failure import Failure
from cxr_sr.options import actor, config_option, json_option, load, open_database, print_json, print_table

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.models import User

ROLES = ("radiologist", "admin")


@click.group(epilog="Example: cxr-sr user add ada --role radiologist")
def user() -> None:
    """Manage the people who may log in."""


@user.command("add", epilog="Example: cxr-sr user add ada --role radiologist --must-change")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default="radiologist",
    show_default=True,
    help="What the person may do.",
)
@click.option("--must-change", is_flag=True, help="Ask for another password at the first login.")
@config_option
def user_add(name: str, role: str, must_change: bool, config: Path | None) -> None:
    """Add a person; the password is asked for, or read from stdin."""
    from db import audit, people

    settings = load(config)
    with open_database(settings) as database:
        with database.read() as session:
            if people.named(session, name) is not None:
                raise Failure(
                    f"there is a user {name} already; choose another name, or use `cxr-sr user passwd {name}`"
                )
        password = _ask_password(name)
        with database.write() as session:
            added = people.add_user(
                session,
                name,
                role,
                password,
                must_change=must_change,
                shortest=settings.web.password_min_length,
            )
            audit.record(
                session,
                actor(),
                "user.add",
                object_type="user",
                object_id=str(added.id),
                detail={"role": role},
            )
    click.echo(f"{name} may log in now as {role}", err=True)


@user.command("passwd", epilog="Example: cxr-sr user passwd ada < password.txt")
@click.argument("name")
@config_option
def user_passwd(name: str, config: Path | None) -> None:
    """Set a person's password; it is asked for, or read from stdin."""
    from db import audit, people

    settings = load(config)
    with open_database(settings) as database:
        with database.read() as session:
            if _user(session, name).outside_identity is not None:
                raise Failure(f"{name} signs in by others: the password is changed there")
        password = _ask_password(name)
        with database.write() as session:
            person = _user(session, name)
            people.set_password(session, person, password, shortest=settings.web.password_min_length)
            audit.record(session, actor(), "user.passwd", object_type="user", object_id=str(person.id))
    click.echo(f"the password of {name} is changed", err=True)


@user.command("disable", epilog="Example: cxr-sr user disable ada")
@click.argument("name")
@config_option
def user_disable(name: str, config: Path | None) -> None:
    """Shut a person out at once: the login, the open sessions and the tokens."""
    from db import audit, people

    with open_database(load(config)) as database, database.write() as session:
        person = _user(session, name)
        people.disable(session, person)
        audit.record(session, actor(), "user.disable", object_type="user", object_id=str(person.id))
    click.echo(f"{name} is shut out", err=True)


@user.command("list", epilog="Example: cxr-sr user list --json")
@json_option
@config_option
def user_list(as_json: bool, config: Path | None) -> None:
    """List the people."""
    from sqlalchemy import select

    from db import outsiders
    from db.models import User

    with open_database(load(config)) as database, database.read() as session:
        people = session.scalars(select(User).order_by(User.name)).all()
    if as_json:
        rows = [
            {
                "name": p.name,
                "role": p.role,
                "source": outsiders.source(p),
                "disabled": p.disabled_at is not None,
                "last_login": p.last_login_at,
            }
            for p in people
        ]
        print_json({"users": rows})
        return
    print_table(
        ("NAME", "ROLE", "FROM", "STATE", "LAST LOGIN"),
        [
            (
                p.name,
                p.role,
                outsiders.source(p),
                "disabled" if p.disabled_at else "active",
                _time(p.last_login_at),
            )
            for p in people
        ],
    )


@click.group(epilog="Example: cxr-sr token create ada --name night-upload --days 90")
def token() -> None:
    """Manage API tokens for programs."""


@token.command("create", epilog="Example: cxr-sr token create ada --name night-upload --days 90")
@click.argument("user_name", metavar="USER")
@click.option("--name", required=True, help="What the token is for.")
@click.option("--role", type=click.Choice(ROLES), help="Less than the user's own role, if wanted.")
@click.option(
    "--days", type=click.IntRange(min=1), help="Days that it is valid; without it until it is revoked."
)
@config_option
def token_create(user_name: str, name: str, role: str | None, days: int | None, config: Path | None) -> None:
    """Make a token that acts as USER; it is printed once and cannot be shown again."""
    from db import audit, people

    with open_database(load(config)) as database, database.write() as session:
        person = _user(session, user_name)
        raw, made = people.create_token(session, person, name, role=role, days=days)
        audit.record(session, actor(), "token.create", object_type="token", object_id=str(made.id))
        number = made.id
    click.echo(f"token {number} for {user_name}; keep it safe, it is not shown again:", err=True)
    click.echo(raw)


@token.command("revoke", epilog="Example: cxr-sr token revoke 7")
@click.argument("number", metavar="ID", type=int)
@config_option
def token_revoke(number: int, config: Path | None) -> None:
    """Make a token worthless at once."""
    from db import audit, people
    from db.models import ApiToken

    with open_database(load(config)) as database, database.write() as session:
        found = session.get(ApiToken, number)
        if found is None:
            raise Failure(f"there is no token {number}; `cxr-sr token list` shows them")
        people.revoke_token(session, found)
        audit.record(session, actor(), "token.revoke", object_type="token", object_id=str(number))
    click.echo(f"token {number} is revoked", err=True)


@token.command("list", epilog="Example: cxr-sr token list --json")
@json_option
@config_option
def token_list(as_json: bool, config: Path | None) -> None:
    """List the tokens; none is shown itself."""
    from sqlalchemy import select
    from sqlalchemy.orm import joinedload

    from db.models import ApiToken
    from db.types import utcnow

    now = utcnow()
    with open_database(load(config)) as database, database.read() as session:
        tokens = session.scalars(
            select(ApiToken).options(joinedload(ApiToken.user)).order_by(ApiToken.id)
        ).all()
    states = [
        "revoked"
        if t.revoked_at
        else "expired"
        if t.expires_at is not None and t.expires_at < now
        else "valid"
        for t in tokens
    ]
    if as_json:
        rows = [
            {
                "id": t.id, "name": t.name, "user": t.user.name, "role": t.role, "state": state,
                "expires": t.expires_at, "last_used": t.last_used_at,
            }
            for t, state in zip(tokens, states, strict=True)
        ]  # fmt: skip
        print_json({"tokens": rows})
        return
    print_table(
        ("ID", "USER", "NAME", "ROLE", "STATE", "EXPIRES", "LAST USED"),
        [
            (t.id, t.user.name, t.name, t.role, state, _time(t.expires_at), _time(t.last_used_at))
            for t, state in zip(tokens, states, strict=True)
        ],
    )


def _ask_password(name: str) -> str:
    """From a prompt on a terminal, else the first line of stdin; never from the command line, where `ps`
    shows it.
    """
    if sys.stdin.isatty():
        answer: str = click.prompt(
            f"Password for {name}", hide_input=True, confirmation_prompt=True, err=True
        )
        return answer
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise Failure("no password was given; type it at the prompt or send it on stdin")
    return password


def _user(session: Session, name: str) -> User:
    from db import people

    found = people.named(session, name)
    if found is None:
        raise Failure(f"there is no user {name}; `cxr-sr user list` shows them")
    return found


def _time(value: object) -> str:
    return "" if value is None else str(value)[:16]
