"""What this service can do (PS3.18, 8.9), as JSON made of the routes and of the tables they read."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, json, request

from webui import auth
from webui.api.operations import operation, stated
from webui.dicomweb.frames import MEDIA
from webui.dicomweb.keys import KEYS, Match

blueprint = Blueprint("capabilities", __name__)


@blueprint.route("/", methods=["OPTIONS"], provide_automatic_options=False)
@auth.role("radiologist")
@operation("Capabilities of the service", tag="dicomweb", answers={200: "application/json"})
def capabilities() -> Response:
    """Resources with their methods and media types, keys of searches, transfer syntaxes of frames."""
    resources: dict[str, Any] = {}
    for rule in current_app.url_map.iter_rules():
        found = stated(current_app.view_functions[rule.endpoint])
        if found is None or found.tag != "dicomweb":
            continue
        path = rule.rule.removeprefix("/dicomweb") or "/"
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            media = sorted({what for what in found.answers.values() if isinstance(what, str)})
            resources.setdefault(path, {})[method] = {"summary": found.summary, "media_types": media}
    body = {
        "service": f"{request.url_root}dicomweb",
        "openapi": f"{request.url_root}api/openapi.json",
        "resources": resources,
        "fuzzymatching": False,
        "search_keys": [
            {"keyword": key.keyword, "tag": key.name, "level": key.level.name.lower(), "matching": key.match}
            for key in KEYS
            if key.match is not Match.NONE
        ],
        "compressed_frames": MEDIA,
    }
    return Response(json.dumps(body), content_type="application/json", headers={"Allow": "OPTIONS"})
