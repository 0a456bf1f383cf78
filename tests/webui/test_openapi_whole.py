"""The OpenAPI document is whole: examples fit, problems exist, and nothing is for pages alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from pydantic import BaseModel

import webui
from tests.webui.conftest import Person
from webui import auth, errors, idempotency, problems
from webui.api import examples, openapi
from webui.api.operations import Operation
from webui.api.webhooks import WebhookMessage

Part = dict[str, Any]


@pytest.fixture
def document(visitor: Person) -> Part:
    found: Part = visitor.get("/api/openapi.json").get_json()
    return found


def _resolved(document: Part, part: Part) -> Part:
    while "$ref" in part:
        _, _, kind, name = part["$ref"].split("/")
        part = document["components"][kind][name]
    return part


def _operations(document: Part) -> Iterator[tuple[str, Part]]:
    for place in ("paths", "webhooks"):
        for path, item in document[place].items():
            for method, operation in item.items():
                yield f"{method} {path}", operation


def _contents(document: Part, operation: Part) -> Iterator[tuple[str, Part]]:
    """Media type and content of the request and of each answer that is no problem."""
    yield from operation.get("requestBody", {}).get("content", {}).items()
    for answer in operation["responses"].values():
        for media, content in _resolved(document, answer).get("content", {}).items():
            if media != errors.PROBLEM:
                yield media, content


def _values(document: Part, content: Part) -> list[Any]:
    named = content.get("examples", {}).values()
    single = [content["example"]] if "example" in content else []
    return single + [_resolved(document, one)["value"] for one in named]


def _wrong(document: Part, schema: Part, value: Any) -> list[str]:
    whole = {**schema, "components": document["components"]}
    return [f"{e.json_path}: {e.message}" for e in Draft202012Validator(whole).iter_errors(value)]


def _told(media: str) -> bool:
    """Whether content of that type can be told in a document: pictures and objects cannot."""
    return media.startswith("text/") or media.endswith("json") or media == "multipart/form-data"


def test_every_request_and_answer_has_an_example_that_fits(document: Part) -> None:
    without, wrong = [], []
    for where, operation in _operations(document):
        for media, content in _contents(document, operation):
            found = _values(document, content)
            if not found and _told(media):
                without.append((where, media, content["schema"].get("$ref")))
            wrong += [(where, media, _wrong(document, content["schema"], value)) for value in found]
        for parameter in operation.get("parameters", ()):
            if "example" not in parameter:
                without.append((where, parameter["name"], ""))
            elif told := _wrong(document, parameter["schema"], parameter["example"]):
                wrong.append((where, parameter["name"], told))
    assert without == [], "say them in webui/api/example_values.py"
    assert [one for one in wrong if one[2]] == []


def test_examples_are_taken_by_the_models_themselves(app: Flask) -> None:
    for _rule, _method, row in openapi.rules(app):
        for model in (row.body, row.form):
            if model is not None:
                model.model_validate(examples.make(model))
    WebhookMessage.model_validate(examples.make(WebhookMessage))


def test_a_field_without_a_value_is_named() -> None:
    class Unknown(BaseModel):
        zzyzx: str

    with pytest.raises(examples.Missing, match=r"Unknown\.zzyzx"):
        examples.make(Unknown)
    assert examples.example_of(Unknown) is None


def test_examples_name_nobody_who_lives(document: Part) -> None:
    names = set()
    for example in document["components"]["examples"].values():
        names |= {value for key, value in _leaves(example["value"]) if key in {"PatientName", "patient.name"}}
    assert names == {"DOE^JANE"}


def _leaves(value: Any, key: str = "", above: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves(part, name, key)
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part, key, above)
    else:
        yield key, value
        yield f"{above}.{key}", value


def test_every_problem_of_an_operation_is_told_with_its_kinds(document: Part) -> None:
    silent, wrong = [], []
    for where, operation in _operations(document):
        for status, answer in operation["responses"].items():
            content = _resolved(document, answer).get("content", {}).get(errors.PROBLEM)
            if content is None:
                continue
            found = _values(document, content)
            if not found:
                silent.append((where, status))
            wrong += [told for value in found if (told := _wrong(document, content["schema"], value))]
            assert all(str(value["status"]) == status for value in found), (where, status)
    assert silent == [], "say the kind in webui/problems.py"
    assert wrong == []


def test_every_kind_of_problem_in_the_code_is_in_the_table() -> None:
    known = {kind.kind for kind in problems.PROBLEMS}
    assert _kinds_in_code() - known == set(), "say the kind in webui/problems.py"
    assert known - _kinds_in_code() == set(), "nothing answers that any more"


def _kinds_in_code() -> set[str]:
    """Words that are given as the kind of a problem or of a refused file."""
    found = {kind for kind, _detail in errors._HTTP.values()}
    rooms = Path(webui.__file__).parent
    for file in [*rooms.glob("*.py"), *rooms.glob("api/*.py"), *rooms.glob("dicomweb/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                found |= set(_given(node))
            elif isinstance(node, ast.Assign):
                found |= set(_assigned(node))
    return found


def _given(call: ast.Call) -> Iterator[str]:
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    raised = [cls.__name__ for cls in (errors.ApiProblem, *_below(errors.ApiProblem))]
    for keyword in call.keywords:
        if keyword.arg == "kind" and name in raised and isinstance(keyword.value, ast.Constant):
            yield str(keyword.value.value)
    if name in {"NotTaken", "ClosedNow"}:
        yield from (str(part.value) for part in call.args[1:] if isinstance(part, ast.Constant))


def _below(cls: type) -> Iterator[type]:
    below: list[type] = type.__subclasses__(cls)
    for one in below:
        yield one
        yield from _below(one)


def _assigned(node: ast.Assign) -> Iterator[str]:
    """What the class of a problem calls itself: `kind = "..."`, or `status, kind = 409, "..."`."""
    names, values = node.targets[0], node.value
    pairs = [(names, values)]
    if isinstance(names, ast.Tuple) and isinstance(values, ast.Tuple):
        pairs = list(zip(names.elts, values.elts, strict=False))
    for name, value in pairs:
        if isinstance(name, ast.Name) and name.id == "kind" and isinstance(value, ast.Constant):
            yield str(value.value)


def test_a_status_and_a_kind_stand_together_once() -> None:
    pairs = [(kind.kind, kind.status) for kind in problems.PROBLEMS]
    assert len(pairs) == len(set(pairs))
    assert all(HTTPStatus(status).phrase and status >= 400 for _kind, status in pairs)


FIXED: dict[str, tuple[set[str], set[str]]] = {
    "document": (
        {"openapi", "info", "paths"}, {"servers", "tags", "webhooks", "components"},
    ),
    "info": ({"title", "version"}, {"description", "license", "summary"}),
    "operation": (
        {"operationId", "summary", "description", "tags", "responses"},
        {"parameters", "requestBody", "security"},
    ),
    "parameter": (
        {"name", "in", "required", "schema", "example"}, {"description"},
    ),
    "answer": ({"description"}, {"content", "headers"}),
    "content": ({"schema"}, {"example", "examples"}),
}  # fmt: skip
"""Fields of the objects of OpenAPI 3.1 that we use: those that must and those that may be there."""


def _has_its_fields(kind: str, part: Part) -> None:
    must, may = FIXED[kind]
    assert must <= set(part) <= must | may, (kind, set(part) ^ must)


def test_the_document_is_built_as_openapi_3_1_says(document: Part) -> None:
    _has_its_fields("document", document)
    _has_its_fields("info", document["info"])
    assert document["openapi"] == "3.1.0"
    tags = {tag["name"] for tag in document["tags"]}
    schemes = set(document["components"]["securitySchemes"])
    for where, operation in _operations(document):
        _has_its_fields("operation", operation)
        assert set(operation["tags"]) <= tags, f"{where}: say the tag in webui/api/openapi.py"
        assert {name for one in operation.get("security", ()) for name in one} <= schemes
        parameters = operation.get("parameters", [])
        for parameter in parameters:
            assert parameter["in"] in {"path", "query", "header"}
            _has_its_fields("parameter", parameter)
        in_path = {one["name"] for one in parameters if one["in"] == "path"}
        assert in_path == set(re.findall(r"\{([^}]+)\}", where))
        assert operation["responses"]
        for answer in operation["responses"].values():
            found = _resolved(document, answer)
            _has_its_fields("answer", found)
            for content in found.get("content", {}).values():
                _has_its_fields("content", content)


def test_who_may_do_what_and_how_often_is_told(app: Flask, document: Part) -> None:
    for rule, method, _row in openapi.rules(app):
        operation = document["paths"][openapi._VARIABLE.sub(r"{\1}", rule.rule)][method.lower()]
        open_to_all = auth.declared(app.view_functions[rule.endpoint]) == auth.PUBLIC
        assert ("security" in operation) is not open_to_all
        assert ("429" in operation["responses"]) is not open_to_all
        if not open_to_all:
            successes = [status for status in operation["responses"] if status < "300"]
            assert all("RateLimit" in operation["responses"][status]["headers"] for status in successes)


def test_uploads_and_batches_take_keys(app: Flask, document: Part) -> None:
    keyed = {
        where for where, operation in _operations(document)
        if any(one["name"] == idempotency.HEADER for one in operation.get("parameters", ()))
    }  # fmt: skip
    assert {"post /api/v1/jobs", "post /api/v1/batches"} <= keyed


ONLY_PEOPLE = "A page's own affair: programs have tokens, and look things up themselves."
EQUIVALENT: dict[str, str] = {
    "signin.login": ONLY_PEOPLE,
    "signin.logout": ONLY_PEOPLE,
    "signin.change_password": "POST /api/v1/me/password",
    "signin.change_language": "POST /api/v1/me/language",
    "pages.end_own_session": "POST /api/v1/me/sessions/{session_id}/end",
    "pages.make_own_token": "POST /api/v1/me/tokens",
    "pages.revoke_own_token": "POST /api/v1/me/tokens/{token_id}/revoke",
    "pages.end_session": "POST /api/v1/sessions/{session_id}/end",
    "pages.make_token": "POST /api/v1/tokens",
    "pages.revoke_token": "POST /api/v1/tokens/{token_id}/revoke",
    "pages.add_user": "POST /api/v1/users",
    "pages.change_user disable": "POST /api/v1/users/{user_id}/disable",
    "pages.change_user enable": "POST /api/v1/users/{user_id}/enable",
    "pages.change_user end": "POST /api/v1/users/{user_id}/sessions/end",
    "pages.change_user role": "POST /api/v1/users/{user_id}/role",
    "pages.change_user password": "POST /api/v1/users/{user_id}/password",
    "pages.echo": "POST /api/v1/destinations/{name}/echo",
    "pages.echo_destination": "POST /api/v1/destinations/{name}/echo",
    "pages.echo_archive": "POST /api/v1/archives/{name}/echo",
    "pages.test_image": "POST /api/v1/destinations/{name}/test-image",
    "pages.try_rules": "POST /api/v1/rules/test",
    "pages.make_webhook": "POST /api/v1/webhooks",
    "pages.change_webhook remove": "DELETE /api/v1/webhooks/{webhook_id}",
    "pages.change_webhook disable": "POST /api/v1/webhooks/{webhook_id}/disable",
    "pages.change_webhook enable": "POST /api/v1/webhooks/{webhook_id}/enable",
    "pages.change_webhook test": "POST /api/v1/webhooks/{webhook_id}/test",
    "pages.act_batch": "POST /api/v1/batches/{batch_id}/pause",
    "pages.start": "POST /api/v1/batches",
    "pages.fetch_post": "POST /api/v1/archives/{name}/search",
    "pages.dashboard_post": "POST /api/v1/dashboard/why",
    "pages.dashboard_retry": "POST /api/v1/dashboard/failures/retry",
    "pages.act retry": "POST /api/v1/jobs/{job_id}/retry",
    "pages.act cancel": "POST /api/v1/jobs/{job_id}/cancel",
    "pages.act release": "POST /api/v1/jobs/{job_id}/release",
    "pages.review_release": "POST /api/v1/jobs/{job_id}/release",
    "pages.review_reject": "POST /api/v1/jobs/{job_id}/reject",
    "pages.identity_post": "POST /api/v1/archives/{name}/search",
    "pages.identity_pick": "POST /api/v1/jobs/{job_id}/identity",
    "pages.judge": "POST /api/v1/jobs/{job_id}/judgement",
    "pages.withdraw": "POST /api/v1/jobs/{job_id}/judgement/withdraw",
    "pages.send_job": "POST /api/v1/jobs/{job_id}/send",
    "pages.share_job": "POST /api/v1/jobs/{job_id}/share",
    "pages.revoke_share": "POST /api/v1/shares/{share_id}/revoke",
    "pages.chosen_zip": "POST /api/v1/results.zip",
    "pages.chosen_send": "POST /api/v1/results/send",
    "pages.queue_post": "POST /api/v1/jobs/search",
    "pages.queue_bulk": "POST /api/v1/jobs/bulk",
    "pages.queue_priority": "POST /api/v1/jobs/{job_id}/priority",
    "pages.queue_pause": "POST /api/v1/pauses",
    "pages.upload_post": "POST /api/v1/jobs",
    "pages.upload_sample": "POST /api/v1/uploads/sample",
}
"""What each form of a page does, and the operation that does the same."""


def _forms(app: Flask) -> set[str]:
    """Every action of a page: its view, and which of several words its address ends with."""
    found = set()
    for rule in app.url_map.iter_rules():
        if "POST" not in (rule.methods or ()) or rule.endpoint.startswith(("api.", "dicomweb.")):
            continue
        words = [
            word
            for converter in rule._converters.values()
            if type(converter).__name__ == "AnyConverter"
            for word in converter.items  # type: ignore[attr-defined]
        ]
        found |= {f"{rule.endpoint} {word}" for word in words} or {rule.endpoint}
    return found


def test_programs_can_do_whatever_a_page_can(app: Flask, document: Part) -> None:
    described = {where for where, _operation in _operations(document)}
    forms = _forms(app)
    assert forms - set(EQUIVALENT) == set(), "say here which operation does the same"
    assert set(EQUIVALENT) - forms == set(), "no page does that any more"
    for form, same in EQUIVALENT.items():
        if same != ONLY_PEOPLE:
            method, _, path = same.partition(" ")
            assert f"{method.lower()} {path}" in described, (form, same)


def test_the_words_of_an_operation_are_there(app: Flask) -> None:
    for rule, _method, row in openapi.rules(app):
        assert isinstance(row, Operation)
        assert row.summary[0].isupper(), rule.rule
        assert not row.summary.endswith("."), rule.rule
        assert app.view_functions[rule.endpoint].__doc__, rule.rule
