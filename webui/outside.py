"""Signing in by the provider's page, and out there too.

`GET /login/oidc` leads there, `GET /login/oidc/back` is where it leads back to. In between the browser keeps
what was begun, sealed, in a cookie: an answer that this browser did not ask for is refused.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

import structlog
from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as AnyResponse

from webui import auth, credentials, signin
from webui.credentials import Outcome, Refusal
from webui.errors import NotFound
from webui.oidc import BEGUN_SECONDS, Begun, Proof, Provider, ProviderDown, Unproved
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("oidc", __name__)
log = structlog.get_logger(__name__)

BEGUN = "cxr_sr_oidc"
"""Cookie of what was begun."""
HINT = "cxr_sr_oidc_hint"
"""Cookie of the ID token, for the logout alone."""
LONGEST_TARGET = 1024
LONGEST_COOKIE = 3800
"""Browsers take about 4096 bytes with the name and the attributes."""


@dataclass(frozen=True)
class WayIn:
    """How people may sign in by others. label: of the provider's button, empty for none; directory: whether
    passwords of a directory count."""

    label: str
    directory: bool


@blueprint.get("/login/oidc")
@auth.public
def start() -> AnyResponse:
    """To the provider."""
    provider = _provider()
    target = signin.local_path(request.args.get("next", "")[:LONGEST_TARGET])
    wait = credentials.waiting(services(), "", client_address() or "")
    if wait:
        return _refused(Outcome(refusal=Refusal.THROTTLED, wait=wait), target)
    try:
        with provider.turn():
            url, begun = provider.begin(address_of("oidc.back"), target, again="again" in request.args)
        sealed = provider.seal(begun)
    except ProviderDown as error:
        log.error("the sign-in service is of no use", reason=str(error))
        return _refused(Outcome(refusal=Refusal.DOWN), target)
    response = redirect(url, 303)
    _keep(response, BEGUN, sealed, url_for("oidc.start"), BEGUN_SECONDS)
    return response


@blueprint.get("/login/oidc/back")
@auth.public
def back() -> AnyResponse:
    """From the provider, with a code or with a refusal."""
    provider = _provider()
    begun = _begun(provider)
    if begun is None:
        return _refused(Outcome(refusal=Refusal.EXPIRED))
    code = request.args.get("code", "")
    if "error" in request.args or not code:  # its own words are not repeated: anybody can write them there
        return _refused(Outcome(refusal=Refusal.ABORTED), begun.next)
    try:
        with provider.turn():
            proof = provider.finish(begun, address_of("oidc.back"), code)
    except ProviderDown as error:
        log.error("the sign-in service is of no use", reason=str(error))
        return _refused(Outcome(refusal=Refusal.DOWN), begun.next)
    except Unproved as error:
        log.error("a sign-in proves nothing", reason=str(error))
        return _refused(Outcome(refusal=Refusal.UNPROVED), begun.next)
    return _let_in(proof, begun.next)


def _let_in(proof: Proof, target: str) -> AnyResponse:
    outcome = credentials.admitted(services(), proof.visitor)
    if outcome.user is None:
        return _refused(outcome, target, name=proof.visitor.name)
    response = redirect(target, 303)
    auth.set_cookie(response, signin.open_session(outcome.user, by="oidc"))
    _forget(response, BEGUN, url_for("oidc.start"))
    if len(proof.id_token) <= LONGEST_COOKIE:
        hours = services().settings.web.session_hours
        _keep(response, HINT, proof.id_token, url_for("signin.logout"), int(hours * 3600))
    return response


def _begun(provider: Provider) -> Begun | None:
    """What this browser began, if this is the answer to it."""
    cookie, state, issuer = request.cookies.get(BEGUN), request.args.get("state", ""), request.args.get("iss")
    try:
        begun = provider.unseal(cookie) if cookie else None
    except ProviderDown:
        return None
    if begun is None or not hmac.compare_digest(begun.state.encode(), state.encode()):
        return None
    return begun if issuer in (None, provider.settings.issuer) else None  # RFC 9207


def _refused(outcome: Outcome, target: str = signin.HOME, *, name: str = "") -> AnyResponse:
    """The login page, which says why."""
    outcome = credentials.refuse(services(), outcome, name, by="oidc")
    response = signin.again(
        "login.html", outcome.status, outcome.words, next=target, retry_after=outcome.wait
    )
    _forget(response, BEGUN, url_for("oidc.start"))
    return response


def logged_out() -> AnyResponse | None:
    """After a logout here: a page that leads to the provider's own; None where it offers none."""
    provider = services().provider
    if provider is None:
        return None
    url = provider.logout(request.cookies.get(HINT, ""), address_of("pages.login"))
    if url is None:
        response = redirect(url_for("pages.login", again=1), 303)
    else:  # no redirect: the policy of our pages lets forms go to us alone
        response = make_response(render_template("logged_out.html", url=url))
    _forget(response, HINT, url_for("signin.logout"))
    return response


def address_of(endpoint: str) -> str:
    """The whole address of a page, as people reach it from outside."""
    public = services().settings.web.public_url
    return (public or request.host_url).rstrip("/") + url_for(endpoint)


def way_in() -> WayIn:
    """For the login page."""
    web = services().settings.web
    return WayIn(web.oidc.label if web.oidc else "", web.ldap is not None)


blueprint.add_app_template_global(way_in, "way_in")


def _provider() -> Provider:
    provider = services().provider
    if provider is None:
        raise NotFound(_("There is no sign-in by others here."))
    return provider


def _keep(response: AnyResponse, name: str, value: str, path: str, seconds: int) -> None:
    response.set_cookie(
        name, value, max_age=seconds, path=path, httponly=True, samesite="Lax", secure=services().secure
    )


def _forget(response: AnyResponse, name: str, path: str) -> None:
    response.delete_cookie(name, path=path, httponly=True, samesite="Lax", secure=services().secure)
