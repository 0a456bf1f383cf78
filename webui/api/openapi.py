"""The OpenAPI document, made from the routes themselves: what each view states is what the document says.

Its examples are made in `webui.api.examples`; its problems in `webui.problems`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, cast

from flask import Blueprint, Flask, Response, current_app, json
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from webui import auth, idempotency, limits
from webui.api.example_values import FILE, PATH_VALUES, TEXTS
from webui.api.examples import example_of
from webui.api.models import Problem
from webui.api.operations import Operation, operation, stated
from webui.api.webhooks import WebhookMessage
from webui.errors import PROBLEM
from webui.problems import PROBLEMS, body, of_status
from webui.services import services

blueprint = Blueprint("openapi", __name__)

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
VERSION = "1.0"
TAGS = {
    "jobs": "Images brought in, what became of them, and what can be done about it.",
    "batches": "Archives that can be searched, and studies fetched from them.",
    "events": "What happens, as it happens.",
    "review": "Held results that wait for a reader.",
    "judgements": "What readers think of results.",
    "shares": "Links to results for people of the same house.",
    "system": "How the node is.",
    "dashboard": "Figures over time, failures by reason, alerts.",
    "administration": "What administrators look after.",
    "webhooks": "Addresses that are told of jobs.",
    "me": "The person or program that asks.",
    "dicomweb": "DICOM's own web services over sources and results (PS3.18).",
    "operation": "For probes and monitors.",
    "meta": "About this interface.",
}
_TEMPLATE = "#/components/schemas/{model}"
_VARIABLE = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")
_INTRODUCTION = """Enhancement of chest radiographs. Research software, not cleared for diagnosis.

**Signing in.** Programs send `Authorization: Bearer TOKEN`; an administrator makes tokens. Pages use the
cookie of a session, and with every change the header `X-CSRF-Token` (`GET /api/v1/me` tells it).

**Limits.** A token may make a number of requests in a minute (`web.requests_per_minute`).
`RateLimit-Policy` and `RateLimit` say how many and how many are left; one too many is answered with 429 and
`Retry-After`.

**Once.** `POST` requests that take the header `Idempotency-Key` can be sent again under the same key: the
first answer comes again, with `Idempotent-Replayed: true`, and nothing is done twice. A key lives a day.

**Promise.** Within `/api/v1` fields, routes and states are added, never removed or given another meaning; a
program must put up with fields that it does not know.

**Problems.** Errors are answered as `application/problem+json` (RFC 9457). `type` is one of:

"""


@blueprint.get("/openapi.json")
@auth.public
@operation("This document", tag="meta", answers={200: "application/json"})
def openapi() -> Response:
    """The description of every route below /api, /dicomweb and of the probes."""
    kept: dict[str, str] = current_app.extensions.setdefault("cxr_sr_openapi", {})
    if "text" not in kept:  # nothing of it changes while the process lives
        kept["text"] = json.dumps(document(current_app))
    return Response(kept["text"], content_type="application/json")


def rules(app: Flask) -> Iterator[tuple[Rule, str, Operation]]:
    """Every rule with an operation, and each of its methods."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        found = stated(app.view_functions[rule.endpoint])
        if found is not None:
            for method in METHODS:
                if method in (rule.methods or ()):
                    yield rule, method, found


def document(app: Flask) -> dict[str, Any]:
    """The OpenAPI 3.1 document of an application."""
    table = list(rules(app))
    schemas, components = _schemas([row for _rule, _method, row in table])
    paths: dict[str, Any] = {}
    for rule, method, row in table:
        view = app.view_functions[rule.endpoint]
        path = _VARIABLE.sub(r"{\1}", rule.rule)
        paths.setdefault(path, {})[method.lower()] = _operation(rule, row, view, schemas)
    used = {row.tag for _rule, _method, row in table}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cxr-sr",
            "version": VERSION,
            "description": _INTRODUCTION + _table_of_problems(),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": services().settings.web.public_url or "/"}],
        "tags": [{"name": name, "description": words} for name, words in TAGS.items() if name in used],
        "paths": paths,
        "webhooks": {"job": {"post": _webhook(schemas)}},
        "components": {
            "schemas": components,
            "examples": _examples([*schemas]),
            "responses": {f"Problem{status}": _problems(status, schemas) for status in _statuses(table)},
            "headers": _HEADERS,
            "securitySchemes": {
                "session": {
                    "type": "apiKey", "in": "cookie", "name": auth.cookie_name(),
                    "description": "Of a person who has logged in; changes need `X-CSRF-Token` too.",
                },
                "token": {
                    "type": "http", "scheme": "bearer", "description": "An API token, for programs.",
                },
            },
        },
    }  # fmt: skip


