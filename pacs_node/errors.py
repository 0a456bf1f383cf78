"""Why an object is not enhanced: typed by what the caller should do, with a sentence for whoever reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What becomes of a job for this reason."""

    SKIP = "skip"
    """The object is sound but not ours to enhance."""
    FAIL = "fail"
    """The object cannot be worked with; trying again would end the same."""
    RETRY = "retry"
    """It may go better another time."""


class Reason(StrEnum):
    """Codes of everything that examining an object can refuse it for."""

    NOT_AN_IMAGE = "not-an-image"
    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    MISSING_ATTRIBUTE = "missing-attribute"
    UNKNOWN_SYNTAX = "unknown-transfer-syntax"
    NO_PIXELS = "no-pixels"
    MULTI_FRAME = "multi-frame"
    COLOUR = "colour"
    SOP_CLASS = "sop-class"
    UNSUPPORTED_BITS = "unsupported-bits"
    BAD_GEOMETRY = "bad-geometry"
    TOO_LARGE = "too-large"
    BROKEN_STREAM = "broken-stream"
    DECODER_CRASHED = "decoder-crashed"
    DECODER_TIMEOUT = "decoder-timeout"
    DECODER_MEMORY = "decoder-memory"
    DECODER_START = "decoder-start"


OUTCOMES: dict[Reason, Outcome] = dict.fromkeys(Reason, Outcome.FAIL) | {
    Reason.NO_PIXELS: Outcome.SKIP,
    Reason.MULTI_FRAME: Outcome.SKIP,
    Reason.COLOUR: Outcome.SKIP,
    Reason.SOP_CLASS: Outcome.SKIP,
    Reason.UNSUPPORTED_BITS: Outcome.SKIP,
    Reason.DECODER_START: Outcome.RETRY,
}
"""What becomes of a job, for each reason."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason and the sentence that explains it. Sentences carry no patient data and no file name."""

    reason: Reason
    sentence: str

    @property
    def outcome(self) -> Outcome:
        return OUTCOMES[self.reason]


class Refused(Exception):
    """Raised where an object is refused; `refusal` says why."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.refusal = Refusal(reason, sentence)


class GiveUp(Exception):
    """Ends a job as failed with a code and a sentence; another attempt would end the same."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class TryLater(GiveUp):
    """Ends an attempt; it may go better another time."""


class NoRoom(TryLater):
    """What was made, so many bytes, cannot be put away now: no fault of the job, and no attempt of it."""

    def __init__(self, size: int) -> None:
        super().__init__("no-room", "There was no room for what was made; it is made again when there is.")
        self.size = size
