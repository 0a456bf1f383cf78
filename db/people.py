"""People, their passwords, logins and API tokens. Raw tokens are never stored: rows keep their SHA-256."""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from datetime import timedelta
from functools import cache
from typing import Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, contains_eager, joinedload

from db import passwords
from db.engine import Database
from db.models import ApiToken, User, WebSession
from db.types import utcnow

Role = Literal["radiologist", "admin"]
ROLES: tuple[Role, ...] = ("radiologist", "admin")

TOKEN_PREFIX = "cxrsr_"  # noqa: S105 - how a token begins is no secret

_hasher = PasswordHasher()


class PersonRefused(ValueError):
    """The name, role or password cannot be taken; the message says why."""


def add_user(
    session: Session,
    name: str,
    role: str,
    password: str,
    *,
    must_change: bool = False,
    shortest: int = passwords.SHORTEST,
) -> User:
    """A new local account. Raises :class:`PersonRefused`."""
    name = name.strip()
    if not is_name(name):
        raise PersonRefused("a user's name has 1 to 64 printable characters")
    _check_role(role)
    if named(session, name) is not None:
        raise PersonRefused(f"there is a user {name!r} already")
    kept = _hash(password, name, shortest)
    user = User(name=name, role=role, password_hash=kept, must_change_password=must_change)
    session.add(user)
    session.flush()
    return user


def is_name(name: str) -> bool:
    """Whether an account may be called so."""
    return bool(name) and len(name) <= 64 and name.isprintable() and name == name.strip()


def named(session: Session, name: str) -> User | None:
    """The account of that name, in use or not."""
    return session.scalar(select(User).where(User.name == name.strip()))


def is_local_name(session: Session, name: str) -> bool:
    """Whether an account with a password here has that name, or one that a directory would take for it.

    Directories compare without regard to case, width and the number of blanks.
    """
    wanted = _folded(name)
    local = session.scalars(select(User.name).where(User.outside_identity.is_(None)))
    return any(_folded(one) == wanted for one in local)


def set_password(
    session: Session,
    user: User,
    password: str,
    *,
    must_change: bool = False,
    shortest: int = passwords.SHORTEST,
) -> None:
    """Replace a password; every login of the user ends. Raises :class:`PersonRefused`."""
    _check_local(user, "password")
    user.password_hash = _hash(password, user.name, shortest)
    user.must_change_password = must_change
    _revoke_sessions(session, user)


def verify(session: Session, name: str, password: str) -> User | None:
    """The user with that name and password; None for a wrong one, an unknown or a disabled user.

    The work is the same in each case, so that the time tells nothing.
    """
    user = named(session, name)
    known = user.password_hash if user is not None else None
    if len(password) > passwords.LONGEST:
        password = ""
    try:
        _hasher.verify(known or _decoy(), password)
    except (VerificationError, InvalidHashError):
        return None
    if user is None or known is None or user.disabled_at is not None:
        return None
    return user


def hash_again(session: Session, user: User, password: str) -> bool:
    """Keep a password that was just verified by the parameters of today; whether there was need to.

    Logins stand, and a password that was changed meanwhile stays.
    """
    known = user.password_hash
    if known is None or not _hasher.check_needs_rehash(known):
        return False
    session.execute(
        update(User)
        .where(User.id == user.id, User.password_hash == known)
        .values(password_hash=_hasher.hash(password))
    )
    return True


def disable(session: Session, user: User) -> None:
    """Lock an account out: its logins and tokens end with it. Raises :class:`PersonRefused` for the last
    administrator.
    """
    _keep_an_administrator(session, user)
    user.disabled_at = user.disabled_at or utcnow()
    _revoke_sessions(session, user)
    session.execute(
        update(ApiToken)
        .where(ApiToken.user_id == user.id, ApiToken.revoked_at.is_(None))
        .values(revoked_at=utcnow())
    )


def enable(user: User) -> None:
    """Let a locked account in again; its old logins and tokens stay ended."""
    user.disabled_at = None


