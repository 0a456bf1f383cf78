"""The pages for people: rendered here, whole and usable without JavaScript; the front end only adds to them.

What is shown comes from `db`; what is changed goes through the REST interface, whose view functions the few
plain form posts here call as well.
"""

from __future__ import annotations

from flask import Blueprint

from webui.pages import (
    acts,
    admin,
    chosen,
    conformance,
    dashboard,
    entry,
    fetch,
    identity,
    job,
    judged,
    queue,
    review,
    shared,
    system,
    upload,
    viewing,
    words,
)

blueprint = Blueprint("pages", __name__)
words.register(blueprint)
viewing.register(blueprint)
for part in (
    entry,
    dashboard,
    queue,
    job,
    acts,
    chosen,
    review,
    shared,
    judged,
    identity,
    upload,
    fetch,
    system,
    conformance,
    admin,
):
    part.register(blueprint)
