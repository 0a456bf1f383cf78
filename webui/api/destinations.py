"""Destinations tried in earnest: a test image of nobody is sent to one."""

from __future__ import annotations

from flask import Blueprint, Response
from pydantic import BaseModel, Field

from db import audit
from webui import auth, errands
from webui.api.operations import answer, operation
from webui.errors import ApiProblem, NotFound
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("destinations", __name__)

SEND_SECONDS = 120.0


class TestImage(BaseModel):
    """What a destination said to a test image."""

    destination: str
    ok: bool
    status: str | None = Field(
        description="DIMSE in hexadecimal, HTTP in decimal; null where there was none."
    )
    seconds: float | None
    message: str
    sop_instance_uid: str | None


@blueprint.post("/destinations/<name>/test-image")
@auth.role("admin")
@operation(
    "Send a test image to a destination", tag="administration", answers={200: TestImage}, problems=(503, 504)
)
def test_image(name: str) -> Response:
    """A picture that says that it is a test, of a patient named TEST with the ID TEST, in a study of its own.
    The sender sends it as it sends results."""
    return answer(sent(name))


def sent(name: str) -> TestImage:
    """Let the sender send one. Raises :class:`webui.errors.ApiProblem`."""
    here, who = services(), auth.actor().user
    if here.settings.destination(name) is None:
        raise NotFound("There is no such destination.")
    outcome, detail = "failure", {}
    try:
        _number, found = errands.run("sender", "test-image", {"destination": name}, seconds=SEND_SECONDS)
        outcome = "success" if found.get("ok") is True else "failure"
        detail = {key: found.get(key) for key in ("status", "seconds", "message", "sop_instance_uid")}
    except ApiProblem as problem:
        detail = {"message": problem.detail}
        raise
    finally:
        with here.database.write() as session:
            audit.record(
                session, who, "destination.test", object_type="destination", object_id=name,
                address=client_address(), outcome=outcome, detail=detail,
            )  # fmt: skip
    seconds = found.get("seconds")
    return TestImage(
        destination=name,
        ok=found.get("ok") is True,
        status=str(found["status"]) if found.get("status") else None,
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
        message=str(found.get("message") or ""),
        sop_instance_uid=found.get("sop_instance_uid"),
    )
