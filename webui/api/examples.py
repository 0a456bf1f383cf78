"""Examples for the OpenAPI document, made of the table in `webui.api.example_values`.

What a schema decides by itself (one word of several, yes or no, a time) needs no value; a text without one is
reported by the tests.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from webui.api.example_values import DAY, VALUES, WHEN, WHOLE


class Missing(LookupError):
    """A field has no value in the table; the message names it."""


@cache
def example_of(model: type[BaseModel]) -> Any:
    """An example of a model as JSON; None where the table lacks a value."""
    try:
        return make(model)
    except Missing:
        return None


def make(model: type[BaseModel]) -> Any:
    """An example of a model as JSON. Raises :class:`Missing`."""
    if model.__name__ in WHOLE:
        return WHOLE[model.__name__]
    schema = model.model_json_schema(mode="serialization")
    return _Maker(schema.get("$defs", {})).object(schema, model.__name__)


class _Maker:
    """Makes examples of a schema and the definitions that it refers to."""

    def __init__(self, definitions: dict[str, Any]) -> None:
        self.definitions = definitions

    def object(self, schema: dict[str, Any], name: str) -> Any:
        fields = schema.get("properties", {})
        return {field: self.field(name, field, part) for field, part in fields.items()}

    def field(self, model: str, field: str, schema: dict[str, Any]) -> Any:
        for key in (f"{model}.{field}", field):
            if key in VALUES and (key != field or self.fits(VALUES[key], schema)):
                return VALUES[key]
        return self.made(schema, f"{model}.{field}")

    def made(self, schema: dict[str, Any], where: str) -> Any:
        schema, name = self.resolved(schema)
        if "anyOf" in schema:
            return self.made(next(one for one in schema["anyOf"] if one.get("type") != "null"), where)
        if "const" in schema or "enum" in schema:
            return schema["const"] if "const" in schema else schema["enum"][0]
        kind = schema.get("type")
        if kind == "array":
            return [self.made(schema["items"], where)]
        if kind == "object" and "properties" in schema:
            return WHOLE[name] if name in WHOLE else self.object(schema, name)
        if kind == "boolean":
            return bool(schema.get("default", False))
        if kind in {"integer", "number"}:
            return schema.get("default") or schema.get("minimum") or 1
        if schema.get("format") in {"date-time", "date"}:
            return WHEN if schema["format"] == "date-time" else DAY
        raise Missing(where)

    def resolved(self, schema: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """What a schema refers to, and that one's name."""
        if "$ref" not in schema:
            return schema, ""
        name = schema["$ref"].rsplit("/", 1)[1]
        return self.definitions[name], name

    def fits(self, value: Any, schema: dict[str, Any]) -> bool:
        """Whether a value that stands by a field's name alone is of that field's kind."""
        schema, _name = self.resolved(schema)
        if "anyOf" in schema:
            return any(self.fits(value, one) for one in schema["anyOf"])
        if "enum" in schema:
            return value in schema["enum"]
        if "const" in schema or "properties" in schema:
            return False
        if schema.get("format") in {"date-time", "date"}:
            return False
        if isinstance(value, list) and schema.get("type") == "array":
            return all(self.fits(one, schema["items"]) for one in value)
        kinds = {
            str: "string",
            bool: "boolean",
            int: "integer",
            float: "number",
            list: "array",
            dict: "object",
        }
        kind = kinds.get(type(value), "null")
        return schema.get("type") == kind or (kind == "integer" and schema.get("type") == "number")
