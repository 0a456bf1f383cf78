"""Signing in by a provider of OpenID Connect, over real sockets; and what a bad answer of it does not do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from flask import Flask, Response
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from sqlalchemy import select
from werkzeug.test import TestResponse

from config import Settings
from config.settings import WebSettings
from config.signin import OidcSettings
from db import Database, people
from db.models import AuditEvent, User, WebSession
from tests.webui.conftest import PASSWORD, Person
from tests.webui.providers import CLIENT, SECRET, OwnProvider, provider_of_others, unsigned
from webui import auth, oidc, outside
from webui.app import create_app
from webui.services import KEY


@pytest.fixture
def provider() -> Iterator[OwnProvider]:
    made = OwnProvider()
    yield made
    made.close()


def by(issuer: str, **more: object) -> WebSettings:
    """Settings with a provider."""
    known = {
        "client_id": CLIENT,
        "client_secret": SECRET,
        "admins": ("chiefs",),
        "radiologists": ("readers",),
    }
    return WebSettings(port=0, oidc=OidcSettings(**{"issuer": issuer, **known, **more}))


Maker = Callable[..., Person]


@pytest.fixture
def visit(settings: Settings, database: Database, provider: OwnProvider) -> Iterator[Maker]:
    """Return a function that makes a node with a provider, and somebody at a browser before it."""
    apps: list[Flask] = []

    def make(issuer: str = "", **more: object) -> Person:
        web = by(issuer or provider.issuer, **more)
        apps.append(create_app(settings.model_copy(update={"web": web}), database))
        return Person(apps[-1].test_client())

    yield make
    for app in apps:
        app.extensions[KEY].broadcaster.close()


def begin(person: Person, path: str = "/login/oidc") -> str:
    """Press the button; the provider's address."""
    answer = person.get(path)
    assert answer.status_code == 303, answer.text
    return answer.headers["Location"]


def at_provider(url: str) -> str:
    """What the provider's page does with a browser: the address that it sends back to, without the host."""
    answer = requests.get(url, allow_redirects=False, timeout=30)
    assert answer.status_code == 302, answer.text
    parts = urlsplit(answer.headers["Location"])
    return f"{parts.path}?{parts.query}"


def sign_in(person: Person, path: str = "/login/oidc") -> TestResponse:
    answer = person.get(at_provider(begin(person, path)))
    if answer.status_code == 303:
        person.csrf = person.get("/api/v1/me").get_json()["csrf_token"]
    return answer


def who(person: Person) -> tuple[str, str] | None:
    me = person.get("/api/v1/me")
    return (me.get_json()["name"], me.get_json()["role"]) if me.status_code == 200 else None


def reasons(database: Database) -> list[tuple[str, str, str]]:
    with database.read() as session:
        rows = session.scalars(select(AuditEvent).where(AuditEvent.action == "login").order_by(AuditEvent.id))
        return [(row.actor, row.outcome, row.detail.get("reason", "")) for row in rows]


def test_the_ordinary_way_at_a_provider_of_others(visit: Maker, database: Database) -> None:
    with provider_of_others() as issuer:
        claims: dict[str, Any] = {
            "preferred_username": "mira",
            "realm_access": {"roles": ["offline_access", "chiefs"]},
        }
        requests.put(f"{issuer}/users/m-1", json=claims, timeout=30).raise_for_status()
        person = visit(issuer, roles_claim="realm_access.roles")
        url = begin(person, "/login/oidc?next=/system")
        asked = requests.post(url, data={"sub": "m-1"}, allow_redirects=False, timeout=30)
        back = urlsplit(asked.headers["Location"])
        answer = person.get(f"{back.path}?{back.query}")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/system")
        assert who(person) == ("mira", "admin")
        refused = requests.post(
            begin(visit(issuer)), data={"action": "deny"}, allow_redirects=False, timeout=30
        )
        assert "error=access_denied" in refused.headers["Location"]
    with database.read() as session:
        user = people.named(session, "mira")
        assert user is not None
        assert (user.outside_identity or "").startswith("oidc:")


