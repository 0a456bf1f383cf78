"""Logs without patient data. Each program is a process of its own, for logging concerns the whole of one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests import peers

PROGRAM = """
import logging, sys, threading, warnings
import structlog
from config import Settings, log
log.configure(Settings(log={{"format": {format!r}, "level": {level!r}}}).log, "worker")
ours = structlog.get_logger("pacs_node.worker")
library = logging.getLogger("pydicom")
{body}
"""


def run(body, format="json", level="info"):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body, format=format, level=level)],
        cwd=peers.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == ""
    return done.stderr


def entries(body, **more):
    return [json.loads(line) for line in run(body, **more).splitlines()]


def test_an_event_is_a_line_of_json_with_its_values_role_and_time():
    [entry] = entries("ours.info('enhanced', job=7, seconds=1.5)")
    time = entry.pop("timestamp")
    assert time.endswith("Z")
    assert entry == {
        "event": "enhanced",
        "job": 7,
        "seconds": 1.5,
        "level": "info",
        "logger": "pacs_node.worker",
        "role": "worker",
    }


def test_people_get_a_line_without_json():
    [line] = run("ours.info('enhanced', job=7)", format="human").splitlines()
    assert "enhanced" in line
    assert "job=7" in line
    assert "{" not in line


def test_a_pipe_is_no_terminal():
    assert entries("ours.info('enhanced')", format="auto")


def test_the_level_is_kept():
    assert entries("ours.debug('x'); ours.info('y')", level="warning") == []
    assert [entry["event"] for entry in entries("ours.debug('x')", level="debug")] == ["x"]


LEAKS = [
    "library.error('DOE^JOHN')",
    "library.error('%s', 'DOE^JOHN')",
    "logging.getLogger('pynetdicom.assoc').warning('DOE^JOHN')",
    "logging.getLogger('pynetdicom.dimse').info('DOE^JOHN')",
    "logging.getLogger('anything').debug('DOE^JOHN')",
    "logging.getLogger('sqlalchemy.engine').info('DOE^JOHN')",
    "logging.warning('DOE^JOHN')",
    "warnings.warn('DOE^JOHN')",
    "raise ValueError('DOE^JOHN')",
    "int('DOE^JOHN')",
    "threading.Thread(target=int, args=('DOE^JOHN',)).start()",
    "library.error('%d %d', 'DOE^JOHN')",
    "open('DOE^JOHN.dcm')",
    """
try:
    int("DOE^JOHN")
except ValueError:
    ours.exception("broke", job=7)
""",
    """
try:
    try:
        int("DOE^JOHN")
    except ValueError as error:
        raise RuntimeError("DOE^JOHN") from error
except RuntimeError:
    library.exception("DOE^JOHN")
""",
    """
from db import Database
from db.models import Base, Patient
database = Database("sqlite://")
Base.metadata.create_all(database.engine)
with database.write() as session:
    session.add_all([Patient(patient_id="DOE^JOHN", name="x"), Patient(patient_id="DOE^JOHN", name="x")])
""",
    """
from pydicom.dataset import Dataset
ds = Dataset()
ds.PatientID = "DOE^JOHN" * 20
ds.StudyInstanceUID = "DOE^JOHN"
""",
]


@pytest.mark.parametrize("format", ["json", "human"])
def test_no_patient_gets_into_the_log_by_what_libraries_and_their_errors_say(format):
    each_as_if_alone = f"""
for number, body in enumerate({LEAKS!r}):
    ours.info("case", number=number)
    try:
        exec(body)
    except Exception:
        sys.excepthook(*sys.exc_info())
"""
    said = run(each_as_if_alone, format=format, level="debug")
    assert said.count("case") == len(LEAKS)
    assert said.count("uncaught") == 5
    assert [line for line in said.splitlines() if "DOE" in line] == []


def test_an_error_is_logged_with_its_kind_and_place_and_that_of_its_cause():
    [entry] = entries(
        """
def decode():
    raise ValueError("DOE^JOHN")
try:
    try:
        decode()
    except ValueError as error:
        raise OSError(28, "No space left on device", "DOE.dcm") from error
except OSError:
    ours.exception("broke")
"""
    )
    lines = entry["exception"].splitlines()
    assert lines[0] == "OSError: No space left on device"
    assert "ValueError" in lines
    assert lines[-1].endswith("in decode")


def test_our_own_sentences_are_kept():
    [entry] = entries(
        "from config import ConfigError\ntry:\n    raise ConfigError('dicom.port: expected a number')\n"
        "except ConfigError:\n    ours.exception('refused')"
    )
    assert entry["exception"].startswith("config.errors.ConfigError: dicom.port: expected a number")


def test_a_library_that_warns_is_still_heard_of():
    [entry] = entries("library.error('DOE^JOHN')")
    assert (entry["level"], entry["logger"], entry["at"]) == ("error", "pydicom", "<string>:8")


def test_setting_up_twice_writes_once():
    body = "log.configure(Settings(log={'format': 'json'}).log, 'web')\nours.info('x')"
    assert [entry["role"] for entry in entries(body)] == ["web"]


def test_somebody_may_listen_and_hears_what_is_written_and_nothing_else():
    body = """
heard = []
log.listen(lambda event: heard.append(dict(event)))
ours.bind(job=7).info("enhanced", seconds=1.5)
ours.debug("too fine")
with structlog.contextvars.bound_contextvars(job=8):
    try:
        raise ValueError("DOE^JANE")
    except ValueError:
        ours.error("broke", exc_info=True)
library.warning("DOE^JANE")
log.listen(None)
ours.info("unheard")
assert [(e["event"], e["job"], e["role"], e["level"]) for e in heard] == [
    ("enhanced", 7, "worker", "info"), ("broke", 8, "worker", "error")], heard
assert "DOE" not in str(heard)
"""
    assert [entry["event"] for entry in entries(body)][-1] == "unheard"


def test_a_listener_that_fails_costs_no_line():
    [entry] = entries("log.listen(lambda event: 1 / 0)\nours.info('enhanced')")
    assert (entry["event"], entry["unheard"]) == ("enhanced", "ZeroDivisionError")
