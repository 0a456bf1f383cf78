"""The REST interface at `/api/v1`: jobs, events, system, and the person or program that asks."""

from __future__ import annotations

from flask import Blueprint

from webui.api import (
    access,
    audit,
    batches,
    bulk,
    configuration,
    dashboard,
    deposit,
    destinations,
    events,
    identity,
    joblog,
    jobs,
    judgements,
    me,
    modelcards,
    objects,
    openapi,
    pauses,
    people,
    results,
    review,
    shares,
    system,
    webhooks,
)

blueprint = Blueprint("api", __name__, url_prefix="/api")
for part in (
    deposit.blueprint,
    jobs.blueprint,
    bulk.blueprint,
    pauses.blueprint,
    identity.blueprint,
    objects.blueprint,
    events.blueprint,
    system.blueprint,
    batches.blueprint,
    dashboard.blueprint,
    me.blueprint,
    webhooks.blueprint,
    results.blueprint,
    shares.blueprint,
    judgements.blueprint,
    review.blueprint,
    access.blueprint,
    audit.blueprint,
    configuration.blueprint,
    destinations.blueprint,
    joblog.blueprint,
    modelcards.blueprint,
    people.blueprint,
):
    blueprint.register_blueprint(part, url_prefix="/v1")
blueprint.register_blueprint(openapi.blueprint)