def test_the_browser_keeps_what_was_begun_from_scripts_and_not_for_long(
    visit: Maker, provider: OwnProvider
) -> None:
    answer = visit().get("/login/oidc")
    cookie = answer.headers["Set-Cookie"]
    for part in ("HttpOnly", "SameSite=Lax", "Path=/login/oidc", f"Max-Age={oidc.BEGUN_SECONDS}"):
        assert part in cookie
    asked = {key: value[0] for key, value in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
    assert asked["redirect_uri"] == "http://localhost/login/oidc/back"
    assert asked["code_challenge_method"] == "S256"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert not any(asked[secret] in cookie for secret in ("state", "nonce"))
    assert "prompt" not in asked


def test_the_address_to_come_back_to_is_the_public_one(
    settings: Settings, database: Database, provider: OwnProvider
) -> None:
    web = by(provider.issuer).model_copy(update={"public_url": "https://cxr.example/"})
    client = create_app(settings.model_copy(update={"web": web}), database).test_client()
    assert (
        "redirect_uri=https%3A%2F%2Fcxr.example%2Flogin%2Foidc%2Fback"
        in client.get("/login/oidc").headers["Location"]
    )


def test_behind_a_trusted_proxy_the_address_and_the_cookies_are_those_of_the_outside(
    settings: Settings, database: Database, provider: OwnProvider
) -> None:
    web = by(provider.issuer).model_copy(update={"trusted_proxies": ("127.0.0.1",)})
    client = create_app(settings.model_copy(update={"web": web}), database).test_client()
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "cxr.example"}
    answer = client.get("/login/oidc", headers=headers)
    assert "redirect_uri=https%3A%2F%2Fcxr.example%2Flogin%2Foidc%2Fback" in answer.headers["Location"]
    assert "Secure" in answer.headers["Set-Cookie"]


def test_the_role_follows_the_provider_at_each_sign_in(visit: Maker, provider: OwnProvider) -> None:
    person = visit()
    assert sign_in(person).status_code == 303
    assert who(person) == ("oona", "radiologist")
    other = Person(person.client.application.test_client())
    provider.claims["groups"] = ["chiefs", "readers"]
    sign_in(other)
    assert who(other) == ("oona", "admin")
    assert who(person) is None, "logins with the role of before have ended"
    provider.claims["groups"] = "readers"
    sign_in(other)
    assert who(other) == ("oona", "radiologist"), "one value may stand without a list"


def test_whoever_has_no_role_is_told_so_and_gets_no_account(
    visit: Maker, provider: OwnProvider, database: Database
) -> None:
    person = visit()
    for groups in ([], ["others"], "chief", None, {"chiefs": 1}, [["chiefs"]], 7):
        provider.claims["groups"] = groups
        answer = sign_in(person)
        assert answer.status_code == 403, groups
        assert "no group of yours has a role" in answer.text
    with database.read() as session:
        assert people.named(session, "oona") is None
    assert sign_in(visit(default_role="radiologist")).status_code == 303


def test_whoever_lost_their_role_is_out_at_the_next_sign_in(visit: Maker, provider: OwnProvider) -> None:
    person = visit()
    sign_in(person)
    provider.claims["groups"] = []
    other = Person(person.client.application.test_client())
    assert sign_in(other).status_code == 403
    assert who(person) is None


def test_an_account_with_a_password_here_is_not_taken_over(
    visit: Maker, provider: OwnProvider, database: Database
) -> None:
    provider.claims |= {"preferred_username": "Root", "groups": ["chiefs"]}
    person = visit()
    answer = sign_in(person)
    assert answer.status_code == 403
    assert "another account of your name" in answer.text
    assert who(person) is None
    assert Person(person.client.application.test_client()).login("root").status_code == 303


def test_a_disabled_account_stays_out(visit: Maker, provider: OwnProvider, database: Database) -> None:
    person = visit()
    sign_in(person)
    with database.write() as session:
        people.disable(session, people.named(session, "oona"))
    assert who(person) is None
    answer = sign_in(person)
    assert (answer.status_code, who(person)) == (403, None)
    assert "shut out" in answer.text


