"""What the settings are made of: the base of every section, and the types that several share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
"""An application entity title: 1 to 16 characters of ISO 646 without backslash (PS3.5, VR AE)."""

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Priority = Literal["stat", "routine", "bulk"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
"""A name of ours: letters, digits, dot, underscore, hyphen."""


def _number_if_written_so(value: Any) -> Any:
    """The environment knows only text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Scale = Annotated[Literal["auto", 2, 4], BeforeValidator(_number_if_written_so)]


CONFLICT = "conflict"
"""Kind of the error for settings that contradict each other."""

DATABASE_URL = r"^(sqlite:///.+|postgresql\+psycopg://.+)$"
STORAGE_URL = r"^(file://(/|\{data_dir\})|s3://[^/]).*$"
FORMS = {
    r"^[ -\[\]-~]+$": "1 to 16 characters of ASCII without backslash",
    r"^[A-Za-z0-9._-]+$": "letters, digits, dots, underscores and hyphens",
    DATABASE_URL: "sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME",
    STORAGE_URL: "file:///FOLDER or s3://BUCKET/PREFIX",
}
"""Patterns of settings in words, for messages."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """The library would take true for 1."""
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and field.annotation in {int, float}:
            raise ValueError("expected a number")
        return value
