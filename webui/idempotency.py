"""The header `Idempotency-Key`: what is sent again under its key is answered again, not done again.

A key is for one user and one request. What makes a request the same are its method, its address, the fields
of its form (the session's token left out), and of each file the name, the length and the SHA-256 of its
bytes; of a JSON request its bytes. The files lie in the spool by then, so nothing is held in memory. An
answer that is a problem is not kept: nothing was done, and the next attempt under the same key may do it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from flask import Response, json, request

from db import idempotency
from db.idempotency import Answered
from webui import auth, csrf
from webui.errors import Conflict, Invalid
from webui.services import services

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
"""Stands with an answer that was given before."""
RETRY_SECONDS = 2
_KEY = re.compile(r"[\x21-\x7e]{1,128}")
_MARK = "cxr_sr_idempotent"

View = TypeVar("View", bound=Callable[..., Response])


def idempotent(view: View) -> View:
    """Let a view that makes something be asked twice. Its answers must be JSON objects without secrets."""

    @wraps(view)
    def once(*args: object, **values: object) -> Response:
        key = given()
        if key is None:
            return view(*args, **values)
        return _once(key, lambda: view(*args, **values))

    setattr(once, _MARK, True)
    return cast("View", once)


def takes_keys(view: Callable[..., object]) -> bool:
    """Whether a view was declared :func:`idempotent`."""
    return getattr(view, _MARK, False)


def given() -> str | None:
    """The key of this request, with or without the quotes of the IETF's draft; None without one."""
    raw = request.headers.get(HEADER)
    if raw is None:
        return None
    key = raw.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not _KEY.fullmatch(key):
        raise Invalid(f"{HEADER} has 1 to 128 visible ASCII characters.", kind="bad-key")
    return key


def _once(key: str, act: Callable[[], Response]) -> Response:
    database, who = services().database, auth.actor()
    try:
        found = idempotency.claim(database, who.user_id, key, digest())
    except idempotency.KeyReused:
        raise Invalid(
            f"This {HEADER} was used for another request; choose a new one.", kind="key-reused"
        ) from None
    except idempotency.KeyBusy:
        raise Conflict(
            "The first request with this key is still being answered; ask again.", kind="key-busy",
            headers={"Retry-After": str(RETRY_SECONDS)},
        ) from None  # fmt: skip
    if isinstance(found, Answered):
        return Response(
            json.dumps(found.answer), status=found.status, content_type="application/json",
            headers={REPLAYED: "true"},
        )  # fmt: skip
    try:
        response = act()
    except BaseException:
        idempotency.give_up(database, found)
        raise
    if response.status_code < 300:
        idempotency.settle(database, found, response.status_code, response.get_json())
    else:
        idempotency.give_up(database, found)
    return response


def digest() -> str:
    """SHA-256 of what makes this request the same as another, as 64 hexadecimal digits."""
    told = hashlib.sha256()

    def add(*parts: str) -> None:
        for part in parts:
            data = part.encode("utf-8", "surrogatepass")
            told.update(len(data).to_bytes(8, "big") + data)

    add(request.method, request.path)
    if request.mimetype not in {"multipart/form-data", "application/x-www-form-urlencoded"}:
        told.update(request.get_data())
        return told.hexdigest()
    for name, values in sorted(request.form.lists()):
        if name != csrf.FIELD:
            add("field", name, *values)
    for name, files in sorted(request.files.lists()):
        for file in files:
            found = hashlib.file_digest(cast("Any", file.stream), "sha256")
            size = file.stream.tell()
            file.stream.seek(0)
            add("file", name, file.filename or "", str(size), found.hexdigest())
    return told.hexdigest()