def test_names_and_roles_may_come_by_userinfo_alone(visit: Maker, provider: OwnProvider) -> None:
    provider.claims = {"sub": "s-1"}
    provider.only_by_userinfo = {"preferred_username": "oona", "groups": ["readers"]}
    person = visit()
    sign_in(person)
    assert who(person) == ("oona", "radiologist")
    provider.only_by_userinfo["sub"] = "somebody else"
    assert sign_in(person).status_code == 401


NOW = time.time()
FOREIGN = ECKey.generate_key("P-256", {"kid": "first"})


def _signed(key: ECKey | OctKey, **changes: object) -> Callable[..., str]:
    return lambda header, claims: jwt.encode(
        {**header, **changes}, claims, key, algorithms=["ES256", "HS256"]
    )


def _with(**changes: object) -> Callable[..., None]:
    def change(header: dict, claims: dict) -> None:
        for name, value in changes.items():
            claims.pop(name) if value is None else claims.update({name: value})

    return change


BAD_TOKENS: dict[str, Callable[..., str | None]] = {
    "nonce of another sign-in": _with(nonce="another"),
    "no nonce": _with(nonce=None),
    "expired": _with(exp=int(NOW) - 120),
    "never expires": _with(exp=None),
    "from tomorrow": _with(iat=int(NOW) + 86_400),
    "for another client": _with(aud="another client"),
    "for another client, by way of us": _with(aud="another client", azp=CLIENT),
    "for several and nobody authorised": _with(aud=[CLIENT, "another client"]),
    "authorised for another": _with(azp="another client"),
    "of another issuer": _with(iss="https://evil.example"),
    "of nobody": _with(sub=None),
    "of a number": _with(sub=17),
    "beside another access token": _with(at_hash="AAAA"),
    "by a foreign key under a known name": _signed(FOREIGN),
    "by a foreign key": _signed(FOREIGN, kid="unheard of"),
    "by the shared secret": _signed(OctKey.import_key(SECRET), alg="HS256"),
    "unsigned": unsigned,
    "empty": lambda header, claims: "",
    "no token": lambda header, claims: "a.b.c",
    "no token at all": lambda header, claims: "{" * 2000,
}


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_a_token_that_proves_nothing_opens_nothing(
    visit: Maker, provider: OwnProvider, database: Database
) -> None:
    person = visit()
    for kind, bend in BAD_TOKENS.items():
        provider.bend = bend
        answer = sign_in(person)
        assert answer.status_code == 401, kind
        assert "cannot be trusted" in answer.text, kind
        assert who(person) is None, kind
    with database.read() as session:
        assert people.named(session, "oona") is None
    assert reasons(database) == [("unknown", "failure", "unproved")] * len(BAD_TOKENS)
    provider.bend = lambda header, claims: None
    assert sign_in(person).status_code == 303, "the same is good where nothing is wrong with it"


def test_clocks_may_differ_a_little(visit: Maker, provider: OwnProvider) -> None:
    provider.bend = _with(iat=int(time.time()) + 20, exp=int(time.time()) - 20)
    assert sign_in(visit()).status_code == 303


def test_another_key_of_the_provider_is_learnt_at_once_and_the_old_one_forgotten(
    visit: Maker, provider: OwnProvider
) -> None:
    person, before = visit(), provider.key
    sign_in(person)
    reads = provider.asked.count("/keys")
    sign_in(person)
    assert provider.asked.count("/keys") == reads, "they are kept"
    provider.rotate()
    assert sign_in(person).status_code == 303
    provider.rotate(name="second")  # a key of the same name
    assert sign_in(person).status_code == 303
    provider.bend = _signed(before, kid="first")
    assert sign_in(person).status_code == 401


