from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

from db import Database
from db.objects import ObjectStore
from tests.webui import jobs
from tests.webui.conftest import PACS, Person, dicom
from webui.api import openapi
from webui.api.operations import stated

OPEN = ("/api/", "/dicomweb", "/healthz", "/readyz", "/metrics")


@pytest.fixture
def document(visitor: Person) -> dict[str, Any]:
    found: dict[str, Any] = visitor.get("/api/openapi.json").get_json()
    return found


def test_every_route_for_programs_is_in_the_document_and_nothing_else(
    app: Flask, document: dict[str, Any]
) -> None:
    routes = {
        (openapi._VARIABLE.sub(r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(OPEN)
        for method in (rule.methods or set()) & set(openapi.METHODS)
    }
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert routes == described


def test_every_view_for_programs_states_its_operation(app: Flask) -> None:
    silent = [
        r.rule
        for r in app.url_map.iter_rules()
        if r.rule.startswith(OPEN) and stated(app.view_functions[r.endpoint]) is None
    ]
    assert silent == []


def resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to, or the part itself."""
    while "$ref" in part:
        _, _, kind, name = part["$ref"].split("/")
        part = document["components"][kind][name]
    return part


def test_every_reference_of_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    found = re.findall(r"'#/components/([A-Za-z]+)/([A-Za-z0-9_-]+)'", str(document))
    assert {kind for kind, _name in found} == {"schemas", "examples", "responses", "headers"}
    assert [(kind, name) for kind, name in found if name not in document["components"][kind]] == []
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))


def test_answers_are_what_the_document_says(
    document: dict[str, Any],
    anna: Person,
    root: Person,
    visitor: Person,
    database: Database,
    store: ObjectStore,
) -> None:
    number = anna.upload(("a.dcm", dicom("1.2.1")), ("b.txt", b"text")).get_json()["jobs"][0]["id"]
    jobs.examine(database, store, number)
    jobs.finish(database, store, to=(PACS,))
    anna.upload(("c.dcm", dicom("1.2.2")))
    failed = jobs.fail(database)
    asked: list[tuple[str, str, TestResponse]] = [
        ("get", "/api/v1/me", anna.get("/api/v1/me")),
        ("get", "/api/v1/me", visitor.get("/api/v1/me")),
        ("get", "/api/v1/jobs", anna.get("/api/v1/jobs")),
        ("get", "/api/v1/jobs", anna.get("/api/v1/jobs?limit=0")),
        ("post", "/api/v1/jobs", anna.upload(("a.dcm", dicom("1.2.3")))),
        ("post", "/api/v1/jobs", anna.upload(("a.txt", b"text"))),
        ("post", "/api/v1/jobs/search", anna.post("/api/v1/jobs/search", json={"patient": "zz"})),
        ("post", "/api/v1/jobs/search", anna.post("/api/v1/jobs/search", json={"no": 1})),
        ("get", "/api/v1/jobs/{job_id}", anna.get(f"/api/v1/jobs/{number}")),
        ("get", "/api/v1/jobs/{job_id}", anna.get("/api/v1/jobs/99999")),
        ("get", "/api/v1/jobs/{job_id}/result.png", anna.get(f"/api/v1/jobs/{number}/result.png")),
        ("get", "/api/v1/jobs/{job_id}/result.dcm", anna.get(f"/api/v1/jobs/{failed}/result.dcm")),
        ("post", "/api/v1/jobs/{job_id}/retry", anna.post(f"/api/v1/jobs/{failed}/retry")),
        ("post", "/api/v1/jobs/{job_id}/release", anna.post(f"/api/v1/jobs/{failed}/release")),
        ("post", "/api/v1/jobs/{job_id}/cancel", anna.post(f"/api/v1/jobs/{failed}/cancel")),
        (
            "post",
            "/api/v1/jobs/{job_id}/retract",
            root.post(f"/api/v1/jobs/{number}/retract", json={"reason": "why"}),
        ),
        ("get", "/api/v1/system", anna.get("/api/v1/system")),
        ("post", "/api/v1/destinations/{name}/echo", anna.post("/api/v1/destinations/pacs/echo")),
        ("get", "/healthz", visitor.get("/healthz")),
        ("get", "/readyz", visitor.get("/readyz")),
    ]
    for method, path, answer in asked:
        _check(document, method, path, answer)


def _check(document: dict[str, Any], method: str, path: str, answer: TestResponse) -> None:
    described = document["paths"][path][method]["responses"]
    assert str(answer.status_code) in described, (method, path, answer.status_code, answer.text)
    content = resolved(document, described[str(answer.status_code)]).get("content", {})
    assert answer.mimetype in content, (method, path, answer.mimetype)
    if not answer.mimetype.endswith("json"):
        return
    schema = {**content[answer.mimetype]["schema"], "components": document["components"]}
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(answer.get_json())]
    assert errors == [], (method, path, answer.status_code)
