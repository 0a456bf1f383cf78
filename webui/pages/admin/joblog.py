"""What the roles logged of a job."""

from __future__ import annotations

from flask import Blueprint, render_template, request

from webui import auth
from webui.api import joblog as api


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/jobs/<int:job_id>/log", view_func=job_log)


@auth.role("admin")
def job_log(job_id: int) -> str:
    """The newest lines, oldest first; `cursor` in the address leads to older ones."""
    cursor = request.args.get("cursor", "")
    found = api.page(job_id, cursor=int(cursor) if cursor.isdecimal() and len(cursor) < 19 else None)
    return render_template(
        "admin/log.html", job_id=job_id, lines=found.lines, older=found.next, newest=not cursor
    )