def test_the_providers_document_is_kept_for_a_time(provider: OwnProvider) -> None:
    now = [0.0]
    known = oidc.Provider(by(provider.issuer).oidc, clock=lambda: now[0])
    address = "/.well-known/openid-configuration"
    known.check()
    now[0] = oidc.KEPT_SECONDS - 1
    known.check()
    assert provider.asked.count(address) == 1
    now[0] = oidc.KEPT_SECONDS
    known.check()
    assert provider.asked.count(address) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.example"}, {"issuer": None}, {"jwks_uri": None}, {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": None}, {"authorization_endpoint": "javascript:alert(1)"},
    ],
)  # fmt: skip
def test_a_provider_that_is_none_is_no_use_and_local_accounts_log_in(
    visit: Maker, provider: OwnProvider, change: dict
) -> None:
    provider.document = change
    person = visit()
    answer = person.get("/login/oidc")
    assert answer.status_code == 503
    assert "Accounts with a password here can log in" in answer.text
    assert person.login("anna").status_code == 303


def test_addresses_without_encryption_of_a_provider_with_it_are_not_used(monkeypatch) -> None:
    issuer = "https://id.example"
    document = {
        "issuer": issuer, "jwks_uri": f"{issuer}/keys", "token_endpoint": "http://id.example/token",
        "authorization_endpoint": f"{issuer}/authorize",
    }  # fmt: skip
    keys = {"keys": [FOREIGN.as_dict(private=False)]}
    monkeypatch.setattr(oidc, "_get", lambda session, url: keys if url.endswith("keys") else document)
    with pytest.raises(oidc.ProviderDown, match="token_endpoint"):
        oidc.Provider(by(issuer).oidc).check()


def test_while_the_provider_is_down_local_accounts_log_in_and_nobody_waits_for_it(
    visit: Maker, provider: OwnProvider, monkeypatch
) -> None:
    provider.close()
    person = visit()
    for _ in range(3):
        answer = person.get("/login/oidc?next=/system")
        assert answer.status_code == 503
        assert 'value="/system"' in answer.text, "the form still leads where one wanted to go"
    assert person.login("anna").status_code == 303


def test_a_provider_that_goes_down_on_the_way_is_told(
    visit: Maker, provider: OwnProvider, database: Database
) -> None:
    person = visit()
    back = at_provider(begin(person))
    provider.close()
    answer = person.get(back)
    assert (answer.status_code, who(person)) == (503, None)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "said",
    [
        Response("{}", 200, content_type="application/json"),
        Response("<html>", 200),
        Response("[]", 200, content_type="application/json"),
        Response('{"error": "server_error", "error_description": "<script>"}', 400),
        Response("gone wrong", 500),
        Response("", 307, headers={"Location": "http://127.0.0.1:9/token"}),
        Response('{"id_token": "' + "x" * (oidc.MOST_BYTES + 1) + '"}', 200, content_type="application/json"),
    ],
    ids=lambda said: f"{said.status_code} {said.get_data(as_text=True)[:20]}",
)
def test_any_other_answer_for_a_code_is_a_page_with_words(
    visit: Maker, provider: OwnProvider, said: Response
) -> None:
    provider.token_answer = said
    person = visit()
    answer = sign_in(person)
    assert answer.status_code in (401, 503)
    assert "Traceback" not in answer.text
    assert "<script>" not in answer.text.partition("</head>")[2]
    assert who(person) is None


def test_a_wrong_client_secret_is_told_and_the_secret_is_not(
    visit: Maker, provider: OwnProvider, capsys
) -> None:
    answer = sign_in(visit(client_secret="not the one"))
    assert answer.status_code == 401
    shown = capsys.readouterr()
    assert "not the one" not in answer.text + shown.out + shown.err


def test_an_answer_that_this_browser_did_not_ask_for_is_refused(
    visit: Maker, provider: OwnProvider, database: Database
) -> None:
    person = visit()
    victim = Person(person.client.application.test_client())
    foreign = at_provider(begin(person))
    assert victim.get(foreign).status_code == 400, "a link from an attacker, without a cookie"
    begin(victim)
    assert victim.get(foreign).status_code == 400, "nor while it is signing in itself"
    assert who(victim) is None
    assert reasons(database) == [("unknown", "failure", "expired")] * 2
    assert person.get(foreign).status_code == 303
    assert person.get(foreign).status_code == 400, "and only once"


