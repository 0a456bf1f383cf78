"""The rules in their order, and a try-it on a received object or on attributes that somebody types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, render_template, request
from flask_babel import gettext as _
from pydantic import ValidationError

from config import Rule
from db import browse
from webui import auth
from webui.api import configuration as api
from webui.api.configuration import Trial, VerdictView
from webui.errors import ApiProblem
from webui.services import services

LATEST = 12
EXAMPLE = """\
SOPClassUID = 1.2.840.10008.5.1.4.1.1.1.1
Modality = DX
BodyPartExamined = CHEST
ViewPosition = PA
CallingAETitle = ER_PORTABLE
"""


@dataclass
class Asked:
    """What stands in the form."""

    job: str = ""
    attributes: str = ""
    rows: str = ""
    columns: str = ""
    problem: str = ""
    verdict: VerdictView | None = None
    status: int = field(default=200)


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/admin/rules", view_func=rules)
    blueprint.add_url_rule("/admin/rules", endpoint="try_rules", view_func=try_rules, methods=["POST"])


@auth.role("admin")
def rules() -> str:
    """The rules, and an empty form; `job` in the address fills in a received object."""
    job = request.args.get("job", "")
    return _page(Asked(job=job if job.isdecimal() else "", attributes="" if job else EXAMPLE))


@auth.role("admin")
def try_rules() -> tuple[str, int]:
    """The rules with the verdict on what was asked."""
    form = request.form
    texts = {name: form.get(name, "")[:20_000].strip() for name in ("job", "attributes", "rows", "columns")}
    asked = Asked(**texts)  # type: ignore[arg-type]
    try:
        given: dict[str, Any] = {"attributes": _typed(asked.attributes)}
        given |= {name: getattr(asked, name) for name in ("job", "rows", "columns") if getattr(asked, name)}
        asked.verdict = api.tried(Trial.model_validate(given))
    except ValidationError as error:
        asked.problem, asked.status = _wrong(error), 422
    except ValueError as error:
        asked.problem, asked.status = str(error), 422
    except ApiProblem as problem:
        asked.problem, asked.status = problem.detail, problem.status
    return _page(asked), asked.status


def _page(asked: Asked) -> str:
    here = services()
    with here.database.read() as session:
        latest = browse.jobs(session, limit=LATEST).jobs
    return render_template(
        "admin/rules.html",
        rules=[(rule, _patterns(rule), _fate(rule, asked.verdict)) for rule in here.settings.rules],
        asked=asked,
        verdict=asked.verdict,
        latest=latest,
    )


def _typed(text: str) -> dict[str, str]:
    """`Keyword = value` lines; raises ValueError with a sentence."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, mark, value = line.partition("=")
        if not mark or not name.strip():
            raise ValueError(_("Line %(number)s is not of the form Keyword = value.", number=number))
        found[name.strip()] = value.strip().strip('"')
    return found


def _wrong(error: ValidationError) -> str:
    names = sorted({".".join(str(part) for part in item["loc"][:1]) for item in error.errors()})
    return _("This cannot be tried: %(names)s.", names=", ".join(names))


def _patterns(rule: Rule) -> list[tuple[str, str]]:
    return [
        (entry, " | ".join(f"“{one}”" for one in ((wanted,) if isinstance(wanted, str) else wanted)))
        for entry, wanted in rule.match.items()
    ]


def _fate(rule: Rule, verdict: VerdictView | None) -> tuple[str, str]:
    """What became of a rule in a trial: `decides`, `passed` with why, `unasked`, or empty without a trial."""
    if verdict is None or not (verdict.rule or verdict.passed_over):
        return "", ""
    if rule.name == verdict.rule:
        return "decides", ""
    why = next((passed.why for passed in verdict.passed_over if passed.rule == rule.name), None)
    return ("passed", why) if why is not None else ("unasked", "")
