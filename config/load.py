"""Reading the settings: one TOML file, then the environment over it, or a sentence about what is wrong."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, SettingsError

from config.errors import ConfigError
from config.reference import section
from config.section import CONFLICT, FORMS
from config.settings import Settings
from config.sources import Key, Sources, lines_of, paths

FILE_VARIABLE = "CXR_SR_CONFIG"
FILE_NAME = "cxr-sr.toml"
PREFIX = "CXR_SR_"
TEST_PREFIX = "CXR_SR_TEST_"
"""Variables for tests; no setting begins so."""
_SECRET = {"url", "urls", "client_secret", "bind_password"}
"""Keys whose values are not repeated in messages: they may hold a password."""


def load_settings(path: Path | None = None) -> Settings:
    """The settings from `path`, else the file that CXR_SR_CONFIG names, else ./cxr-sr.toml, else defaults.

    Variables CXR_SR_SECTION__KEY (CXR_SR_DATA_DIR for a key at the top) win over the file; lists and tables
    are written as JSON. Raises :class:`ConfigError` with one line: file or variable, key, what was expected.
    """
    file = _file(path)
    values, text = _read(file) if file is not None else ({}, "")
    variables = _variables()
    environment = _from_environment(variables)
    merged = _merge(values, environment)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise ConfigError(_sentence(error, file, variables)) from None
    said = _spread(variables, environment)
    named = None if file is None else file.absolute()
    return settings.read_from(Sources(True, path and path.absolute(), named, lines_of(text), said))


def read_again(settings: Settings) -> Settings:
    """What the settings would be if the node were started now. Raises :class:`ConfigError`.

    Settings that were not read but given by a program are what they are.
    """
    return load_settings(settings.sources.asked) if settings.sources.read else settings


def _spread(variables: Mapping[Key, str], environment: Mapping[str, Any]) -> dict[Key, str]:
    """The variables by the keys that they set: one in JSON may set a few keys of a table."""
    spread: dict[Key, str] = {}
    for key, variable in variables.items():
        value: Any = environment
        for part in key:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            spread |= {(*key, *below): variable for below in paths(value)}
        else:
            spread[key] = variable
    return spread


def _file(path: Path | None) -> Path | None:
    """The file to read; one that was named must be there."""
    named = os.environ.get(FILE_VARIABLE)
    if path is None and named:
        path = Path(named)
    if path is not None:
        if not path.is_file():
            raise ConfigError(f"{path}: expected a configuration file, but there is none")
        return path
    here = Path(FILE_NAME)
    return here if here.is_file() else None


def _read(file: Path) -> tuple[dict[str, Any], str]:
    """What a file says, and its text."""
    try:
        text = file.read_text("utf-8")
        return tomllib.loads(text), text
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: expected text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: expected TOML: {error}") from None


def _variables() -> dict[tuple[str, ...], str]:
    """Keys that the environment sets, with the names of their variables. Raises on one that is no setting."""
    found: dict[tuple[str, ...], str] = {}
    for variable in sorted(os.environ):
        name = variable.upper()
        if not name.startswith(PREFIX) or name == FILE_VARIABLE or name.startswith(TEST_PREFIX):
            continue
        key = tuple(variable[len(PREFIX) :].lower().split("__"))
        model: type[BaseModel] | None = Settings
        for depth, part in enumerate(key):
            if model is None or part not in model.model_fields:
                raise ConfigError(f"{variable}: {'.'.join(key)}: {_unknown(part, _known(key[:depth]))}")
            model = section(model.model_fields[part])
        found[key] = variable
    return found


def _from_environment(variables: Mapping[tuple[str, ...], str]) -> dict[str, Any]:
    try:
        return EnvSettingsSource(Settings)()
    except SettingsError as error:
        wrong = [name for key, name in variables.items() if f'"{key[0]}"' in str(error)]
        key = next((".".join(key) for key, name in variables.items() if name in wrong), "")
        raise ConfigError(f"{' or '.join(wrong) or 'the environment'}: {key}: expected JSON") from None


def _merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; everything else, lists too, is replaced."""
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = _merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _sentence(error: ValidationError, file: Path | None, variables: Mapping[tuple[str, ...], str]) -> str:
    problems = error.errors(include_url=False)
    first = problems[0]
    if first["type"] == CONFLICT:
        key, because = (tuple(first["ctx"][name].split(".")) for name in ("key", "because"))
        origin = _origin(key, None, variables) or _origin(because, file, variables)
        return f"{origin or 'the settings'}: {'.'.join(key)}: {first['msg']}"
    key, expected = _problem(first)
    text = f"{_origin(key, file, variables) or 'the settings'}: {'.'.join(key)}: {expected}"
    more = len({_problem(problem)[0] for problem in problems}) - 1
    return f"{text} (and {more} more)" if more else text


def _problem(details: ErrorDetails) -> tuple[tuple[str, ...], str]:
    """Key and what was expected there."""
    key = tuple(str(part) for part in details["loc"] if not _names_a_type(part))
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return key, _unknown(key[-1], _known(key[:-1]))
    if kind == "value_error":
        expected = str(context.get("error", details["msg"]))
    elif kind == "string_pattern_mismatch":
        expected = f"expected {FORMS.get(context['pattern'], 'text of the form ' + context['pattern'])}"
    else:
        expected = _EXPECTED.get(kind) or _as_expected(details["msg"])
    return key, expected + _got(key, details["input"])


_EXPECTED = {
    "missing": "expected a value, but it is missing",
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "string_type": "expected text",
    "path_type": "expected a path",
    "tuple_type": "expected a list",
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "model_attributes_type": "expected a table",
}
"""What the library's kinds of error ask for, in words of a configuration file."""


def _as_expected(message: str) -> str:
    for beginning in ("Input should be ", "String should have ", "Value should have "):
        if message.startswith(beginning):
            return "expected " + message.removeprefix(beginning)
    return message


def _names_a_type(part: str | int) -> bool:
    """Where several types are possible, the library puts the one it tried into the key."""
    return isinstance(part, str) and (part == "str" or "[" in part)


def _got(key: Sequence[str], value: object) -> str:
    if (
        not key
        or key[-1] in _SECRET
        or not isinstance(value, str | int | float | bool)
        or len(str(value)) > 80
    ):
        return ""
    return f", got {value!r}"


def _origin(key: tuple[str, ...], file: Path | None, variables: Mapping[tuple[str, ...], str]) -> str | None:
    """Where a value came from: its variable, else the file."""
    for length in range(len(key), 0, -1):
        if (variable := variables.get(key[:length])) is not None:
            return variable
    return str(file) if file is not None else None


def _unknown(part: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(part, known, 1)
    if near:
        return f"expected a setting that exists, perhaps {near[0]!r}"
    return f"expected a setting that exists ({', '.join(known)})" if known else "expected nothing below it"


def _known(key: Sequence[str]) -> list[str]:
    """Names that may stand below a key."""
    model: type[BaseModel] | None = Settings
    for part in key:
        if model is not None and not part.isdecimal():
            field = model.model_fields.get(part)
            model = section(field) if field is not None else None
    return [] if model is None else list(model.model_fields)