@pytest.mark.parametrize(
    "query", ["", "?code=x", "?state=x&code=x", "?error=access_denied", "?state=&code=x"]
)
def test_an_answer_to_nothing_is_refused(visit: Maker, query: str) -> None:
    answer = visit().get(f"/login/oidc/back{query}")
    assert answer.status_code == 400
    assert "Start again" in answer.text


def test_what_is_in_the_cookie_cannot_be_made_or_kept(
    visit: Maker, provider: OwnProvider, monkeypatch
) -> None:
    person = visit()
    made = oidc.Provider(by(provider.issuer, client_secret="guessed").oidc)
    begun = oidc.Begun("s", "n", "v", "/")
    person.client.set_cookie(outside.BEGUN, made.seal(begun), path="/login/oidc")
    assert person.get("/login/oidc/back?state=s&code=c").status_code == 400
    back = at_provider(begin(person))
    monkeypatch.setattr(oidc, "BEGUN_SECONDS", -1)
    assert person.get(back).status_code == 400, "too long ago"


def test_an_answer_in_the_name_of_another_issuer_is_refused(visit: Maker, provider: OwnProvider) -> None:
    person = visit()
    assert person.get(at_provider(begin(person)) + "&iss=https://evil.example").status_code == 400
    assert person.get(at_provider(begin(person)) + f"&iss={provider.issuer}").status_code == 303


def test_a_refusal_by_the_provider_is_said_in_our_words_alone(visit: Maker, provider: OwnProvider) -> None:
    person = visit()
    state = parse_qs(urlsplit(begin(person)).query)["state"][0]
    answer = person.get(
        f"/login/oidc/back?state={state}&error=access_denied&error_description=Call+0900-EVIL"
    )
    assert answer.status_code == 401
    assert "not completed" in answer.text
    assert "EVIL" not in answer.text


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "/" + "x" * 3000]
)
def test_one_lands_here_whatever_the_link_said(visit: Maker, provider: OwnProvider, target: str) -> None:
    person = visit()
    answer = person.get(at_provider(begin(person, f"/login/oidc?next={target}")))
    assert answer.status_code == 303
    assert not urlsplit(answer.headers["Location"]).netloc
    assert len(answer.headers["Location"]) <= outside.LONGEST_TARGET


def test_guesses_at_answers_are_slowed_and_passwords_are_not(visit: Maker, provider: OwnProvider) -> None:
    person = visit()
    for _ in range(50):
        person.get("/login/oidc/back?code=x&state=y")
    answer = person.get("/login/oidc")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0


def test_a_new_sign_in_ends_the_browsers_session_before(
    visit: Maker, provider: OwnProvider, database: Database
) -> None:
    person = visit()
    person.login("anna")
    before = person.client.get_cookie(auth.COOKIE)
    sign_in(person)
    assert who(person) == ("oona", "radiologist")
    thief = person.client.application.test_client()
    thief.set_cookie(auth.COOKIE, before.value)
    assert thief.get("/api/v1/me").status_code == 401


