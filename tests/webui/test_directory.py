"""Passwords that a directory keeps: OpenLDAP over TLS, and what Active Directory answers."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from flask import Flask
from sqlalchemy import select

from config import Settings
from config.settings import WebSettings
from config.signin import LdapSettings
from db import Database, people
from db.models import AuditEvent, User, WebSession
from db.types import utcnow
from tests.pacs_node.certificates import Authority
from tests.webui.conftest import PASSWORD, Person
from tests.webui.directories import (
    BASE,
    CHIEFS,
    READER,
    READER_PASSWORD,
    READERS,
    SECRET,
    ActiveDirectory,
    Slapd,
    active_directory,
    dn_of,
)
from webui import directory
from webui.app import create_app
from webui.directory import Directory, DirectoryDown, NotLetIn, WrongPassword
from webui.services import KEY

slapd_is_here = pytest.mark.peer("slapd")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Slapd]:
    made = Slapd(tmp_path_factory.mktemp("slapd"), authority)
    yield made
    made.close()


def asking(slapd: Slapd, **more: object) -> LdapSettings:
    known = {
        "url": slapd.url, "start_tls": True, "ca": slapd.ca, "base": f"ou=people,{BASE}",
        "bind_dn": READER, "bind_password": READER_PASSWORD,
        "user_filter": "(&(objectClass=person)(uid={name}))", "name_attribute": "uid",
        "admins": (CHIEFS,), "radiologists": (READERS.lower(),), "timeout": 20,
    }  # fmt: skip
    return LdapSettings(**{**known, **more})


Maker = Callable[[LdapSettings], Person]


@pytest.fixture
def visit(settings: Settings, database: Database) -> Iterator[Maker]:
    """Return a function that makes a node with a directory, and somebody at a browser before it."""
    apps: list[Flask] = []

    def make(ldap: LdapSettings) -> Person:
        apps.append(create_app(settings.model_copy(update={"web": WebSettings(port=0, ldap=ldap)}), database))
        return Person(apps[-1].test_client())

    yield make
    for app in apps:
        app.extensions[KEY].broadcaster.close()


def who(person: Person) -> tuple[str, str] | None:
    me = person.get("/api/v1/me")
    return (me.get_json()["name"], me.get_json()["role"]) if me.status_code == 200 else None


@slapd_is_here
@pytest.mark.parametrize("groups", ["memberOf", "member"])
@pytest.mark.parametrize("encrypted", ["from the start", "by StartTLS"])
def test_people_of_the_directory_log_in_with_the_role_of_their_group(
    slapd: Slapd, visit: Maker, groups: str, encrypted: str
) -> None:
    how = {"url": slapd.tls_url, "start_tls": False} if encrypted == "from the start" else {}
    person = visit(asking(slapd, groups=groups, **how))
    assert person.login("oona", SECRET, next="/system").headers["Location"] == "/system"
    assert who(person) == ("oona", "radiologist")
    assert person.login("CHIEF", SECRET).status_code == 303
    assert who(person) == ("chief", "admin"), "they are called here as the directory calls them"
    assert person.login("oona", "not the password").status_code == 401
    refused = person.login("nobody", SECRET)
    assert refused.status_code == 403
    assert "no group of yours has a role" in refused.text


@slapd_is_here
def test_unix_groups_name_their_members(slapd: Slapd) -> None:
    unix = f"cn=unix,ou=groups,{BASE}"
    asked = Directory(
        asking(slapd, groups="member", member_attribute="memberUid", admins=(unix,), radiologists=())
    )
    assert asked.find("oona", SECRET).role == "admin"
    assert asked.find("nobody", SECRET).role is None
    assert Directory(asking(slapd, admins=(), radiologists=(), default_role="radiologist")).find(
        "nobody", SECRET
    ).role == "radiologist"  # fmt: skip
    gone = asking(slapd, groups="member", admins=(f"cn=gone,{BASE}",))
    assert Directory(gone).find("oona", SECRET).role == "radiologist", (
        "a group that is not there has no members"
    )


@slapd_is_here
def test_a_login_without_a_password_is_no_login_though_the_directory_takes_it(
    slapd: Slapd, visit: Maker
) -> None:
    from ldap3 import Connection, Server

    lenient = Connection(Server(slapd.url), dn_of("oona"), authentication="SIMPLE", password="x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ldap3.operation.bind.validate_simple_password", lambda *_: b"")
        assert lenient.bind(), "OpenLDAP as it is configured here takes anybody without a password"
    lenient.unbind()
    person = visit(asking(slapd))
    for password in ("", "\0"):
        assert person.login("oona", password).status_code == 401, repr(password)
    with pytest.raises(WrongPassword):
        Directory(asking(slapd)).find("oona", "")
    assert who(person) is None


@slapd_is_here
@pytest.mark.parametrize(
    "name", ["*", "oona*", "o*", "oona)(uid=*", "*)(|(uid=*))", "\\2a", "oona\0", "(oona)", ")"]
)
def test_a_name_is_a_name_and_no_part_of_a_filter(slapd: Slapd, name: str) -> None:
    with pytest.raises(WrongPassword):
        Directory(asking(slapd)).find(name, SECRET)


@slapd_is_here
def test_a_name_with_every_sign_that_means_something_is_found(slapd: Slapd) -> None:
    found = Directory(asking(slapd, default_role="radiologist")).find("Weird (*) Name\\", SECRET)
    assert (found.name, found.role) == ("Weird (*) Name\\", "radiologist")


@slapd_is_here
def test_the_role_follows_the_groups_at_each_login_and_without_one_the_logins_end(
    slapd: Slapd, visit: Maker
) -> None:
    slapd.person("vera")
    slapd.into(READERS, "vera")
    person = visit(asking(slapd))
    other = Person(person.client.application.test_client())
    person.login("vera", SECRET)
    assert who(person) == ("vera", "radiologist")
    slapd.into(CHIEFS, "vera")
    other.login("vera", SECRET)
    assert (who(other), who(person)) == (("vera", "admin"), None)
    slapd.out_of(CHIEFS, "vera")
    slapd.out_of(READERS, "vera")
    assert person.login("vera", SECRET).status_code == 403
    assert who(other) is None


@slapd_is_here
def test_whoever_is_removed_from_the_directory_is_out_when_their_session_ends(
    slapd: Slapd, visit: Maker, database: Database
) -> None:
    slapd.person("leo")
    slapd.into(READERS, "leo")
    person = visit(asking(slapd))
    person.login("leo", SECRET)
    slapd.out_of(READERS, "leo")
    assert slapd.manager.delete(dn_of("leo"))
    assert who(person) == ("leo", "radiologist"), "nobody tells us"
    with database.write() as session:
        for row in session.scalars(select(WebSession)):
            row.expires_at = utcnow() - timedelta(seconds=1)
    assert who(person) is None
    assert person.login("leo", SECRET).status_code == 401


@slapd_is_here
def test_a_person_of_the_same_name_who_comes_later_is_another(slapd: Slapd, visit: Maker) -> None:
    slapd.person("max")
    slapd.into(READERS, "max")
    person = visit(asking(slapd))
    assert person.login("max", SECRET).status_code == 303
    slapd.out_of(READERS, "max")
    assert slapd.manager.delete(dn_of("max"))
    slapd.person("max")
    slapd.into(READERS, "max")
    answer = person.login("max", SECRET)
    assert answer.status_code == 403
    assert "another account of your name" in answer.text


@slapd_is_here
def test_a_certificate_of_strangers_or_for_another_host_is_not_trusted(
    slapd: Slapd, authority: Authority, tmp_path: Path
) -> None:
    strangers = Authority(tmp_path / "strangers")
    for how in ({}, {"url": slapd.tls_url, "start_tls": False}):
        with pytest.raises(DirectoryDown, match="certificate"):
            Directory(asking(slapd, ca=strangers.ca, **how)).find("oona", SECRET)
        with pytest.raises(DirectoryDown, match="certificate"):
            Directory(asking(slapd, ca=None, **how)).find("oona", SECRET)
    pair = authority.issue("elsewhere", host="elsewhere.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    with active_directory(context) as other:
        with pytest.raises(DirectoryDown):
            Directory(asking(slapd, url=other.url, start_tls=False)).find("oona", SECRET)
    assert other.binds == [], "no password was said to it"


@slapd_is_here
def test_the_doctor_says_whether_the_node_may_look_people_up(slapd: Slapd, settings: Settings) -> None:
    from cxr_sr import doctor

    def checked(**more: object) -> str:
        web = WebSettings(ldap=asking(slapd, **more))
        return doctor.check_directory(settings.model_copy(update={"web": web}))

    assert "answers, and has ou=people" in checked()
    with pytest.raises(doctor.Unfit, match="refuses bind_dn"):
        checked(bind_password="not it")
    with pytest.raises(doctor.Unfit, match="knows no"):
        checked(base=f"ou=nowhere,{BASE}")
    names = [
        name
        for name, _ in doctor.checks(settings.model_copy(update={"web": WebSettings(ldap=asking(slapd))}))
    ]
    assert "directory" in names


@pytest.fixture
def ad() -> Iterator[ActiveDirectory]:
    with active_directory() as made:
        yield made


def of(ad: ActiveDirectory, **more: object) -> LdapSettings:
    known = {
        "url": ad.url, "base": "DC=ad", "bind_dn": "CN=svc", "bind_password": "svc",
        "groups": "nested", "timeout": 20,
        "admins": ("CN=Chiefs (all),DC=ad",), "radiologists": ("CN=Readers,DC=ad",),
    }  # fmt: skip
    return LdapSettings(**{**known, **more})


def test_groups_in_groups_are_asked_for_by_active_directorys_rule(ad: ActiveDirectory) -> None:
    ad.member_of = ("CN=Readers,DC=ad",)
    found = Directory(of(ad)).find("oona", SECRET)
    assert (found.name, found.role) == ("oona", "radiologist")
    assert found.subject == f"objectGUID {ad.GUID.hex()}"
    ad.member_of = ("CN=Chiefs (all),DC=ad",)
    assert Directory(of(ad)).find("oona", SECRET).role == "admin"
    ad.member_of = ()
    assert Directory(of(ad)).find("oona", SECRET).role is None


@pytest.mark.parametrize("code", ["52e", "525", "775"])
def test_a_wrong_password_a_strange_name_and_a_locked_account_look_alike(
    ad: ActiveDirectory, visit: Maker, code: str
) -> None:
    ad.refusal = f"49 data {code}"
    answer = visit(of(ad)).login("oona", "guess")
    assert answer.status_code == 401
    assert "is wrong, or the account is locked" in answer.text


@pytest.mark.parametrize("code", ["530", "531", "532", "533", "701", "773"])
def test_an_account_that_has_expired_or_is_disabled_there_is_told_in_general_words(
    ad: ActiveDirectory, visit: Maker, code: str
) -> None:
    ad.refusal = f"49 data {code}"
    person = visit(of(ad))
    with structlog.testing.capture_logs() as logs:
        answer = person.login("oona", SECRET)
    assert answer.status_code == 403
    assert "does not let this account in" in answer.text
    assert code not in answer.text
    assert who(person) is None
    assert [entry["code"] for entry in logs if "code" in entry] == [code]


def test_failures_there_count_here_and_then_nobody_is_asked(ad: ActiveDirectory, visit: Maker) -> None:
    ad.refusal = "49 data 52e"
    person = visit(of(ad))
    for _ in range(5):
        assert person.login("oona", "guess").status_code == 401
    asked = len(ad.binds)
    assert person.login("oona", "guess").status_code == 429
    assert len(ad.binds) == asked, "guesses here do not lock the account there"


@pytest.mark.parametrize("name", ["anna", "ANNA", " anna", "anna ", "ａｎｎａ"])
def test_the_password_of_an_account_here_never_goes_there(
    ad: ActiveDirectory, visit: Maker, name: str
) -> None:
    person = visit(of(ad, default_role="radiologist"))
    for password in (PASSWORD, "mistyped"):
        person.login(name, password)
    assert ad.binds == []
    assert person.login("anna").status_code == 303


def test_an_account_here_is_not_taken_over_by_one_there(
    ad: ActiveDirectory, visit: Maker, database: Database
) -> None:
    with database.write() as session:
        people.add_user(session, "oona", "radiologist", PASSWORD)
    ad.member_of = ("CN=Chiefs (all),DC=ad",)
    person = visit(of(ad))
    answer = person.login("oona@ad.example", SECRET)  # the directory knows it by another name
    assert answer.status_code == 403
    assert "another account of your name" in answer.text
    with database.read() as session:
        assert people.named(session, "oona").role == "radiologist"


def test_somebody_of_the_directory_is_shown_as_such_and_changes_no_password_here(
    ad: ActiveDirectory, visit: Maker, database: Database
) -> None:
    ad.member_of = ("CN=Chiefs (all),DC=ad",)
    person = visit(of(ad))
    assert "directory open here too" in person.get("/login").text
    person.login("oona", SECRET)
    assert "changed where you sign in" in person.get("/account").text
    assert "the directory" in person.get("/admin/users").text
    logout = person.post("/logout")
    assert (logout.status_code, logout.headers["Location"]) == (303, "/login")
    with database.read() as session:
        user = session.scalars(select(User).where(User.name == "oona")).one()
        rows = session.scalars(select(AuditEvent).where(AuditEvent.actor == "oona").order_by(AuditEvent.id))
        assert [(row.action, row.detail.get("by")) for row in rows] == [
            ("user.add", "ldap"), ("login", "ldap"), ("logout", None),
        ]  # fmt: skip
        assert not user.must_change_password


def test_two_people_of_one_name_are_nobody_and_referrals_lead_nowhere(ad: ActiveDirectory) -> None:
    ad.referral = True
    ad.member_of = ("CN=Readers,DC=ad",)
    assert Directory(of(ad)).find("oona", SECRET).role == "radiologist"
    ad.extra = 1
    with pytest.raises(DirectoryDown, match="several people"):
        Directory(of(ad)).find("oona", SECRET)


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x30\x84\xff\xff\xff\xff", b"\x30\x03abc", b"\0"]
)
def test_what_is_no_directory_is_down(ad: ActiveDirectory, garbage: bytes) -> None:
    ad.garbage = garbage
    with pytest.raises(DirectoryDown):
        Directory(of(ad, timeout=1)).find("oona", SECRET)


@pytest.mark.parametrize("refusal", ["1 operations error", "51 busy", "52 unavailable", "80 other"])
def test_a_directory_that_cannot_say_is_down_and_that_is_no_failure_of_ours(
    ad: ActiveDirectory, visit: Maker, refusal: str
) -> None:
    ad.refusal = refusal
    person = visit(of(ad))
    for _ in range(6):
        assert person.login("oona", SECRET).status_code == 503
    ad.refusal, ad.member_of = "", ("CN=Readers,DC=ad",)
    assert person.login("oona", SECRET).status_code == 303


@pytest.mark.parametrize("code", ["19 locked", "53 unwilling"])
def test_other_directories_say_in_other_ways_that_an_account_is_not_let_in(
    ad: ActiveDirectory, code: str
) -> None:
    ad.refusal = code
    with pytest.raises(NotLetIn):
        Directory(of(ad)).find("oona", SECRET)


def test_while_the_directory_is_down_accounts_here_log_in(visit: Maker, free_port: Callable[[], int]) -> None:
    gone = LdapSettings(url=f"ldap://127.0.0.1:{free_port()}", base="DC=ad", timeout=1)
    person = visit(gone)
    answer = person.login("oona", SECRET)
    assert answer.status_code == 503
    assert "Accounts with a password here can log in" in answer.text
    assert person.login("anna").status_code == 303


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_a_directory_that_says_nothing_is_not_waited_for_long(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DirectoryDown):
            Directory(LdapSettings(url=url, base="DC=ad", timeout=0.3)).find("oona", SECRET)


def test_a_slow_directory_holds_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Directory(LdapSettings(url="ldap://127.0.0.1", base="DC=ad", timeout=0.2))
    let_go, inside = threading.Event(), []

    def slow(name: str, password: str) -> None:
        inside.append(name)
        let_go.wait(30)
        raise WrongPassword

    monkeypatch.setattr(asked, "_find", slow)
    said: list[str] = []

    def ask() -> None:
        try:
            asked.find("oona", SECRET)
        except (WrongPassword, DirectoryDown) as error:
            said.append(type(error).__name__)

    threads = [threading.Thread(target=ask) for _ in range(directory.AT_ONCE + 3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while said.count("DirectoryDown") < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    let_go.set()
    for thread in threads:
        thread.join(30)
    assert len(inside) == directory.AT_ONCE
    assert sorted(said) == ["DirectoryDown"] * 3 + ["WrongPassword"] * directory.AT_ONCE


def test_the_password_of_the_nodes_account_is_not_in_what_is_logged(
    ad: ActiveDirectory, visit: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ad.refusal = "52 unavailable"
    person = visit(of(ad, bind_password="svc-very-secret"))
    with structlog.testing.capture_logs() as logs:
        answer = person.login("oona", "typed-very-secret")
    assert "the directory is of no use" in [entry["event"] for entry in logs]
    assert "very-secret" not in repr(logs) + answer.text
