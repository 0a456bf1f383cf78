"""Logs: one line an event on standard error, for people on a terminal and as JSON elsewhere.

Patient data stays out. Our own events carry ids and UIDs only; what libraries say is another matter: their
messages and the messages of their exceptions quote values (a name that does not fit its VR, the row that a
database refused), so of those only the kind and the place are written.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Protocol

import structlog
from structlog.typing import Processor

ROOMS = ("config", "db", "enhancer", "pacs_node", "webui", "cxr_sr", "__main__")
"""Packages whose own messages may be written as they are."""

_QUIET = {
    # their own levels: below these they repeat data sets, requests or statements
    "pydicom": logging.ERROR,
    "pynetdicom": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "alembic": logging.WARNING,
    "apscheduler": logging.WARNING,
    "werkzeug": logging.WARNING,
    "gunicorn.access": logging.CRITICAL + 1,
    "PIL": logging.WARNING,
}
_SAYS_NO_DATA = ("gunicorn", "apscheduler")
"""Libraries that never see an image: their messages may be written."""

_FRAMES = 12

Listener = Callable[[Mapping[str, Any]], None]
_listener: Listener | None = None


class LogChoice(Protocol):
    """The part of the settings that is needed here (`Settings.log`)."""

    @property
    def level(self) -> str: ...
    @property
    def format(self) -> str: ...


def listen(listener: Listener | None) -> None:
    """Let somebody hear each event of ours that is written, with everything patient data could be in taken
    out already; None ends it. The listener neither waits nor logs.
    """
    global _listener
    _listener = listener


def configure(settings: LogChoice, role: str) -> None:
    """Set up the process's logging, structlog's and the standard library's; may be called again."""
    human = settings.format == "human" or (settings.format == "auto" and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Role(role),
        _errors_without_their_data,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if human
        else structlog.processors.JSONRenderer(default=str)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_matters)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_libraries_without_their_data, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name, least in _QUIET.items():
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(least, level))
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # their texts quote values, and without the text they say nothing
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            _heard,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    logging.raiseExceptions = False  # a broken log call would print its arguments


def _heard(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    listener = _listener
    if listener is not None:
        try:
            listener(event)
        except Exception as error:  # noqa: BLE001 - an event is written whoever listens
            event["unheard"] = type(error).__name__
    return event


def _matters(record: logging.LogRecord) -> bool:
    """What we say ourselves, and warnings of others."""
    return record.levelno >= logging.WARNING or _speaks_plainly(record.name)


def _speaks_plainly(logger: str) -> bool:
    return logger.partition(".")[0] in (*ROOMS, *_SAYS_NO_DATA)


class _Role:
    def __init__(self, role: str) -> None:
        self.role = role

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event.setdefault("role", self.role)
        return event


def _libraries_without_their_data(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace what a library said by where it said it."""
    record: logging.LogRecord = event["_record"]
    if not _speaks_plainly(record.name):
        event["event"] = "a library's message, its text left out"
        event["at"] = f"{record.module}:{record.lineno}"
    return event


def _errors_without_their_data(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Write exceptions as their kinds and frames, and only the messages that are our own."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["exception"] = describe(error)
    return event


def describe(error: BaseException) -> str:
    """An exception and what caused it, without foreign messages: kinds, places, our own sentences."""
    lines: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        lines.append(_headline(current))
        frames = traceback.extract_tb(current.__traceback__)[-_FRAMES:]
        lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n".join(lines)


def _headline(error: BaseException) -> str:
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}" if kind.__module__ != "builtins" else kind.__qualname__
    if kind.__module__.partition(".")[0] in ROOMS:
        return f"{name}: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"  # without the file's name
    return name


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger("cxr_sr").critical("uncaught", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(given: threading.ExceptHookArgs) -> None:
    if given.exc_type is SystemExit or given.exc_value is None:
        return
    thread = given.thread.name if given.thread is not None else None
    structlog.get_logger("cxr_sr").critical("uncaught in a thread", thread=thread, exc_info=given.exc_value)
