"""The settings as a table, read from the models: for the documentation and for `doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from config.settings import Settings

REQUIRED = "required"
NONE = "none"


@dataclass(frozen=True)
class Entry:
    """One setting: `section.key` (`list[].key` in a list of tables), its default in TOML, its meaning."""

    key: str
    default: str
    description: str


def reference() -> list[Entry]:
    """Every setting, in the order of the models."""
    return list(_entries(Settings, ""))


def markdown() -> str:
    """The settings as a Markdown table."""
    rows = [f"| `{entry.key}` | {_cell(entry.default)} | {entry.description} |" for entry in reference()]
    return "\n".join(["| key | default | meaning |", "| --- | --- | --- |", *rows]) + "\n"


def section(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a table or a list of tables; None for a plain value."""
    kind = field.annotation
    for candidate in (kind, *getattr(kind, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _entries(model: type[BaseModel], above: str) -> Iterator[Entry]:
    for name, field in model.model_fields.items():
        key, below = above + name, section(field)
        is_table = below is not None and field.annotation is below
        if not is_table:
            yield Entry(key, default_of(field), field.description or "")
        if below is not None:
            yield from _entries(below, f"{key}[]." if get_origin(field.annotation) is tuple else f"{key}.")


def default_of(field: FieldInfo) -> str:
    """A field's default in TOML, or REQUIRED."""
    if field.is_required():
        return REQUIRED
    return toml(field.get_default(call_default_factory=True, validated_data={}))


def toml(value: Any) -> str:
    """A value as TOML writes it; NONE for None, which TOML cannot say."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(toml(item) for item in value)}]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{key} = {toml(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(default: str) -> str:
    return default if default in {NONE, REQUIRED} else f"`{default}`"
