"""Addresses that are told of jobs: the list, one with its last calls, and what can be done about each."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from db import webhooks as rows
from webui import auth
from webui.api import webhooks as api
from webui.api.operations import read_form
from webui.errors import ApiProblem
from webui.services import services

LAST = 30
"""Calls that the page of an address shows."""
TONES = {"waiting": "queued", "done": "done", "failed": "failed"}


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/admin/webhooks", view_func=webhooks)
    blueprint.add_url_rule("/admin/webhooks", view_func=make_webhook, methods=["POST"])
    blueprint.add_url_rule("/admin/webhooks/<int:webhook_id>", view_func=webhook)
    blueprint.add_url_rule(
        "/admin/webhooks/<int:webhook_id>/<any(remove, disable, enable, test):action>",
        view_func=change_webhook,
        methods=["POST"],
    )


@auth.role("admin")
def webhooks() -> str:
    """All addresses, and a form for one more."""
    return _page()


@auth.role("admin")
def make_webhook() -> str | tuple[str, int]:
    """The page with the secret of the new address, shown this once."""
    try:
        made = api.made(read_form(api.NewWebhook, lists=frozenset({"states"})))
    except ApiProblem as problem:
        return _page(problem_said=problem.detail, typed=request.form), problem.status
    return _page(made=made)


@auth.role("admin")
def webhook(webhook_id: int) -> str:
    """An address and what was last said to it."""
    with services().database.read() as session:
        found = api.WebhookView.of(api.find(session, webhook_id))
        calls = [api.WebhookCallView.of(row) for row in rows.calls(session, webhook_id, limit=LAST)]
    return render_template("admin/webhook.html", webhook=found, calls=calls, tones=TONES)


@auth.role("admin")
def change_webhook(webhook_id: int, action: str) -> AnyResponse:
    """The REST interface's change as a plain form post."""
    {"remove": api.remove, "disable": api.disable, "enable": api.enable, "test": api.test}[action](webhook_id)
    if action == "remove":
        return redirect(url_for("pages.webhooks"), 303)
    return redirect(url_for("pages.webhook", webhook_id=webhook_id), 303)


def _page(**more: Any) -> str:
    with services().database.read() as session:
        found = [(api.WebhookView.of(row), _last(session, row.id)) for row in rows.listing(session)]
    return render_template("admin/webhooks.html", webhooks=found, states=rows.STATES, tones=TONES, **more)


def _last(session: Any, webhook_id: int) -> api.WebhookCallView | None:
    last = rows.calls(session, webhook_id, limit=1)
    return api.WebhookCallView.of(last[0]) if last else None
