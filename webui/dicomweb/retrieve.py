"""WADO-RS: instances as they are stored, one after the other in a multipart answer or alone."""

from __future__ import annotations

from flask import Blueprint, Response

from webui import auth
from webui.api.operations import operation
from webui.dicomweb import answers, resources
from webui.dicomweb.media import DICOM, EXPLICIT_LITTLE, MULTIPART, Offer, choose
from webui.dicomweb.rows import Instance
from webui.multipart import Outgoing
from webui.services import services

blueprint = Blueprint("retrieve", __name__)


@blueprint.get("/studies/<study>")
@auth.role("radiologist")
@operation("Retrieve a study (WADO-RS)", tag="dicomweb", answers={200: MULTIPART}, problems=(406, 410))
def study(study: str) -> Response:
    """Sources and results of the study, each as it is stored."""
    return _retrieve(resources.instances(study), study)


@blueprint.get("/studies/<study>/series/<series>")
@auth.role("radiologist")
@operation("Retrieve a series (WADO-RS)", tag="dicomweb", answers={200: MULTIPART}, problems=(406, 410))
def series(study: str, series: str) -> Response:
    """Instances of the series, each as it is stored."""
    return _retrieve(resources.instances(study, series), study)


@blueprint.get("/studies/<study>/series/<series>/instances/<instance>")
@auth.role("radiologist")
@operation(
    "Retrieve an instance (WADO-RS)", tag="dicomweb", answers={200: MULTIPART}, problems=(406, 409, 410)
)
def instance(study: str, series: str, instance: str) -> Response:
    """The instance as it is stored; alone where `application/dicom` is accepted before multipart."""
    return _retrieve(resources.instances(study, series, instance), study, instance)


def _retrieve(found: list[Instance], study: str, instance: str = "") -> Response:
    syntaxes = {one.transfer_syntax_uid or EXPLICIT_LITTLE for one in found}
    stored = tuple(syntaxes) if len(syntaxes) == 1 else ("several",)  # no single wish can be met by several
    offers = [Offer(DICOM, syntaxes=stored)]
    if instance:
        offers.append(Offer(DICOM, multipart=False, syntaxes=stored))
    chosen = choose(
        offers, "Objects are handed out as application/dicom in the transfer syntax that they are stored in."
    )
    store = services().store
    answers.check_whole(store, [(one.object_key, one.sha256) for one in found])
    resources.note("retrieve", study, instance, count=len(found))
    parts = [_part(one) for one in found]
    return answers.together(DICOM, parts) if chosen.multipart else answers.alone(parts[0])


def _part(instance: Instance) -> Outgoing:
    store, key = services().store, instance.object_key
    syntax = instance.transfer_syntax_uid or EXPLICIT_LITTLE
    return Outgoing(f"{DICOM}; transfer-syntax={syntax}", lambda: answers.whole(store, key))
