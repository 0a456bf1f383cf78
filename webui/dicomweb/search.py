"""QIDO-RS: search for studies, series and instances; answers in the DICOM JSON model (PS3.18, 10.6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flask import Blueprint, Response, json, request
from pydantic import BaseModel, Field, create_model
from pydicom.datadict import tag_for_keyword

from db.objects import StoreError
from webui import auth, trail
from webui.api.operations import operation
from webui.dicomweb import answers, header, jsonmodel, keys, resources, rows, shapes
from webui.dicomweb.jsonmodel import Model
from webui.dicomweb.keys import BY_KEYWORD, KEYS, Level, Match
from webui.dicomweb.media import JSON, choose_json
from webui.dicomweb.rows import Instance
from webui.errors import ApiProblem
from webui.services import services

blueprint = Blueprint("search", __name__)

DEFAULT_LIMIT, MAX_LIMIT = 100, 500
MAX_KEYS = 64
_UNSUPPORTED = {
    "fuzzymatching": "The fuzzymatching parameter is not supported. "
    "Only literal matching has been performed.",
    "emptyvaluematching": "The emptyvaluematching parameter is not supported. "
    "Empty Value Matching has not been performed.",
    "multiplevaluematching": "The multiplevaluematching parameter is not supported. "
    "Multiple Value Matching has not been performed.",
}
_OPTIONS = {"limit", "offset", "includefield", "accept", *_UNSUPPORTED}
_NOT_MATCHED = "The attribute %s is not supported for matching. It has been ignored."
_NOT_RETURNED = "The attribute %s is not supported as includefield. It has been ignored."


def _documented() -> type[BaseModel]:
    """The query as the OpenAPI document shows it, made of the table of keys."""
    fields = {
        key.keyword: (str, Field("", description=f"{key.match.value} (also {key.name})"))
        for key in KEYS
        if key.match is not Match.NONE
    }
    options = {
        "includefield": (str, Field("", description="Attributes to return, parted by commas; or `all`.")),
        "fuzzymatching": (str, Field("false", description="Not supported: only `false`.")),
        "limit": (int, Field(DEFAULT_LIMIT, ge=0, description=f"At most {MAX_LIMIT} are returned.")),
        "offset": (int, Field(0, ge=0)),
    }
    return create_model("Query", **fields, **options)  # type: ignore[call-overload, no-any-return]


Query = _documented()


@blueprint.get("/studies")
@auth.role("radiologist")
@operation(
    "Search studies (QIDO-RS)", tag="dicomweb", query=Query, answers={200: JSON, 204: None}, problems=(406,)
)
def studies() -> Response:
    """Studies with at least one instance, newest first."""
    return _search(Level.STUDY)


@blueprint.get("/series")
@auth.role("radiologist")
@operation(
    "Search series (QIDO-RS)", tag="dicomweb", query=Query, answers={200: JSON, 204: None}, problems=(406,)
)
def series() -> Response:
    """Series of sources and of results."""
    return _search(Level.SERIES)


@blueprint.get("/instances")
@auth.role("radiologist")
@operation(
    "Search instances (QIDO-RS)", tag="dicomweb", query=Query, answers={200: JSON, 204: None}, problems=(406,)
)
def instances() -> Response:
    """Instances of sources and of results."""
    return _search(Level.INSTANCE)


@blueprint.get("/studies/<study>/series")
@auth.role("radiologist")
@operation(
    "Series of a study (QIDO-RS)",
    tag="dicomweb",
    query=Query,
    answers={200: JSON, 204: None},
    problems=(406,),
)
def series_of_study(study: str) -> Response:
    """Series of sources and of results."""
    return _search(Level.SERIES, study)


@blueprint.get("/studies/<study>/instances")
@auth.role("radiologist")
@operation(
    "Instances of a study (QIDO-RS)",
    tag="dicomweb",
    query=Query,
    answers={200: JSON, 204: None},
    problems=(406,),
)
def instances_of_study(study: str) -> Response:
    """Instances of sources and of results."""
    return _search(Level.INSTANCE, study)


@blueprint.get("/studies/<study>/series/<series>/instances")
@auth.role("radiologist")
@operation(
    "Instances of a series (QIDO-RS)",
    tag="dicomweb",
    query=Query,
    answers={200: JSON, 204: None},
    problems=(406,),
)
def instances_of_series(study: str, series: str) -> Response:
    """Instances of one series."""
    return _search(Level.INSTANCE, study, series)


@dataclass(frozen=True)
class _Asked:
    """A query, understood. fields: keywords to return beside the usual; everything: `includefield=all`."""

    conditions: rows.Conditions
    fields: tuple[str, ...]
    everything: bool
    limit: int
    offset: int
    warnings: tuple[str, ...]


def _search(level: Level, study: str = "", series: str = "") -> Response:
    media = choose_json()
    asked = _understand()
    within = resources.named(study, series)
    said = request.query_string.decode("ascii", "replace")
    trail.searched("dicomweb.search", {"path": request.path, "query": said})
    above = Level.INSTANCE if series else Level.SERIES if study else Level.STUDY
    found = rows.Found([], 0)
    if asked.limit:
        with services().database.read() as session:
            conditions = [*asked.conditions, *within]
            found = rows.find(session, conditions, level=level, limit=asked.limit, offset=asked.offset)
    body = [_answer(group, level, min(above, level), asked) for group in found.groups]
    response = Response(json.dumps(body), content_type=media) if body else Response(status=204)
    warnings = list(asked.warnings)
    if found.remaining:
        warnings.append(f"There are {found.remaining} additional results that can be requested.")
    return answers.warn(response, *warnings)


def _understand() -> _Asked:
    """The query string. Raises 400 for attributes that do not exist and values that none can have."""
    conditions: list[tuple[keys.Key, keys.Test]] = []
    fields: list[str] = []
    warnings: list[str] = []
    if len(request.args) > MAX_KEYS:
        raise _bad("too many parameters")
    for name, values in request.args.lists():
        if name in _OPTIONS:
            continue
        keyword = _keyword(name)
        fields.append(keyword)
        key = BY_KEYWORD.get(keyword)
        if key is None or key.match is Match.NONE:
            if any(values):
                warnings.append(_NOT_MATCHED % keyword)
            continue
        value = ",".join(values) if key.match is Match.UID else values[0]
        if len(values) > 1 and key.match is not Match.UID:
            raise _bad(f"{keyword} is given twice")
        try:
            condition = keys.condition(key, value)
        except keys.BadValue as error:
            raise _bad(f"{keyword}: {error}") from None
        if condition is not None:
            conditions.append((key, condition))
    included = [part.strip() for text in request.args.getlist("includefield") for part in text.split(",")]
    fields += [_keyword(name) for name in included if name and name != "all"]
    warnings += [_NOT_RETURNED % name for name in fields if tag_for_keyword(name.split(".")[0]) is None]
    for option in _UNSUPPORTED:
        if _switch(option):
            warnings.append(_UNSUPPORTED[option])
    return _Asked(
        conditions=conditions,
        fields=tuple(dict.fromkeys(fields)),
        everything="all" in included,
        limit=min(_number("limit", DEFAULT_LIMIT), MAX_LIMIT),
        offset=_number("offset", 0),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _keyword(name: str) -> str:
    try:
        return keys.canonical(name)
    except keys.UnknownAttribute:
        raise _bad("an attribute is named by its keyword or by eight hexadecimal digits") from None


def _switch(name: str) -> bool:
    value = request.args.get(name, "false").lower()
    if value not in {"true", "false"}:
        raise _bad(f"{name} is true or false")
    return value == "true"


def _number(name: str, default: int) -> int:
    text = request.args.get(name, "") or str(default)
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise _bad(f"{name} is a whole number, zero or more")
    return int(text)


def _bad(why: str) -> ApiProblem:
    return ApiProblem(f"The query cannot be understood: {why}.", status=400, kind="bad-query")


def _answer(group: list[Instance], level: Level, above: Level, asked: _Asked) -> Model:
    fields = asked.fields
    if asked.everything:
        fields += tuple(key.keyword.split(".")[0] for key in KEYS) + keys.OF_STUDY + keys.OF_SERIES
    found = shapes.shaped(group, level, above, fields)
    missing = [
        keyword
        for keyword in dict.fromkeys(fields)
        if keys.level_of(keyword) <= level and keyword.split(".")[0] not in BY_KEYWORD
    ]
    whole = asked.everything and level is Level.INSTANCE
    if missing or whole:
        found = _from_header(group[0], missing, whole=whole) | found
    return dict(sorted(found.items()))


def _from_header(instance: Instance, missing: Iterable[str], *, whole: bool) -> Model:
    """Attributes that our rows do not hold, read from the object; one that cannot be read has none."""
    try:
        with header.opened(services().store, instance.object_key) as opened:
            if whole:
                model = jsonmodel.of_header(opened, lambda _path: "")
                return {tag: value for tag, value in model.items() if "BulkDataURI" not in value}
            tags = {tag_for_keyword(keyword.split(".")[0]) for keyword in missing} - {None}
            found = {f"{tag:08X}": jsonmodel.attribute(opened.ds, tag) for tag in tags if tag is not None}
            return {name: value for name, value in found.items() if value is not None}
    except (header.Unreadable, StoreError):
        return {}
