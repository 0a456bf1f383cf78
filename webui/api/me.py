"""Who the caller is, and a new password for them."""

from __future__ import annotations

from typing import Literal

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from werkzeug.wrappers import Response as AnyResponse

from webui import auth, signin
from webui.api.operations import answer, operation, read_body
from webui.errors import Invalid
from webui.language import LANGUAGES

blueprint = Blueprint("me", __name__)


class Me(BaseModel):
    """The person or program that asks."""

    name: str
    role: Literal["radiologist", "admin"]
    by: Literal["session", "token"]
    csrf_token: str | None = Field(description="To be sent as X-CSRF-Token with changes; null for tokens.")
    must_change_password: bool
    language: Literal["en", "de"] | None = Field(
        description="Language of the pages that the person chose; null: what the browser asks for."
    )


class ChosenLanguage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    language: Literal["en", "de"] | None


class NewPassword(BaseModel):
    model_config = ConfigDict(extra="forbid")

    current: SecretStr
    new: SecretStr


@blueprint.get("/me")
@auth.role("radiologist")
@operation("Who you are", tag="me", answers={200: Me})
def me() -> Response:
    """Name, role and the token that changes need."""
    actor = auth.actor()
    return answer(
        Me(
            name=actor.user,
            role="admin" if actor.may("admin") else "radiologist",
            by="session" if actor.by_session else "token",
            csrf_token=actor.csrf_token,
            must_change_password=actor.must_change_password,
            language=actor.language if actor.language in LANGUAGES else None,
        )
    )


@blueprint.post("/me/language")
@auth.role("radiologist")
@operation("Choose the language of the pages", tag="me", body=ChosenLanguage, answers={204: None})
def language() -> AnyResponse:
    """What programs are told stays English."""
    signin.keep_language(read_body(ChosenLanguage).language)
    return Response(status=204)


@blueprint.post("/me/password")
@auth.role("radiologist")
@operation("Choose a new password", tag="me", body=NewPassword, answers={204: None}, problems=(429,))
def password() -> AnyResponse:
    """Every login of the user ends; the one that asked goes on under a new cookie."""
    wanted = read_body(NewPassword)
    new = wanted.new.get_secret_value()
    error = signin.replace_password(wanted.current.get_secret_value(), new, new)
    if error is not None:
        raise Invalid(error, errors=[{"field": "new", "message": error}])
    response = Response(status=204)
    if auth.actor().by_session:
        signin.renew(response)
    return response
