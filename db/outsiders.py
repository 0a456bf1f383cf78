"""People whom others vouch for: an OpenID Connect provider, or a directory.

Their account is made when they first sign in, their role follows the other side at each, and it never takes
over an account that has a password here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import audit, people
from db.models import User
from db.people import Role

Kind = Literal["oidc", "ldap"]
Source = Literal["local", "oidc", "ldap"]


@dataclass(frozen=True)
class Visitor:
    """Somebody who has proved to the other side who they are. subject: who they are there, for good, whatever
    they are called; role: by their groups there, None for none."""

    kind: Kind
    subject: str
    name: str
    role: Role | None

    @property
    def identity(self) -> str:
        """What `User.outside_identity` keeps."""
        return f"{self.kind}:{hashlib.sha256(self.subject.encode()).hexdigest()}"


class Refusal(StrEnum):
    """Why somebody who proved who they are may not come in."""

    NO_ROLE = "no-role"
    NO_NAME = "no-name"
    NAME_TAKEN = "name-taken"
    SHUT_OUT = "shut-out"


def admit(session: Session, visitor: Visitor, *, address: str | None = None) -> User | Refusal:
    """The account of a visitor, made or brought up to date; who has lost their role loses their logins."""
    user = session.scalar(select(User).where(User.outside_identity == visitor.identity).with_for_update())
    if user is not None and user.disabled_at is not None:
        return Refusal.SHUT_OUT
    if visitor.role is None:
        if user is not None:
            people.end_sessions(session, user)
        return Refusal.NO_ROLE
    if user is None:
        return _new(session, visitor, visitor.role, address)
    if user.role != visitor.role:
        user.role = visitor.role
        people.end_sessions(session, user)
        _note(session, user, "user.role", visitor, address)
    return user


def source(user: User) -> Source:
    """Where an account comes from."""
    kind = (user.outside_identity or "local").partition(":")[0]
    return kind if kind in ("oidc", "ldap") else "local"  # type: ignore[return-value]


def _new(session: Session, visitor: Visitor, role: Role, address: str | None) -> User | Refusal:
    name = visitor.name.strip()
    if not people.is_name(name):
        return Refusal.NO_NAME
    if people.named(session, name) is not None or people.is_local_name(session, name):
        return Refusal.NAME_TAKEN
    user = User(name=name, role=role, outside_identity=visitor.identity)
    session.add(user)
    session.flush()
    _note(session, user, "user.add", visitor, address)
    return user


def _note(session: Session, user: User, action: str, visitor: Visitor, address: str | None) -> None:
    audit.record(
        session, user.name, action, object_type="user", object_id=user.id, address=address,
        detail={"role": user.role, "by": visitor.kind},
    )  # fmt: skip
