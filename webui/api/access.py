"""Logins and API tokens: everybody's for administrators, one's own for everybody."""

from __future__ import annotations

import hmac
from datetime import datetime
from typing import Annotated, Literal

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from db import audit, people
from db.models import ApiToken, User, WebSession
from db.people import PersonRefused
from webui import auth
from webui.api.operations import answer, operation, read_body
from webui.errors import Forbidden, Invalid, NotFound
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("access", __name__)

RoleName = Literal["radiologist", "admin"]


class SessionView(BaseModel):
    """A login that stands."""

    id: int
    user: str
    address: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    current: bool = Field(description="Whether it is the one that asks.")


class SessionList(BaseModel):
    sessions: list[SessionView]


class TokenView(BaseModel):
    id: int
    name: str
    user: str
    role: RoleName
    state: Literal["valid", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class TokenList(BaseModel):
    tokens: list[TokenView]


class OwnToken(BaseModel):
    """A token to be made."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)] = Field(
        description="What it is for."
    )
    role: RoleName | None = Field(None, description="At most the user's own; null: that.")
    days: float | None = Field(None, gt=0, le=3650, description="Days it is good for; null: until revoked.")


class NewToken(OwnToken):
    user: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)] = Field(
        description="Name of the user that it acts as."
    )


class MadeToken(BaseModel):
    """A token, which is told this once."""

    token: TokenView
    secret: str


@blueprint.get("/sessions")
@auth.role("admin")
@operation("List the logins", tag="administration", answers={200: SessionList})
def sessions() -> Response:
    """Those that stand, the last seen first."""
    return answer(SessionList(sessions=standing()))


@blueprint.post("/sessions/<int:session_id>/end")
@auth.role("admin")
@operation("End a login", tag="administration", answers={204: None})
def end(session_id: int) -> AnyResponse:
    """At once."""
    ended(session_id)
    return Response(status=204)


@blueprint.get("/me/sessions")
@auth.role("radiologist")
@operation("List your logins", tag="me", answers={200: SessionList})
def own_sessions() -> Response:
    """Those that stand, the last seen first."""
    return answer(SessionList(sessions=standing(auth.actor().user_id)))


@blueprint.post("/me/sessions/<int:session_id>/end")
@auth.role("radiologist")
@operation("End a login of yours", tag="me", answers={204: None})
def end_own(session_id: int) -> AnyResponse:
    """At once."""
    ended(session_id, auth.actor().user_id)
    return Response(status=204)


@blueprint.get("/tokens")
@auth.role("admin")
@operation("List the API tokens", tag="administration", answers={200: TokenList})
def tokens() -> Response:
    """Newest first; none is shown itself."""
    return answer(TokenList(tokens=issued()))


@blueprint.post("/tokens")
@auth.role("admin")
@operation("Make an API token", tag="administration", body=NewToken, answers={201: MadeToken})
def make() -> Response:
    """It acts as a user; its secret is told in the answer alone."""
    wanted = read_body(NewToken)
    return answer(made(wanted, wanted.user), 201)


@blueprint.post("/tokens/<int:token_id>/revoke")
@auth.role("admin")
@operation("Revoke an API token", tag="administration", answers={204: None})
def revoke(token_id: int) -> AnyResponse:
    """It is worthless at once."""
    revoked(token_id)
    return Response(status=204)


@blueprint.get("/me/tokens")
@auth.role("radiologist")
@operation("List your API tokens", tag="me", answers={200: TokenList})
def own_tokens() -> Response:
    """Newest first; none is shown itself."""
    return answer(TokenList(tokens=issued(auth.actor().user_id)))


@blueprint.post("/me/tokens")
@auth.role("radiologist")
@operation("Make an API token for yourself", tag="me", body=OwnToken, answers={201: MadeToken})
def make_own() -> Response:
    """For a person who has logged in: a token makes no tokens. Its secret is told in the answer alone."""
    return answer(made_own(read_body(OwnToken)), 201)


@blueprint.post("/me/tokens/<int:token_id>/revoke")
@auth.role("radiologist")
@operation("Revoke an API token of yours", tag="me", answers={204: None})
def revoke_own(token_id: int) -> AnyResponse:
    """It is worthless at once."""
    revoked(token_id, auth.actor().user_id)
    return Response(status=204)


def standing(user_id: int | None = None) -> list[SessionView]:
    """Logins, of one user or of all."""
    here, csrf = services(), auth.actor().csrf_token
    with here.database.read() as session:
        rows = people.sessions(session, idle_minutes=here.settings.web.session_idle_minutes, user_id=user_id)
        return [
            SessionView(
                id=row.id,
                user=row.user.name,
                address=row.address,
                created_at=row.created_at,
                last_seen_at=row.last_seen_at,
                expires_at=row.expires_at,
                current=csrf is not None and hmac.compare_digest(csrf, row.csrf_token),
            )
            for row in rows
        ]


def ended(session_id: int, user_id: int | None = None) -> None:
    """End a login, of that user alone where one is given."""
    with services().database.write() as session:
        row = session.get(WebSession, session_id) if session_id < 1 << 63 else None
        if row is None or (user_id is not None and row.user_id != user_id):
            raise NotFound("There is no such login.")
        people.revoke_session(session, row)
        audit.record(
            session, auth.actor().user, "session.end", object_type="user", object_id=row.user_id,
            address=client_address(), detail={"which": session_id},
        )  # fmt: skip


def issued(user_id: int | None = None) -> list[TokenView]:
    """Tokens, of one user or of all."""
    with services().database.read() as session:
        return [_token(row) for row in people.tokens(session, user_id=user_id)]


def made(wanted: OwnToken, user: str) -> MadeToken:
    """A new token of a user. Raises :class:`Invalid`."""
    with services().database.write() as session:
        person = people.named(session, user)
        if person is None:
            raise Invalid("There is no such user.", errors=[{"field": "user", "message": "There is none."}])
        return _made(session, person, wanted)


def made_own(wanted: OwnToken) -> MadeToken:
    """A new token of whoever asks. Raises :class:`Forbidden` for a program, :class:`Invalid`."""
    actor = auth.actor()
    if not actor.by_session:
        raise Forbidden("A token makes no tokens: log in.")
    with services().database.write() as session:
        return _made(session, session.get_one(User, actor.user_id), wanted)


def revoked(token_id: int, user_id: int | None = None) -> None:
    """Revoke a token, of that user alone where one is given."""
    with services().database.write() as session:
        row = session.get(ApiToken, token_id) if token_id < 1 << 63 else None
        if row is None or (user_id is not None and row.user_id != user_id):
            raise NotFound("There is no such token.")
        people.revoke_token(session, row)
        audit.record(
            session, auth.actor().user, "token.revoke", object_type="token", object_id=token_id,
            address=client_address(),
        )  # fmt: skip


def _made(session: Session, person: User, wanted: OwnToken) -> MadeToken:
    try:
        raw, row = people.create_token(session, person, wanted.name, role=wanted.role, days=wanted.days)
    except PersonRefused as error:
        text = str(error)
        raise Invalid(f"{text[:1].upper()}{text[1:]}.") from error
    audit.record(
        session, auth.actor().user, "token.create", object_type="token", object_id=row.id,
        address=client_address(), detail={"user": person.id, "role": row.role},
    )  # fmt: skip
    return MadeToken(token=_token(row), secret=raw)


def _token(row: ApiToken) -> TokenView:
    return TokenView(
        id=row.id,
        name=row.name,
        user=row.user.name,
        role="admin" if row.role == "admin" else "radiologist",
        state=people.token_state(row),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )
