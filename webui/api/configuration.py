"""The configuration as it is: each setting with its origin, and what the rules would do to an object."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from config import ConfigError, Settings
from config.load import read_again
from config.origins import differing, effective, fingerprint
from db import audit, presence
from webui import auth, errands
from webui.api.operations import answer, operation, read_body, read_query
from webui.errors import Invalid
from webui.security import client_address
from webui.services import Services, services

blueprint = Blueprint("configuration", __name__)

TRY_SECONDS = 60.0
MAX_ATTRIBUTES = 100


class OriginView(BaseModel):
    """Where a value came from. `program`: it was given by whoever started the node."""

    kind: Literal["default", "file", "environment", "program"]
    name: str = Field(description="The file, or the variable.")
    line: int | None


class SettingView(BaseModel):
    key: str = Field(examples=["destinations[0].port"])
    value: str = Field(description="As TOML writes it; what is secret in it is masked.")
    default: str
    description: str
    origin: OriginView
    masked: bool


class StartedView(BaseModel):
    """A role that was started with other settings than stand in the file now."""

    role: str
    host: str
    pid: int


class ConfigurationView(BaseModel):
    file: str | None
    settings: list[SettingView]
    problem: str | None = Field(description="Why the node could not be started again as the file is now.")
    changed: list[str] = Field(
        description="Settings that the file gives otherwise since this server started."
    )
    restart: list[StartedView]


class SettingsQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    q: Annotated[str, StringConstraints(strip_whitespace=True, max_length=64)] = Field(
        "", description="Words that key, value or description must hold."
    )


Typed = Annotated[str, StringConstraints(max_length=1024)]


class Trial(BaseModel):
    """An object to try the rules on. What is typed is said over what a received object says of itself."""

    model_config = ConfigDict(extra="forbid")

    job: int | None = Field(None, ge=1, description="Its source is tried, as it came.")
    attributes: dict[str, Typed] = Field(
        default_factory=dict,
        description="DICOM keyword, or CallingAETitle, CalledAETitle, CallingAddress, Origin, to a value.",
        examples=[{"Modality": "DX", "BodyPartExamined": "CHEST", "CallingAETitle": "ER_PORTABLE"}],
    )
    rows: int | None = Field(None, ge=1, le=65535)
    columns: int | None = Field(None, ge=1, le=65535)


class PassedOver(BaseModel):
    """A rule that did not match, by its first entry that did not."""

    rule: str
    entry: str
    wanted: list[str]
    found: list[str] | None = Field(description="Null for what is about the patient.")
    why: str


class VerdictView(BaseModel):
    """What would become of the object."""

    action: Literal["enhance", "skip", "fail"]
    rule: str = Field(description="`default` where no rule matches; empty where none was asked.")
    code: str
    reason: str
    scale: int | None
    model: str | None
    priority: str | None
    destinations: list[str]
    release: str | None
    forward_original: str | None
    warnings: list[str]
    passed_over: list[PassedOver]


@blueprint.get("/settings")
@auth.role("admin")
@operation(
    "The settings in force", tag="administration", query=SettingsQuery, answers={200: ConfigurationView}
)
def settings() -> Response:
    """Each with its origin, its default and its meaning. Secrets are masked."""
    return answer(configuration(services(), read_query(SettingsQuery).q))


@blueprint.post("/rules/test")
@auth.role("admin")
@operation(
    "Try the rules on an object", tag="administration", body=Trial, answers={200: VerdictView},
    problems=(409, 503, 504),
)  # fmt: skip
def test_rules() -> Response:
    """Which rule decides, and of each before it which entry did not match. The worker answers by its own
    settings; nothing is stored or sent."""
    return answer(tried(read_body(Trial)))


def configuration(here: Services, words: str = "") -> ConfigurationView:
    """What the page and the route show; `words` must all stand in a row."""
    started = here.settings
    problem, now = None, None
    try:
        now = read_again(started)
    except ConfigError as error:
        problem = str(error)
    with here.database.read() as session:
        rows = presence.alive(session)
    wanted = None if now is None else fingerprint(now)
    others = [
        StartedView(role=row.role, host=row.host, pid=row.pid)
        for row in rows
        if wanted is not None and row.info.get("settings") not in {wanted, None}
    ]
    return ConfigurationView(
        file=str(started.sources.file) if started.sources.file is not None else None,
        settings=_rows(started, words),
        problem=problem,
        changed=[] if now is None else differing(started, now),
        restart=others,
    )


def _rows(started: Settings, words: str) -> list[SettingView]:
    found = []
    for row in effective(started):
        text = f"{row.key} {row.value} {row.description} {row.origin.kind} {row.origin.name}".lower()
        if all(word in text for word in words.lower().split()):
            found.append(SettingView.model_validate(row, from_attributes=True))
    return found


def tried(trial: Trial) -> VerdictView:
    """The worker's verdict. Raises :class:`webui.errors.ApiProblem`."""
    if len(trial.attributes) > MAX_ATTRIBUTES:
        raise Invalid(f"At most {MAX_ATTRIBUTES} attributes can be typed.")
    arguments: dict[str, Any] = trial.model_dump(exclude_none=True)
    here = services()
    with here.database.write() as session:
        audit.record(
            session, auth.actor().user, "rules.test", object_type="job" if trial.job else None,
            object_id=trial.job, address=client_address(),
        )  # fmt: skip
    _number, found = errands.run("worker", "rules", arguments, seconds=TRY_SECONDS, forget=True)
    if not found.get("ok"):
        raise Invalid(str(found.get("message") or "It cannot be tried."))
    return VerdictView.model_validate({k: v for k, v in found["verdict"].items() if k != "file"})
