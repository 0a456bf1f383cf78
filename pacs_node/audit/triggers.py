"""What is told when: the one table of audit messages. The exporter sends from it, the manual prints it.

Rows of the audit trail are named by their action, steps of a delivery by `delivery.` and the state reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from pacs_node.audit import codes
from pacs_node.audit.codes import Code


@dataclass(frozen=True, slots=True)
class Trigger:
    """A kind of row and the message that is made of it. `rows` may have wildcards; the first match counts.

    action: EventActionCode; of a transfer that is received `C` becomes `R` where the same bytes were here.
    """

    rows: str
    event: Code
    action: str
    when: str
    type: Code | None = None


TRIGGERS: tuple[Trigger, ...] = (
    Trigger(
        "node.start", codes.APPLICATION_ACTIVITY, "E",
        "a role of the node (receiver, worker, sender, web, scheduler) starts", codes.APPLICATION_START,
    ),
    Trigger(
        "node.stop", codes.APPLICATION_ACTIVITY, "E", "a role stops in order", codes.APPLICATION_STOP,
    ),
    Trigger(
        "login", codes.USER_AUTHENTICATION, "E",
        "somebody signs in (0), fails to (4), or is made to wait after too many attempts (8)", codes.LOGIN,
    ),
    Trigger("logout", codes.USER_AUTHENTICATION, "E", "somebody signs out", codes.LOGOUT),
    Trigger(
        "association.refused", codes.SECURITY_ALERT, "E",
        "a caller is turned away for its AE title, address or certificate; repetitions are counted and told "
        "once a minute", codes.NODE_AUTHENTICATION,
    ),
    Trigger("dimse.store", codes.INSTANCES_TRANSFERRED, "C", "an image was received by C-STORE"),
    Trigger("fetch.store", codes.INSTANCES_TRANSFERRED, "C", "an image was fetched from an archive"),
    Trigger("stow.store", codes.INSTANCES_TRANSFERRED, "C", "an image was received by STOW-RS"),
    Trigger("*.store", codes.IMPORT, "C", "somebody uploaded an image"),
    Trigger(
        "delivery.sending", codes.BEGIN_TRANSFERRING, "E",
        "an object sets out for a destination, each attempt anew",
    ),
    Trigger("delivery.stored", codes.INSTANCES_TRANSFERRED, "R", "a destination has taken it (0)"),
    Trigger("delivery.failed", codes.INSTANCES_TRANSFERRED, "R", "a destination has refused it for good (8)"),
    Trigger(
        "delivery.waiting", codes.INSTANCES_TRANSFERRED, "R", "an attempt failed, another will follow (4)"
    ),
    Trigger("dicomweb.search", codes.QUERY, "E", "somebody searched by QIDO-RS"),
    Trigger(
        "dicomweb.*", codes.INSTANCES_TRANSFERRED, "R",
        "somebody retrieved images, frames, renderings or attributes by WADO-RS",
    ),
    Trigger("jobs.search", codes.QUERY, "E", "somebody searched the jobs by patient, accession or UID"),
    Trigger("archive.search", codes.QUERY, "E", "an archive was searched for studies"),
    Trigger("job.download", codes.EXPORT, "R", "somebody downloaded a result"),
    Trigger("job.export", codes.EXPORT, "R", "somebody took a de-identified result out for research"),
    Trigger("job.view", codes.INSTANCES_ACCESSED, "R", "somebody looked at an image or its result"),
    Trigger("job.retract", codes.INSTANCES_ACCESSED, "D", "a result was withdrawn"),
    Trigger(
        "job.*", codes.INSTANCES_ACCESSED, "U", "a job was retried, cancelled, released or sent elsewhere"
    ),
    Trigger(
        "user.*", codes.SECURITY_ALERT, "E", "an account was added, changed or shut out",
        codes.USER_ATTRIBUTES_CHANGED,
    ),
    Trigger(
        "session.*", codes.SECURITY_ALERT, "E", "an administrator or the user ended a login",
        codes.USER_ATTRIBUTES_CHANGED,
    ),
    Trigger(
        "token.*", codes.SECURITY_ALERT, "E", "an API token was made or revoked",
        codes.USER_ATTRIBUTES_CHANGED,
    ),
    Trigger(
        "password.change", codes.SECURITY_ALERT, "E", "somebody chose a new password",
        codes.USER_ATTRIBUTES_CHANGED,
    ),
    Trigger(
        "audit.seal", codes.AUDIT_LOG_USED, "R",
        "the audit trail was sealed; the message carries the digest, for who verifies the trail",
    ),
    Trigger("audit.verify", codes.AUDIT_LOG_USED, "R", "the audit trail was verified: sound (0), or not (4)"),
    Trigger("audit.export", codes.AUDIT_LOG_USED, "R", "somebody exported the audit trail"),
    Trigger(
        "audit.lost", codes.SECURITY_ALERT, "E",
        "what should have been told is too old to be kept (`retention.events_days`)",
        codes.AUDIT_RECORDING_STOPPED,
    ),
)  # fmt: skip

SILENT: tuple[str, ...] = (
    "*.echo", "*.test", "batch.*", "database.*", "jobs.list", "jobs.retry", "judgement.*", "queue.*",
    "share.*", "storage.*", "upload.begin", "webhook.*",
)  # fmt: skip
"""Actions of the trail that no message is made of: they move no patient data, or other rows tell of it."""


def trigger(rows: str) -> Trigger | None:
    """The first trigger that matches, or None for what is not told."""
    if any(fnmatchcase(rows, pattern) for pattern in SILENT):
        return None
    return next((one for one in TRIGGERS if fnmatchcase(rows, one.rows)), None)
