"""Every kind of problem that programs are answered with, its status and a sentence such as comes with it."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True)
class Kind:
    """`kind` is the last word of the problem's `type`; `extra` are members beside those of RFC 9457."""

    kind: str
    status: int
    detail: str
    extra: tuple[tuple[str, Any], ...] = ()


def body(kind: Kind) -> dict[str, Any]:
    """The problem as it is answered."""
    return {
        "type": f"urn:cxr-sr:problem:{kind.kind}",
        "title": HTTPStatus(kind.status).phrase,
        "status": kind.status,
        "detail": kind.detail,
        **dict(kind.extra),
    }


def of_status(status: int) -> tuple[Kind, ...]:
    """The kinds that come with a status."""
    return tuple(kind for kind in PROBLEMS if kind.status == status)


def _field(name: str, message: str) -> tuple[tuple[str, Any], ...]:
    return (("errors", [{"field": name, "message": message}]),)


def _refused(file: str, kind: str, detail: str) -> tuple[tuple[str, Any], ...]:
    return (("refused", [{"file": file, "kind": kind, "detail": detail}]),)


_NO_IMAGE = "This is neither DICOM (with its preamble), PNG, JPEG, TIFF nor ZIP."


PROBLEMS: tuple[Kind, ...] = (
    Kind("bad-request", 400, "The request could not be understood."),
    Kind("bad-query", 400, "The query cannot be understood: limit is no number."),
    Kind("bad-frames", 400, "Frames are numbered from 1."),
    Kind("damaged", 400, "The multipart body is damaged."),
    Kind("empty", 400, "The body holds no instance."),
    Kind("login-required", 401, "Log in, or send a valid token."),
    Kind("forbidden", 403, "This needs the role admin."),
    Kind("csrf", 403, "The form is out of date: load the page again."),
    Kind("password-change-required", 403, "Choose a password of your own first."),
    Kind("not-found", 404, "There is no such job."),
    Kind("object-gone", 404, "The object is not kept here any more."),
    Kind("method-not-allowed", 405, "This address does not take that method."),
    Kind("not-acceptable", 406, "This is handed out as application/dicom+json."),
    Kind("conflict", 409, "The state does not allow it now."),
    Kind("state", 409, "A done job cannot become queued.", (("state", "done"),)),
    Kind("not-yet", 409, "The result is not there yet."),
    Kind("key-busy", 409, "The first request with this key is still being answered; ask again."),
    Kind("not-picked", 409, "Pick patient and study from the archive first."),
    Kind("picked-already", 409, "It has this patient and study already."),
    Kind("not-a-picture", 409, "A DICOM image names its patient and study itself."),
    Kind("no-result", 409, "There is no result to share."),
    Kind("no-results", 409, "None of these jobs has a result."),
    Kind("not-judged", 409, "You have not judged this result."),
    Kind("burned-in", 409, "The image says that text is burned into its pixels."),
    Kind("unreadable", 409, "The header of this object cannot be read."),
    Kind("pixels-refused", 409, "The pixels do not lie as the header says."),
    Kind("switched-off", 409, "The webhook is switched off."),
    Kind("refused", 409, "There is a user of that name already."),
    Kind("object-gone", 410, "The result is not kept any more."),
    Kind("retracted", 410, "The result was taken back."),
    Kind("length-required", 411, "The request must state its length."),
    Kind("too-large", 413, "The upload is larger than allowed."),
    Kind("archive-too-large", 413, "The archive unpacks to more than is allowed."),
    Kind("unsupported-content", 415, _NO_IMAGE, _refused("letter.pdf", "unsupported-content", _NO_IMAGE)),
    Kind("invalid-value", 422, "Not acceptable: limit.", _field("limit", "Input should be at most 500")),
    Kind("bad-key", 422, "Idempotency-Key has 1 to 128 visible ASCII characters."),
    Kind("key-reused", 422, "This Idempotency-Key was used for another request; choose a new one."),
    Kind("damaged", 422, "The DICOM file ends within its header."),
    Kind("encrypted", 422, "The file is encrypted."),
    Kind("empty", 422, "The archive holds no file."),
    Kind("not-picked", 422, "Pick patient and study from the archive first."),
    Kind("other-study", 422, "The instance belongs to another study."),
    Kind("rate-limit", 429, "This token may make 600 requests in a minute; slow down."),
    Kind("too-many-attempts", 429, "Too many attempts; try again later."),
    Kind("internal", 500, "Something failed here, not with you. In the log it is 5f0c2a7e."),
    Kind("object-damaged", 500, "The stored object is damaged and is not handed out."),
    Kind("archive", 502, "The search did not work: the archive cannot be reached."),
    Kind("unavailable", 503, "Not now; try again later."),
    Kind("queue-full", 503, "The queue is full; try again later."),
    Kind("intake-paused", 503, "An administrator has paused intake; try again later."),
    Kind("store", 503, "The store does not answer; try again later."),
    Kind("database", 503, "The database does not answer; try again later (5f0c2a7e)."),
    Kind("busy", 503, "Many pictures are being made; try again later."),
    Kind("too-many-streams", 503, "Too many event streams are open; try again later."),
    Kind("role-missing", 503, "No sender is running to do it."),
    Kind("no-answer", 504, "The sender did not answer in time."),
    Kind("no-room", 507, "There is no room left for new images; an administrator has to make some."),
)