def set_role(session: Session, user: User, role: str) -> None:
    """Give a person another role; their logins end, for what they may do is another thing.

    Raises :class:`PersonRefused` for a role that is none, for the last administrator, and for somebody whose
    role comes from outside.
    """
    _check_role(role)
    _check_local(user, "role")
    if role == user.role:
        return
    if role != "admin":
        _keep_an_administrator(session, user)
    user.role = role
    _revoke_sessions(session, user)


def generated_password() -> str:
    """A password to be told once and changed at the first login."""
    return secrets.token_urlsafe(12)


def everybody(session: Session) -> list[User]:
    """All accounts by name, disabled ones too."""
    return list(session.scalars(select(User).order_by(User.name)))


def sessions(session: Session, *, idle_minutes: float, user_id: int | None = None) -> list[WebSession]:
    """Logins that stand, the last seen first; of one user or of all."""
    now = utcnow()
    query = (
        select(WebSession)
        .join(WebSession.user)
        .options(contains_eager(WebSession.user))
        .where(
            WebSession.revoked_at.is_(None),
            WebSession.expires_at > now,
            WebSession.last_seen_at > now - timedelta(minutes=idle_minutes),
            User.disabled_at.is_(None),
        )
        .order_by(WebSession.last_seen_at.desc(), WebSession.id)
    )
    if user_id is not None:
        query = query.where(WebSession.user_id == user_id)
    return list(session.scalars(query))


def end_sessions(session: Session, user: User) -> None:
    """End every login of a person."""
    _revoke_sessions(session, user)


def tokens(session: Session, *, user_id: int | None = None) -> list[ApiToken]:
    """API tokens with their users, newest first; of one user or of all, ended ones too."""
    query = select(ApiToken).options(joinedload(ApiToken.user)).order_by(ApiToken.id.desc())
    if user_id is not None:
        query = query.where(ApiToken.user_id == user_id)
    return list(session.scalars(query))


def token_state(token: ApiToken) -> Literal["valid", "expired", "revoked"]:
    """Whether a token still opens anything. One whose user is disabled or no admin any more is `revoked`."""
    lost = token.role == "admin" and token.user.role != "admin"
    if token.revoked_at is not None or token.user.disabled_at is not None or lost:
        return "revoked"
    return "expired" if token.expires_at is not None and token.expires_at <= utcnow() else "valid"


def open_session(
    session: Session, user: User, *, hours: float, address: str | None
) -> tuple[str, WebSession]:
    """A login: the token for the cookie, and its row. Notes the time of the login."""
    raw = secrets.token_urlsafe(32)
    now = utcnow()
    row = WebSession(
        token_sha256=_digest(raw),
        user_id=user.id,
        csrf_token=secrets.token_urlsafe(32),
        expires_at=now + timedelta(hours=hours),
        address=address,
    )
    row.user = user
    user.last_login_at = now
    session.add(row)
    session.flush()
    return raw, row


def session_for(session: Session, raw: str, *, idle_minutes: float) -> WebSession | None:
    """The login of a cookie's token, with its user; None when it ended, idled too long or was revoked.

    Reads only: call :func:`touch` in a write session where :func:`stale` says so.
    """
    now = utcnow()
    row = session.scalar(select(WebSession).where(WebSession.token_sha256 == _digest(raw)))
    if row is None or row.revoked_at is not None or row.user.disabled_at is not None:
        return None
    if row.expires_at <= now or row.last_seen_at <= now - timedelta(minutes=idle_minutes):
        return None
    return row


def stale(row: WebSession, seconds: float = 60) -> bool:
    """Whether the last sign of life noted is so old that another should be."""
    return row.last_seen_at < utcnow() - timedelta(seconds=seconds)


def touch(session: Session, row: WebSession) -> None:
    """Note that the user is there, without resurrecting a login that was revoked meanwhile."""
    session.execute(
        update(WebSession)
        .where(WebSession.id == row.id, WebSession.revoked_at.is_(None))
        .values(last_seen_at=utcnow()),
        execution_options={"synchronize_session": False},
    )


def revoke_session(session: Session, web_session: WebSession) -> None:
    """End a login."""
    session.execute(
        update(WebSession)
        .where(WebSession.id == web_session.id, WebSession.revoked_at.is_(None))
        .values(revoked_at=utcnow())
    )


