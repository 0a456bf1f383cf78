"""People and their roles, for administrators: added, shut out, let in, given another role or password."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.orm import Session

from db import audit, people
from db.models import User
from db.outsiders import Source, source
from db.people import PersonRefused
from webui import auth
from webui.api.operations import answer, operation, read_body
from webui.errors import Conflict, Invalid, NotFound
from webui.security import client_address
from webui.services import Services, services

blueprint = Blueprint("people", __name__)

RoleName = Literal["radiologist", "admin"]


class UserView(BaseModel):
    """Somebody who may log in, or might once."""

    id: int
    name: str
    role: RoleName
    disabled: bool
    must_change_password: bool
    source: Source = Field(
        description="Where the account comes from: `local`, a password here; `oidc`, the OpenID Connect "
        "provider; `ldap`, the directory. Name, role and password of the latter two are changed there."
    )
    created_at: datetime
    last_login_at: datetime | None
    sessions: int = Field(description="Logins that stand now.")
    tokens: int = Field(description="API tokens that open something now.")


class UserList(BaseModel):
    users: list[UserView]


class NewUser(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
    role: RoleName = "radiologist"


class ChangedRole(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: RoleName


class OneTime(BaseModel):
    """A password that is told this once; it must be changed at the first login."""

    user: UserView
    password: str


@blueprint.get("/users")
@auth.role("admin")
@operation("List the people", tag="administration", answers={200: UserList})
def listing() -> Response:
    """By name, those who are shut out too."""
    return answer(UserList(users=everybody(services())))


@blueprint.post("/users")
@auth.role("admin")
@operation("Add a person", tag="administration", body=NewUser, answers={201: OneTime}, problems=(409,))
def add() -> Response:
    """Makes a password, which is told in the answer alone."""
    wanted = read_body(NewUser)
    user, password = added(wanted.name, wanted.role)
    return answer(OneTime(user=view(user.id), password=password), 201)


@blueprint.post("/users/<int:user_id>/disable")
@auth.role("admin")
@operation("Shut a person out", tag="administration", answers={200: UserView}, problems=(409,))
def disable(user_id: int) -> Response:
    """At once: their logins and tokens end. The last administrator stays."""
    return answer(disabled(user_id))


@blueprint.post("/users/<int:user_id>/enable")
@auth.role("admin")
@operation("Let a person in again", tag="administration", answers={200: UserView}, problems=(409,))
def enable(user_id: int) -> Response:
    """Their old logins and tokens stay ended."""
    return answer(enabled(user_id))


@blueprint.post("/users/<int:user_id>/role")
@auth.role("admin")
@operation(
    "Give a person another role",
    tag="administration",
    body=ChangedRole,
    answers={200: UserView},
    problems=(409,),
)
def role(user_id: int) -> Response:
    """Their logins end. The last administrator stays one."""
    return answer(given_role(user_id, read_body(ChangedRole).role))


@blueprint.post("/users/<int:user_id>/password")
@auth.role("admin")
@operation("Make a new password for a person", tag="administration", answers={200: OneTime}, problems=(409,))
def password(user_id: int) -> Response:
    """Told in the answer alone; their logins end."""
    return answer(OneTime(password=new_password(user_id), user=view(user_id)))


@blueprint.post("/users/<int:user_id>/sessions/end")
@auth.role("admin")
@operation("End all logins of a person", tag="administration", answers={200: UserView}, problems=(409,))
def end_sessions(user_id: int) -> Response:
    """At once; the password and the tokens stay good."""
    return answer(sessions_ended(user_id))


def everybody(here: Services) -> list[UserView]:
    """All accounts with counts of what stands open."""
    idle = here.settings.web.session_idle_minutes
    with here.database.read() as session:
        logins = Counter(row.user_id for row in people.sessions(session, idle_minutes=idle))
        tokens = Counter(t.user_id for t in people.tokens(session) if people.token_state(t) == "valid")
        return [_view(user, logins[user.id], tokens[user.id]) for user in people.everybody(session)]


def view(user_id: int) -> UserView:
    """One of them, or 404."""
    found = next((user for user in everybody(services()) if user.id == user_id), None)
    if found is None:
        raise NotFound("There is no such user.")
    return found


def added(name: str, role: str) -> tuple[User, str]:
    """A new account and its password. Raises :class:`Invalid`."""
    secret = people.generated_password()
    with services().database.write() as session:
        try:
            user = people.add_user(session, name, role, secret, must_change=True)
        except PersonRefused as error:
            raise Invalid(_sentence(error), errors=[{"field": "name", "message": str(error)}]) from error
        _note(session, "user.add", user.id, role=role)
    return user, secret


def disabled(user_id: int) -> UserView:
    """Shut out."""
    return _change(user_id, "user.disable", people.disable)


def enabled(user_id: int) -> UserView:
    """Let in again."""
    return _change(user_id, "user.enable", lambda _session, user: people.enable(user))


def given_role(user_id: int, role: str) -> UserView:
    """With another role."""
    return _change(user_id, "user.role", lambda s, user: people.set_role(s, user, role), role=role)


def sessions_ended(user_id: int) -> UserView:
    """Without logins."""
    return _change(user_id, "session.end", people.end_sessions, which="all")


def new_password(user_id: int) -> str:
    """A password that was just made for somebody."""
    secret = people.generated_password()
    _change(user_id, "user.passwd", lambda s, user: people.set_password(s, user, secret, must_change=True))
    return secret


def _change(user_id: int, action: str, change: Callable[[Session, User], None], **detail: Any) -> UserView:
    with services().database.write() as session:
        user = session.get(User, user_id, with_for_update=True) if user_id < 1 << 63 else None
        if user is None:
            raise NotFound("There is no such user.")
        try:
            change(session, user)
        except PersonRefused as error:
            raise Conflict(_sentence(error), kind="refused") from error
        _note(session, action, user_id, **detail)
    return view(user_id)


def _note(session: Session, action: str, user_id: int, **detail: Any) -> None:
    audit.record(
        session, auth.actor().user, action, object_type="user", object_id=user_id, address=client_address(),
        detail=detail,
    )  # fmt: skip


def _sentence(error: PersonRefused) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def _view(user: User, sessions: int, tokens: int) -> UserView:
    return UserView(
        id=user.id,
        name=user.name,
        role="admin" if user.role == "admin" else "radiologist",
        disabled=user.disabled_at is not None,
        must_change_password=user.must_change_password,
        source=source(user),
        created_at=user.created_at,
        last_login_at=user.last_login_at,
        sessions=sessions,
        tokens=tokens,
    )
