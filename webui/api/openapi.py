"""The OpenAPI document, made from the routes themselves: what each view states is what the document says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from flask import Blueprint, Flask, Response, current_app, json
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from webui import auth
from webui.api.models import Problem
from webui.api.operations import Operation, operation, stated
from webui.errors import PROBLEM

blueprint = Blueprint("openapi", __name__)

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_TEMPLATE = "#/components/schemas/{model}"
_VARIABLE = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")


@blueprint.get("/openapi.json")
@auth.public
@operation("This document", tag="meta", answers={200: "application/json"})
def openapi() -> Response:
    """The description of every route below /api, /dicomweb and of the probes."""
    return Response(json.dumps(document(current_app)), content_type="application/json")


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
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cxr-sr",
            "version": "1",
            "description": "Enhancement of chest radiographs. Research software, not cleared for diagnosis.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": auth.COOKIE},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(rule: Rule, row: Operation, view: Any, schemas: dict[type[BaseModel], Any]) -> dict[str, Any]:
    access = auth.declared(view)
    described: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": row.summary,
        "description": _text(view.__doc__, access),
        "tags": [row.tag],
        "responses": {str(status): _answer(what, schemas) for status, what in row.answers.items()},
    }
    problems = {400, 404, 413, 500, *row.problems}
    if access != auth.PUBLIC:
        problems |= {401, 403, 503}
        described["security"] = [{"session": []}, {"token": []}]
    if row.query or row.body or row.form:
        problems |= {415, 422}
    for status in sorted(problems - set(row.answers)):
        described["responses"][str(status)] = _problem(schemas)
    parameters = [_path_parameter(rule, name) for name in sorted(rule.arguments)]
    parameters += _query_parameters(row.query)
    if parameters:
        described["parameters"] = parameters
    if row.body is not None:
        described["requestBody"] = {
            "required": any(field.is_required() for field in row.body.model_fields.values()),
            "content": {"application/json": {"schema": schemas[row.body]}},
        }
    elif row.multipart_file:
        described["requestBody"] = {
            "required": True,
            "content": {"multipart/form-data": {"schema": _form(row)}},
        }
    return described


def _text(doc: str | None, access: str | None) -> str:
    who = "Open to everybody." if access == auth.PUBLIC else f"Needs the role {access}."
    return f"{' '.join((doc or '').split())} {who}".strip()


def _answer(what: type[BaseModel] | str | None, schemas: dict[type[BaseModel], Any]) -> dict[str, Any]:
    if what is None:
        return {"description": "Done."}
    if isinstance(what, str):
        textual = what.startswith("text/")
        schema: dict[str, Any] = {"type": "string"} if textual else {}
        return {"description": "The content.", "content": {what: {"schema": schema}}}
    return {"description": "The answer.", "content": {"application/json": {"schema": schemas[what]}}}


def _problem(schemas: dict[type[BaseModel], Any]) -> dict[str, Any]:
    return {"description": "A problem (RFC 9457).", "content": {PROBLEM: {"schema": schemas[Problem]}}}


def _path_parameter(rule: Rule, name: str) -> dict[str, Any]:
    number = type(rule._converters[name]).__name__ == "IntegerConverter"
    schema = {"type": "integer", "minimum": 0} if number else {"type": "string"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = model.model_json_schema(mode="validation")
    definitions = schema.get("$defs", {})
    required = set(schema.get("required", ()))
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _inline(value, definitions)}
        for name, value in schema.get("properties", {}).items()
    ]


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
    answers = {what for row in rows for what in row.answers.values() if isinstance(what, type)} | {Problem}
    bodies = {row.body for row in rows if row.body is not None}
    wanted = [(model, "serialization") for model in sorted(answers, key=lambda model: model.__name__)]
    wanted += [(model, "validation") for model in sorted(bodies, key=lambda model: model.__name__)]
    references, definitions = models_json_schema(wanted, ref_template=_TEMPLATE)  # type: ignore[arg-type]
    known = {cast("type[BaseModel]", model): schema for (model, _mode), schema in references.items()}
    return known, definitions.get("$defs", {})
