"""What each route of the API takes and answers, stated on the view itself; the OpenAPI document reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from flask import Response, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from webui.errors import Invalid, TooLarge, Unsupported

_OPERATION = "cxr_sr_operation"
View = TypeVar("View", bound=Callable[..., Any])
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Operation:
    """A row of the table of routes.

    `answers`: status to a model (JSON), a media type or several with commas (bytes), or None (no body).
    `problems`: those beside the usual ones (400, 401, 403, 404, 422, 500) that are answered as problem+json.
    """

    summary: str
    tag: str
    answers: Mapping[int, type[BaseModel] | str | None]
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    form: type[BaseModel] | None = None
    multipart_file: bool = False
    problems: tuple[int, ...] = field(default=())


def operation(
    summary: str,
    *,
    tag: str,
    answers: Mapping[int, type[BaseModel] | str | None],
    query: type[BaseModel] | None = None,
    body: type[BaseModel] | None = None,
    form: type[BaseModel] | None = None,
    multipart_file: bool = False,
    problems: tuple[int, ...] = (),
) -> Callable[[View], View]:
    """State what a view takes and answers."""

    def state(view: View) -> View:
        row = Operation(summary, tag, answers, query, body, form, multipart_file, problems)
        setattr(view, _OPERATION, row)
        return view

    return state


def stated(view: Callable[..., Any]) -> Operation | None:
    """The operation of a view, None when it states none."""
    return cast("Operation | None", getattr(view, _OPERATION, None))


def answer(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A model as a JSON answer."""
    return Response(model.model_dump_json(), status=status, content_type="application/json", headers=headers)


def read_query(model: type[Model], values: Mapping[str, str] | None = None) -> Model:
    """The query string, or `values` made of it, as `model`; raises :class:`webui.errors.Invalid`."""
    return validated(model, request.args.to_dict() if values is None else dict(values))


def read_body(model: type[Model]) -> Model:
    """The JSON body as `model`; an empty body is an empty object."""
    most = request.max_content_length
    if request.content_length is None and most is not None and len(request.get_data()) >= most:
        raise TooLarge("The request is larger than allowed.")  # chunks: werkzeug cuts them at the limit
    try:
        data = request.get_json() if request.content_length or request.is_json else {}
    except (BadRequest, UnsupportedMediaType) as error:
        raise Unsupported("The body must be JSON.", status=error.code) from error
    return validated(model, data)


def read_form(model: type[Model], lists: frozenset[str] = frozenset()) -> Model:
    """The form fields that `model` knows; names in `lists` may repeat, empty ones are as if missing."""
    data: dict[str, Any] = {}
    for name in model.model_fields:
        values = [value.strip() for value in request.form.getlist(name) if value.strip()]
        if values:
            data[name] = values if name in lists else values[0]
    return validated(model, data)


def validated(model: type[Model], data: Any) -> Model:
    """Values from anywhere as `model`; raises :class:`webui.errors.Invalid`."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        wrong = [
            {"field": ".".join(str(part) for part in item["loc"]) or "body", "message": item["msg"]}
            for item in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        names = ", ".join(sorted({item["field"] for item in wrong}))
        raise Invalid(f"Not acceptable: {names}.", errors=wrong) from error