_HEADERS: dict[str, Any] = {
    "RateLimit-Policy": {
        "description": "How many requests (`q`) the token may make in how many seconds (`w`).",
        "schema": {"type": "string"},
        "example": limits.headers(limits.Allowance(600, 588, 1.2))["RateLimit-Policy"],
    },
    "RateLimit": {
        "description": "How many are left (`r`), and after how many seconds all of them (`t`).",
        "schema": {"type": "string"},
        "example": limits.headers(limits.Allowance(600, 588, 1.2))["RateLimit"],
    },
    "Retry-After": {
        "description": "Seconds after which to ask again.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 30,
    },
    "Idempotent-Replayed": {
        "description": "`true` when the answer was given before.",
        "schema": {"const": "true"},
        "example": "true",
    },
}
_SAY_WHEN = {409, 429, 503}
"""Statuses whose problems may tell when to ask again."""


def _operation(rule: Rule, row: Operation, view: Any, schemas: dict[type[BaseModel], Any]) -> dict[str, Any]:
    access, repeatable = auth.declared(view), idempotency.takes_keys(view)
    described: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": row.summary,
        "description": _text(view.__doc__, access),
        "tags": [row.tag],
        "responses": {
            str(status): _answer(rule, what, schemas, access, repeatable)
            for status, what in row.answers.items()
        },
    }
    if access != auth.PUBLIC:
        described["security"] = [{"session": []}, {"token": []}]
    for status in sorted(_refusals(row, access) - set(row.answers)):
        described["responses"][str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    parameters = [_path_parameter(rule, name) for name in sorted(rule.arguments)]
    parameters += _query_parameters(row.query)
    parameters += [_KEY] if repeatable else []
    if parameters:
        described["parameters"] = parameters
    if row.body is not None:
        described["requestBody"] = {
            "required": any(field.is_required() for field in row.body.model_fields.values()),
            "content": {"application/json": _content(row.body, schemas)},
        }
    elif row.multipart_file:
        fields = (example_of(row.form) if row.form is not None else None) or {}
        described["requestBody"] = {
            "required": True,
            "content": {"multipart/form-data": {"schema": _form(row), "example": {"file": [FILE], **fields}}},
        }
    return described


def _refusals(row: Operation, access: str | None) -> set[int]:
    """The statuses of problems that an operation may be answered with."""
    problems = {400, 404, 413, 500, *row.problems}
    if access != auth.PUBLIC:
        problems |= {401, 403, 429, 503}
    if row.query or row.body or row.form:
        problems |= {415, 422}
    return problems


def _statuses(table: list[tuple[Rule, str, Operation]]) -> list[int]:
    return sorted({status for _rule, _method, row in table for status in _refusals(row, "")})


def _text(doc: str | None, access: str | None) -> str:
    who = "Open to everybody." if access == auth.PUBLIC else f"Needs the role {access}."
    return f"{' '.join((doc or '').split())} {who}".strip()


def _answer(
    rule: Rule, what: type[BaseModel] | str | None, schemas: dict[type[BaseModel], Any], access: str | None,
    repeatable: bool,
) -> dict[str, Any]:  # fmt: skip
    found: dict[str, Any] = {"description": "Done." if what is None else "The answer."}
    if isinstance(what, str):
        kinds = what.split(", ")  # one, or that which the query asks for
        found |= {"description": "The content.", "content": {kind: _bytes(rule, kind) for kind in kinds}}
    elif what is not None:
        found["content"] = {"application/json": _content(what, schemas)}
    named = ["RateLimit-Policy", "RateLimit"] if access != auth.PUBLIC else []
    named += [idempotency.REPLAYED] if repeatable else []
    if named:
        found["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in named}
    return found


def _bytes(rule: Rule, kind: str) -> dict[str, Any]:
    """Content of a media type that no model describes."""
    content: dict[str, Any] = {"schema": {"type": "string"} if kind.startswith("text/") else {}}
    text = TEXTS.get(rule.endpoint, TEXTS.get(kind))
    return content if text is None else content | {"example": text}


def _content(model: type[BaseModel], schemas: dict[type[BaseModel], Any]) -> dict[str, Any]:
    content = {"schema": schemas[model]}
    if example_of(model) is not None:
        name = model.__name__
        content["examples"] = {name: {"$ref": f"#/components/examples/{name}"}}
    return content


def _examples(models: list[type[BaseModel]]) -> dict[str, Any]:
    named = sorted(models, key=lambda model: model.__name__)
    return {model.__name__: {"value": found} for model in named if (found := example_of(model)) is not None}


def _problems(status: int, schemas: dict[type[BaseModel], Any]) -> dict[str, Any]:
    """Every problem with that status, as one answer."""
    phrase = HTTPStatus(status).phrase
    told = of_status(status)
    content: dict[str, Any] = {"schema": schemas[Problem]}
    if told:
        content["examples"] = {one.kind: {"value": body(one)} for one in told}
    answer: dict[str, Any] = {"description": f"{phrase} (RFC 9457).", "content": {PROBLEM: content}}
    if status in _SAY_WHEN:
        answer["headers"] = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
    return answer


def _table_of_problems() -> str:
    rows = [f"| `urn:cxr-sr:problem:{one.kind}` | {one.status} | {one.detail} |" for one in PROBLEMS]
    return "\n".join(["| type | status | such as |", "| --- | --- | --- |", *rows])


def _webhook(schemas: dict[type[BaseModel], Any]) -> dict[str, Any]:
    return {
        "operationId": "webhook_job",
        "summary": "A job came to a state that the address is told of",
        "description": "Sent to each address of `/api/v1/webhooks`, at least once and in no promised order, "
        "until it answers with 2xx, for a day. No redirect is followed and nothing of the answer's body is "
        "read. `X-Cxr-Sr-Signature` is `t=SECONDS,v1=HEX`: HMAC-SHA-256 under the webhook's secret over "
        "`SECONDS`, a dot and the body as it came.",
        "tags": ["webhooks"],
        "parameters": [
            {
                "name": "X-Cxr-Sr-Signature", "in": "header", "required": True,
                "schema": {"type": "string", "pattern": "^t=[0-9]+,v1=[0-9a-f]{64}$"},
                "example": f"t=1774274400,v1={'5d41402abc4b2a76b9719d911017c592' * 2}",
            }
        ],
        "requestBody": {
            "required": True, "content": {"application/json": _content(WebhookMessage, schemas)},
        },
        "responses": {"2XX": {"description": "Taken."}},
        "security": [],
    }  # fmt: skip


_KEY = {
    "name": idempotency.HEADER, "in": "header", "required": False,
    "description": "A name for this request, at best a random UUID; under it the request can be sent again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    "example": "7c1d4a52-90b7-4a3e-8f0e-3f6d2f5b9a11",
}  # fmt: skip


def _path_parameter(rule: Rule, name: str) -> dict[str, Any]:
    number = type(rule._converters[name]).__name__ == "IntegerConverter"
    schema = {"type": "integer", "minimum": 0} if number else {"type": "string"}
    found = {"name": name, "in": "path", "required": True, "schema": schema}
    return found | ({"example": PATH_VALUES[name]} if name in PATH_VALUES else {})


def _query_parameters(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = model.model_json_schema(mode="validation")
    definitions, examples = schema.get("$defs", {}), example_of(model) or {}
    required = set(schema.get("required", ()))
    return [
        {
            "name": name, "in": "query", "required": name in required, "schema": _inline(value, definitions),
            **({"example": examples[name]} if name in examples else {}),
        }
        for name, value in schema.get("properties", {}).items()
    ]  # fmt: skip


def _form(row: Operation) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    if row.form is not None:
        made = row.form.model_json_schema(mode="validation")
        properties = _inline(made.get("properties", {}), made.get("$defs", {}))
        schema = {"type": "object", "properties": properties}
    schema["properties"] = {
        "file": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}},
        **schema["properties"],
    }
    schema["required"] = ["file"]
    return schema


def _inline(value: Any, definitions: dict[str, Any]) -> Any:
    """`value` with its local references replaced by what they name."""
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            return _inline(definitions[reference.rsplit("/", 1)[1]], definitions)
        return {key: _inline(item, definitions) for key, item in value.items()}
    return [_inline(item, definitions) for item in value] if isinstance(value, list) else value


def _schemas(rows: list[Operation]) -> tuple[dict[type[BaseModel], Any], dict[str, Any]]:
    """Reference of each model that is used, and the components they refer to."""
    answers = {what for row in rows for what in row.answers.values() if isinstance(what, type)}
    answers |= {Problem, WebhookMessage}
    bodies = {row.body for row in rows if row.body is not None}
    wanted = [(model, "serialization") for model in sorted(answers, key=lambda model: model.__name__)]
    wanted += [(model, "validation") for model in sorted(bodies, key=lambda model: model.__name__)]
    references, definitions = models_json_schema(wanted, ref_template=_TEMPLATE)  # type: ignore[arg-type]
    known = {cast("type[BaseModel]", model): schema for (model, _mode), schema in references.items()}
    return known, definitions.get("$defs", {})