def test_logging_out_leads_to_the_providers_logout_with_the_token_and_back(
    visit: Maker, provider: OwnProvider, database: Database
) -> None:
    person = visit()
    sign_in(person)
    answer = person.post("/logout")
    assert answer.status_code == 200
    url = answer.text.partition('class="button" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert f'content="0; url={url.replace("&", "&amp;")}"' in answer.text
    assert url.startswith(f"{provider.issuer}/logout?")
    back = requests.get(url, allow_redirects=False, timeout=30)
    assert (back.status_code, back.headers["Location"]) == (302, "http://localhost/login")
    assert who(person) is None
    with database.read() as session:
        assert all(row.revoked_at for row in session.scalars(select(WebSession)))


def test_where_the_provider_offers_no_logout_it_asks_anew_who_it_is(
    visit: Maker, provider: OwnProvider
) -> None:
    provider.document = {"end_session_endpoint": None}
    person = visit()
    sign_in(person)
    answer = person.post("/logout")
    assert answer.status_code == 303
    page = person.get(answer.headers["Location"]).text
    link = page.partition('class="button" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert "prompt=login" in begin(person, link)


def test_somebody_with_a_password_here_logs_out_here_alone(visit: Maker, provider: OwnProvider) -> None:
    person = visit()
    person.login("anna")
    answer = person.post("/logout")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")


def test_the_button_is_there_where_there_is_a_provider_alone(visit: Maker, visitor: Person) -> None:
    page = visit(label="Clinic & Co").get("/login?next=/system").text
    assert "Clinic &amp; Co" in page
    assert 'href="/login/oidc?next=/system"' in page
    assert "/login/oidc" not in visitor.get("/login").text
    assert visitor.get("/login/oidc").status_code == 404
    assert visitor.get("/login/oidc/back?code=x&state=y").status_code == 404


def test_a_password_and_tokens_of_somebody_from_outside_are_not_made_here(
    visit: Maker, provider: OwnProvider, database: Database
) -> None:
    person = visit()
    sign_in(person)
    page = person.get("/account").text
    assert "changed where you sign in" in page
    assert 'name="current"' not in page
    assert "outlive your account" in page
    change = {"current": PASSWORD, "new": "another long one", "repeat": "another long one"}
    assert person.post("/account", data=change).status_code == 422
    assert (
        person.post("/api/v1/me/password", json={"current": "", "new": "another long one"}).status_code == 422
    )
    assert person.post("/api/v1/me/tokens", json={"name": "outlives"}).status_code == 422
    root = Person(person.client.application.test_client())
    root.login("root")
    [oona] = [user for user in root.get("/api/v1/users").get_json()["users"] if user["name"] == "oona"]
    assert oona["source"] == "oidc"
    assert root.post(f"/api/v1/users/{oona['id']}/password").status_code == 409
    assert root.post(f"/api/v1/users/{oona['id']}/role", json={"role": "admin"}).status_code == 409
    assert "Single sign-on" in root.get("/admin/users").text
    assert root.post(f"/api/v1/users/{oona['id']}/disable").status_code == 200
    with database.read() as session:
        assert session.scalars(select(User).where(User.name == "oona")).one().password_hash is None


def test_a_very_large_token_is_left_out_of_the_logout(visit: Maker, provider: OwnProvider) -> None:
    provider.claims["more"] = "x" * 5000
    person = visit()
    assert sign_in(person).status_code == 303
    assert person.client.get_cookie(outside.HINT, path="/logout") is None
    assert "id_token_hint" not in person.post("/logout").text


def test_two_first_sign_ins_at_once_make_one_account(
    visit: Maker, provider: OwnProvider, monkeypatch
) -> None:
    from sqlalchemy.exc import IntegrityError

    from db import outsiders

    real = outsiders.admit
    lost: list[Any] = []

    def late(session, visitor, **more):
        if not lost:
            lost.append(visitor)
            raise IntegrityError("insert", {}, Exception("unique"))
        return real(session, visitor, **more)

    monkeypatch.setattr(outsiders, "admit", late)
    person = visit()
    assert sign_in(person).status_code == 303
    assert lost
    assert replace(lost[0], name="other").identity == lost[0].identity


def test_a_provider_that_hangs_holds_few_threads_and_local_accounts_log_in(
    visit: Maker, provider: OwnProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "TURN_SECONDS", 0.01)
    person = visit()
    here = person.client.application.extensions[KEY]
    with ExitStack() as busy:
        for _ in range(oidc.AT_ONCE):
            busy.enter_context(here.provider.turn())
        assert person.get("/login/oidc").status_code == 503
        assert person.login("anna").status_code == 303
    assert Person(person.client.application.test_client()).get("/login/oidc").status_code == 303
