"""Whose image is an uploaded picture? Search an archive, pick one study, confirm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as AnyResponse

from db import browse, picks
from db.models import Job
from webui import auth, trail
from webui.api import batches as archives
from webui.api import identity as api
from webui.api.operations import read_form
from webui.errors import ApiProblem, NotFound
from webui.services import services

_FIELDS = ("archive", "patient", "name", "accession", "study_from", "study_to", "modality")
_TYPED = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber")


@dataclass(frozen=True)
class Whose:
    """What a job's page says of an uploaded picture's patient and study."""

    archive: str
    """Name of the archive that they were picked from; empty where they were not."""
    can_pick: bool


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/jobs/<int:job_id>/identity", view_func=identity)
    blueprint.add_url_rule("/jobs/<int:job_id>/identity", view_func=identity_post, methods=["POST"])
    blueprint.add_url_rule("/jobs/<int:job_id>/identity/pick", view_func=identity_pick, methods=["POST"])
    blueprint.add_app_template_global(whose, "whose")


def whose(job: Job) -> Whose | None:
    """For the job's page; None where the image is DICOM and says so itself."""
    if not picks.is_picture(job.source):
        return None
    found = picks.picked(job.source)
    archive = str((found or {}).get("archive", {}).get("name", ""))
    return Whose(archive, api.allowed(job))


@auth.role("radiologist")
def identity(job_id: int) -> str:
    """The search."""
    return _page(job_id)


@auth.role("radiologist")
def identity_post(job_id: int) -> str | tuple[str, int]:
    """What an archive answered. Patient data: it comes in a body and never stands in an address."""
    form = {name: request.form.get(name, "").strip()[:128] for name in _FIELDS}
    try:
        found = archives.found_in(form["archive"], read_form(archives.ArchiveSearch))
    except ApiProblem as problem:
        return _page(job_id, form, error=_words(problem)), problem.status
    return _page(job_id, form, found)


@auth.role("radiologist")
def identity_pick(job_id: int) -> AnyResponse | tuple[str, int]:
    """Have the result made anew under the study that was chosen."""
    try:
        made = api.pick(job_id, read_form(api.Pick, lists=frozenset({"destination"})))
    except ApiProblem as problem:
        form = {"archive": request.form.get("archive", "")[:64]}
        return _page(job_id, form, error=_words(problem)), problem.status
    return redirect(url_for("pages.job", job_id=made.job.id), 303)


def _words(problem: ApiProblem) -> str:
    """A problem for people: what was wrong with the form is said as it is."""
    wrong = {item["field"] for item in problem.extra.get("errors") or []}
    if "body" in wrong:
        return _("Enter a patient, a name, an accession number or a date.")
    if "study" in wrong:
        return _("Choose a study.")
    return problem.detail


def _page(
    job_id: int,
    form: dict[str, Any] | None = None,
    found: archives.FoundStudies | None = None,
    error: str = "",
) -> str:
    here = services()
    with here.database.read() as session:
        job = browse.job(session, job_id) if job_id < 1 << 63 else None
        if job is None or not picks.is_picture(job.source):
            raise NotFound(_("There is no such picture."))
        trail.looked(job_id)
        said = job.source.demographics or {}
        archive = here.settings.archive((form or {}).get("archive", ""))
        return render_template(
            "identity.html",
            job=job,
            source=job.source,
            whose=whose(job),
            typed={keyword: said[keyword] for keyword in _TYPED if said.get(keyword)},
            archives=here.settings.archives,
            destinations=api.destinations_of(archive) if archive else [],
            form=form or {},
            found=found,
            error=error,
        )
