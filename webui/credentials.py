"""Whether somebody is who they say: a password kept here, else one that a directory keeps, else refused.

An account with a password here comes first, and its password never travels to the directory, whatever case
or width its name was typed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import structlog
from flask_babel import gettext as _
from sqlalchemy.exc import IntegrityError

from db import audit, logins, outsiders, people
from db.models import User
from db.outsiders import Visitor
from webui.directory import DirectoryDown, NotLetIn, WrongPassword
from webui.security import client_address
from webui.services import Services, services

log = structlog.get_logger(__name__)


class Refusal(StrEnum):
    """Why nobody is let in; the last of them for people who proved who they are elsewhere."""

    WRONG = "wrong"
    THROTTLED = "throttled"
    NOT_LET_IN = "not-let-in"
    DOWN = "down"
    ABORTED = "aborted"
    EXPIRED = "expired"
    UNPROVED = "unproved"
    NO_ROLE = "no-role"
    NO_NAME = "no-name"
    NAME_TAKEN = "name-taken"
    SHUT_OUT = "shut-out"


STATUS = {
    Refusal.WRONG: 401,
    Refusal.THROTTLED: 429,
    Refusal.DOWN: 503,
    Refusal.ABORTED: 401,
    Refusal.EXPIRED: 400,
    Refusal.UNPROVED: 401,
}
"""HTTP status of a refusal; 403 where none stands."""
_FAILED = frozenset({Refusal.WRONG, Refusal.NOT_LET_IN, Refusal.UNPROVED, Refusal.EXPIRED})
"""What counts as a failed attempt."""


@dataclass(frozen=True)
class Outcome:
    """A user, or why there is none; wait: seconds until another attempt is looked at."""

    user: User | None = None
    refusal: Refusal | None = None
    wait: float = 0.0

    @property
    def status(self) -> int:
        """Of the answer that says the refusal."""
        return STATUS.get(self.refusal, 403) if self.refusal else 200

    @property
    def words(self) -> str:
        """The refusal in the language of the page."""
        if self.refusal is Refusal.THROTTLED:
            minutes = max(1, round(self.wait / 60))
            return _("Too many attempts. Try again in %(minutes)s min.", minutes=minutes)
        if self.refusal is Refusal.WRONG and services().settings.web.ldap is not None:
            return _("The name or the password is wrong, or the account is locked.")
        return _words()[self.refusal or Refusal.WRONG]


def _words() -> dict[Refusal, str]:
    return {
        Refusal.WRONG: _("The name or the password is wrong."),
        Refusal.NOT_LET_IN: _(
            "The directory does not let this account in: it may have expired or been disabled, or its "
            "password may be due. Sign in to your computer, or ask whoever looks after the directory."
        ),
        Refusal.DOWN: _(
            "Signing in by others does not work at the moment. Accounts with a password here can log in."
        ),
        Refusal.ABORTED: _("The sign-in was not completed. Start again."),
        Refusal.EXPIRED: _("This sign-in was begun elsewhere or too long ago. Start again."),
        Refusal.UNPROVED: _("What the sign-in service answered cannot be trusted. Tell an administrator."),
        Refusal.NO_ROLE: _(
            "You are known, but not to be let in here: no group of yours has a role. Ask an administrator."
        ),
        Refusal.NO_NAME: _("The sign-in service does not say a name that can be used here."),
        Refusal.NAME_TAKEN: _(
            "There is another account of your name here, which is not yours by this way of signing in. "
            "Ask an administrator."
        ),
        Refusal.SHUT_OUT: _("Your account is shut out here. Ask an administrator."),
    }


def authenticate(name: str, password: str) -> Outcome:
    """Whose name and password these are. Counted, and what is refused recorded."""
    here, address = services(), client_address() or ""
    wait = waiting(here, name, address)
    if wait:
        return refuse(here, Outcome(refusal=Refusal.THROTTLED, wait=wait), name)
    outcome = _proved(here, name, password)
    if outcome.user is None:
        return refuse(here, outcome, name)
    here.throttle.succeeded(name, address)
    return outcome


def waiting(here: Services, name: str, address: str) -> float:
    """Seconds until an attempt under that name (empty: any) from there is looked at."""
    with here.database.read() as session:
        recorded = logins.recent(session, name=name, address=address, seconds=here.throttle.window)
    return here.throttle.wait(name, address, recorded)


def _proved(here: Services, name: str, password: str) -> Outcome:
    with here.throttle.hashing:
        with here.database.read() as session:
            user = people.verify(session, name, password)
            local = user is not None or people.is_local_name(session, name)
        if user is not None:
            with here.database.write() as session:
                people.hash_again(session, user, password)
            return Outcome(user)
    if local or here.directory is None or not name or not password:
        return Outcome(refusal=Refusal.WRONG)
    try:
        return admitted(here, here.directory.find(name, password))
    except WrongPassword:
        return Outcome(refusal=Refusal.WRONG)
    except NotLetIn as error:
        log.warning("the directory lets an account not in", code=error.code)
        return Outcome(refusal=Refusal.NOT_LET_IN)
    except DirectoryDown as error:
        log.error("the directory is of no use", reason=str(error))
        return Outcome(refusal=Refusal.DOWN)


def admitted(here: Services, visitor: Visitor) -> Outcome:
    """The account of somebody whom others vouch for."""
    for last in (False, True):
        try:
            with here.database.write() as session:
                found = outsiders.admit(session, visitor, address=client_address())
            break
        except IntegrityError:  # the same person signed in at the same moment
            if last:
                raise
    return Outcome(found) if isinstance(found, User) else Outcome(refusal=Refusal(found.value))


def refuse(here: Services, outcome: Outcome, name: str, **detail: str) -> Outcome:
    """Count a refusal and write it down; the same outcome."""
    address, refusal = client_address() or "", outcome.refusal or Refusal.WRONG
    if refusal in _FAILED:
        here.throttle.failed(name, address)
    elif not here.throttle.worth_telling(name, address):
        return outcome
    word = "failure" if refusal in _FAILED else "throttled" if refusal is Refusal.THROTTLED else "refused"
    log.warning("login refused", outcome=word, reason=refusal.value, address=address)
    with here.database.write() as session:
        known = bool(name) and people.named(session, name) is not None
        # a name that is nobody's may be a password typed into the wrong field
        audit.record(
            session, name if known else "unknown", "login", address=address or None, outcome=word,
            detail={**detail, "reason": refusal.value},
        )  # fmt: skip
    return outcome
