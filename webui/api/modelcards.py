"""The models of this node: cards, digests, domains, and how often each version was used."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Blueprint, Response
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.exchange import Document
from db.models import Job, ModelVersion
from webui import auth
from webui.api.operations import answer, operation
from webui.services import services

blueprint = Blueprint("modelcards", __name__)

DOCUMENT = "models"
"""The worker writes it at its start."""


class DomainView(BaseModel):
    """The images that a model has learnt from; beyond them its results are guesses."""

    finest_mm: float
    coarsest_mm: float
    shortest_side: int
    p999: float = Field(description="Local consistency of its test images, 99.9th percentile.")


class ModelView(BaseModel):
    name: str
    default: bool
    problem: str | None = Field(description="Why its file is of no use.")
    version: str | None = None
    digest: str | None = Field(None, description="SHA-256 of the file.")
    scales: list[int] = []
    domain: DomainView | None = None
    card: str = Field("", description="In Markdown.")


class UsedView(BaseModel):
    """A version that made results, and how many jobs it was planned for."""

    name: str
    version: str
    digest: str
    first_used_at: datetime
    jobs: int


class ModelsView(BaseModel):
    written_at: datetime | None = Field(description="When the worker told; null: not yet.")
    models: list[ModelView]
    used: list[UsedView]


@blueprint.get("/models")
@auth.role("radiologist")
@operation("The models of this node", tag="system", answers={200: ModelsView})
def models() -> Response:
    """Their cards, and the versions used so far."""
    with services().database.read() as session:
        return answer(overview(session))


def overview(session: Session) -> ModelsView:
    """What the page and the route show."""
    kept = session.get(Document, DOCUMENT)
    said: list[dict[str, Any]] = kept.content.get("models", []) if kept is not None else []
    counts: dict[int, int] = {
        version: number
        for version, number in session.execute(
            select(Job.model_version_id, func.count())
            .where(Job.model_version_id.is_not(None))
            .group_by(Job.model_version_id)
        )
        if version is not None
    }
    versions = session.scalars(select(ModelVersion).order_by(ModelVersion.id.desc()))
    return ModelsView(
        written_at=kept.written_at if kept is not None else None,
        models=[ModelView.model_validate(one) for one in said],
        used=[
            UsedView(
                name=row.name,
                version=row.version,
                digest=row.digest,
                first_used_at=row.first_used_at,
                jobs=counts.get(row.id, 0),
            )
            for row in versions
        ],
    )