def create_token(
    session: Session, user: User, name: str, *, role: str | None = None, days: float | None = None
) -> tuple[str, ApiToken]:
    """An API token, shown this once: the raw text, and its row. Its role is at most the user's."""
    role, name = role or user.role, name.strip()
    _check_role(role)
    if not name or len(name) > 64 or not name.isprintable():
        raise PersonRefused("a token's name has 1 to 64 printable characters")
    if user.disabled_at is not None:
        raise PersonRefused(f"{user.name} is shut out, and so would be a token of theirs")
    if user.outside_identity is not None:  # it would outlive the account there
        raise PersonRefused(
            f"{user.name} signs in by others: make the token for an account with a password here"
        )
    if role == "admin" and user.role != "admin":
        raise PersonRefused(f"{user.name} is no admin, nor can a token of theirs be")
    raw = TOKEN_PREFIX + secrets.token_urlsafe(32)
    row = ApiToken(
        name=name,
        token_sha256=_digest(raw),
        user_id=user.id,
        role=role,
        expires_at=None if days is None else utcnow() + timedelta(days=days),
    )
    row.user = user
    session.add(row)
    session.flush()
    return raw, row


def token_for(session: Session, raw: str) -> ApiToken | None:
    """The token's row with its user; None when it ended, was revoked, or its user was disabled or demoted."""
    if not raw.startswith(TOKEN_PREFIX):
        return None
    row = session.scalar(select(ApiToken).where(ApiToken.token_sha256 == _digest(raw)))
    if row is None or row.revoked_at is not None or row.user.disabled_at is not None:
        return None
    if row.expires_at is not None and row.expires_at <= utcnow():
        return None
    return None if row.role == "admin" and row.user.role != "admin" else row


def revoke_token(session: Session, token: ApiToken) -> None:
    """End a token."""
    session.execute(
        update(ApiToken)
        .where(ApiToken.id == token.id, ApiToken.revoked_at.is_(None))
        .values(revoked_at=utcnow())
    )


def first_administrator(database: Database) -> tuple[str, str] | None:
    """Make `admin` with a generated password when there is no user yet; name and password, told only now."""
    password = generated_password()
    try:
        with database.write() as session:
            if session.scalar(select(func.count()).select_from(User)):
                return None
            add_user(session, "admin", "admin", password, must_change=True)
    except (IntegrityError, PersonRefused):  # another process was quicker
        return None
    return "admin", password


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise PersonRefused(f"there is no role {role!r}; there are {' and '.join(ROLES)}")


def _check_local(user: User, what: str) -> None:
    if user.outside_identity is not None:
        raise PersonRefused(f"{user.name} signs in by others: the {what} is changed there")


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _keep_an_administrator(session: Session, user: User) -> None:
    """Refuse when nobody else could administrate; locks the rows, so that two do not take away each other.

    Those who sign in by others do not count: their provider may be down.
    """
    if user.role != "admin" or user.disabled_at is not None or user.outside_identity is not None:
        return
    query = (
        select(User.id)
        .where(User.role == "admin", User.disabled_at.is_(None), User.outside_identity.is_(None))
        .order_by(User.id)
    )
    if not [found for found in session.scalars(query.with_for_update()) if found != user.id]:
        raise PersonRefused(f"{user.name} is the last administrator who may log in")


def _revoke_sessions(session: Session, user: User) -> None:
    session.execute(
        update(WebSession)
        .where(WebSession.user_id == user.id, WebSession.revoked_at.is_(None))
        .values(revoked_at=utcnow())
    )


def _hash(password: str, name: str, shortest: int) -> str:
    found = passwords.weakness(password, name, shortest=shortest)
    if found is not None:
        raise PersonRefused(found.said(shortest))
    return _hasher.hash(password)


def _digest(raw: str) -> str:
    return hashlib.sha256(raw.encode("utf-8", "replace")).hexdigest()


@cache
def _decoy() -> str:
    """A hash that no password fits, for names that nobody has."""
    return _hasher.hash(secrets.token_urlsafe(32))
