"""What the models of this node are, for the page that shows it: their cards, digests and domains."""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

import enhancer
from config import Settings
from db import Database
from db.exchange import Document
from enhancer.errors import ModelFileError
from enhancer.modelfile import locate, read_label

log = structlog.get_logger(__name__)

DOCUMENT = "models"
"""Name of the document (`db.exchange.Document`); the page reads it."""
LONGEST_CARD = 400_000


def cards(settings: Settings) -> list[dict[str, Any]]:
    """Each shipped and each configured model: name, version, digest, scales, domain, whether it is the
    default, and its card in Markdown; `problem` instead where its file is of no use."""
    configured = [settings.enhancer.model, *(rule.model for rule in settings.rules if rule.model)]
    names = dict.fromkeys([*configured, *enhancer.shipped_names()])
    return [_card(name, name == settings.enhancer.model) for name in names]


def write(settings: Settings, database: Database) -> None:
    """Put the cards where the page reads them; without a database they are not worth the start of a role."""
    content = {"models": cards(settings)}
    try:
        with database.write() as session:
            kept = session.get(Document, DOCUMENT)
            if kept is None:
                session.add(Document(name=DOCUMENT, content=content))
            elif kept.content != content:
                kept.content = content
    except SQLAlchemyError as error:
        log.warning("model cards not written", error=type(error).__name__)


def _card(name: str, default: bool) -> dict[str, Any]:
    said: dict[str, Any] = {"asked": name, "name": name, "default": default, "problem": None, "card": ""}
    try:
        label = read_label(locate(name))
    except ModelFileError as error:
        return said | {"problem": str(error)}
    return said | {
        "name": label.name,
        "version": label.version,
        "digest": label.digest,
        "scales": list(label.scales),
        "domain": {
            "finest_mm": label.domain.spacing[0],
            "coarsest_mm": label.domain.spacing[1],
            "shortest_side": label.domain.side,
            "p999": label.domain.p999,
        },
        "card": (label.card or "")[:LONGEST_CARD],
    }
