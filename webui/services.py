"""What a request needs of the process it runs in: settings, database, store and the event stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from flask import current_app

from config import Settings
from db import Database
from db.objects import ObjectStore
from webui.memo import Memo

if TYPE_CHECKING:
    from webui.api.events import Broadcaster
    from webui.directory import Directory
    from webui.metrics import Metrics
    from webui.oidc import Provider
    from webui.throttle import Throttle
    from webui.trail import Recent

KEY = "cxr_sr"


def _recent() -> Recent:
    from webui.trail import Recent

    return Recent()


@dataclass(frozen=True)
class Services:
    """Made once by `create_app`, shared by all threads."""

    settings: Settings
    database: Database
    store: ObjectStore
    throttle: Throttle
    broadcaster: Broadcaster
    metrics: Metrics
    secure: bool
    """Whether browsers reach us by HTTPS: our own TLS, or a trusted proxy in front."""
    recent: Recent = field(default_factory=_recent)
    """What the audit trail was told lately."""
    memo: Memo = field(default_factory=Memo)
    """Answers that are kept for a moment."""
    provider: Provider | None = None
    """The OpenID Connect provider that people may sign in by."""
    directory: Directory | None = None
    """The LDAP directory whose passwords count."""


def services() -> Services:
    """The services of the application that handles this request."""
    return cast("Services", current_app.extensions[KEY])
