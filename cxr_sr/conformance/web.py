"""What is served and used by DICOMweb, from the routes themselves."""

from __future__ import annotations

import re
from functools import cache

from flask import Flask

TRANSACTIONS = ("Store (STOW-RS)", "Search (QIDO-RS)", "Retrieve (WADO-RS)", "Capabilities")
SERVED = frozenset(TRANSACTIONS)
USED = frozenset({"Store (STOW-RS)", "Search (QIDO-RS)", "Retrieve (WADO-RS)"})
CONFIGURED = {
    "Store (STOW-RS)": "`destinations.kind = \"dicomweb\"` (user agent)",
    "Search (QIDO-RS)": "`archives.kind = \"dicomweb\"` (user agent)",
    "Retrieve (WADO-RS)": "`archives.kind = \"dicomweb\"` (user agent)",
}  # fmt: skip


@cache
def resources() -> tuple[tuple[str, str, str, str, str], ...]:
    """Every resource: method, path, what it does, media types or answers, statuses beside the usual ones."""
    from webui import dicomweb
    from webui.api.operations import stated

    app = Flask("conformance")
    app.register_blueprint(dicomweb.blueprint)
    rows = []
    for rule in app.url_map.iter_rules():
        found = stated(app.view_functions[rule.endpoint])
        if found is None:
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        answers = "; ".join(
            f"{status}: {what}" if isinstance(what, str) else f"{status}{': JSON' if what else ''}"
            for status, what in found.answers.items()
        )
        problems = ", ".join(str(status) for status in found.problems)
        methods = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}) or ["OPTIONS"]
        rows += [(method, path, found.summary, answers, problems) for method in methods]
    return tuple(sorted(set(rows), key=lambda row: (row[1].count("/"), row[1], row[0])))


def transactions() -> frozenset[str]:
    """Which of :data:`TRANSACTIONS` the routes serve."""
    found = set()
    for method, path, *_ in resources():
        if method == "POST":
            found.add("Store (STOW-RS)")
        elif method == "OPTIONS":
            found.add("Capabilities")
        elif path.endswith(("/studies", "/series", "/instances")):
            found.add("Search (QIDO-RS)")
        else:
            found.add("Retrieve (WADO-RS)")
    return frozenset(found)
