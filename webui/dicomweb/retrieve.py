"""WADO-RS: instances as they are stored, one after the other in a multipart answer or alone."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import structlog
from flask import Blueprint, Response, request
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_options_header

from db import audit
from db.objects import ObjectStore, StoreError
from webui import auth
from webui.api.operations import operation
from webui.dicomweb import rows
from webui.dicomweb.rows import Instance
from webui.errors import ApiProblem, NotFound
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("retrieve", __name__)
log = structlog.get_logger(__name__)

DICOM = "application/dicom"
MULTIPART = "multipart/related"
CHUNK = 256 << 10
_ANY = {"*/*", "multipart/*"}


@blueprint.get("/studies/<study>")
@auth.role("radiologist")
@operation("Retrieve a study (WADO-RS)", tag="dicomweb", answers={200: MULTIPART}, problems=(406, 410))
def study(study: str) -> Response:
    """Sources and results of the study, each as it is stored."""
    return _retrieve(rows.Filter(study=study))


@blueprint.get("/studies/<study>/series/<series>")
@auth.role("radiologist")
@operation("Retrieve a series (WADO-RS)", tag="dicomweb", answers={200: MULTIPART}, problems=(406, 410))
def series(study: str, series: str) -> Response:
    """Instances of the series, each as it is stored."""
    return _retrieve(rows.Filter(study=study, series=series))


@blueprint.get("/studies/<study>/series/<series>/instances/<instance>")
@auth.role("radiologist")
@operation("Retrieve an instance (WADO-RS)", tag="dicomweb", answers={200: MULTIPART}, problems=(406, 410))
def instance(study: str, series: str, instance: str) -> Response:
    """The instance as it is stored; alone where `application/dicom` is accepted before multipart."""
    return _retrieve(rows.Filter(study=study, series=series, instance=instance), single=True)


def _retrieve(wanted: rows.Filter, *, single: bool = False) -> Response:
    if any(letter in value for value in (wanted.study, wanted.series, wanted.instance) for letter in "*?,"):
        raise NotFound("There is no such instance.")
    alone = _accepted(single=single)
    here = services()
    with here.database.read() as session:
        found = rows.instances(session, wanted)
    if not found:
        raise NotFound("There is no such instance.")
    _check_syntax(found)
    with here.database.write() as session:
        audit.record(
            session,
            auth.actor().user,
            "dicomweb.retrieve",
            object_type="instance" if single else "study",
            object_id=wanted.instance or wanted.study,
            address=client_address(),
            detail={"instances": len(found)},
        )
    if alone:
        with here.store.open(found[0].object_key):  # a 404 comes before the answer begins
            pass
        return Response(_chunks(here.store, found[0]), content_type=DICOM)
    boundary = uuid.uuid4().hex
    kind = f'{MULTIPART}; type="{DICOM}"; boundary={boundary}'
    return Response(_multipart(here.store, found, boundary), content_type=kind)


def _accepted(*, single: bool) -> bool:
    """Whether one instance goes out alone; raises 406 for what we do not make."""
    accepts = request.accept_mimetypes
    if not accepts:
        return False
    for value, quality in _by_quality(accepts):
        media, options = parse_options_header(value)
        if quality <= 0:
            continue
        if media == MULTIPART and options.get("type", DICOM) == DICOM:
            return False
        if media in _ANY:
            return False
        if media in {DICOM, "application/*"} and single:
            return True
    raise ApiProblem("Only application/dicom is handed out here.", status=406, kind="not-acceptable")


def _by_quality(accepts: MIMEAccept) -> list[tuple[str, float]]:
    return sorted(((value, quality) for value, quality in accepts), key=lambda item: -item[1])


def _check_syntax(found: list[Instance]) -> None:
    """Objects go out as they are: a wish for another transfer syntax cannot be met."""
    wishes = {
        parse_options_header(value)[1].get("transfer-syntax") for value, _quality in request.accept_mimetypes
    } - {None, "*"}
    known = {instance.transfer_syntax_uid for instance in found} - {None}
    if wishes and not known <= wishes:
        raise ApiProblem(
            "The objects are stored in another transfer syntax; ask for transfer-syntax=*.",
            status=406,
            kind="not-acceptable",
        )


def _multipart(store: ObjectStore, found: list[Instance], boundary: str) -> Iterator[bytes]:
    for instance in found:
        yield f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
        yield from _chunks(store, instance)
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _chunks(store: ObjectStore, instance: Instance) -> Iterator[bytes]:
    try:
        with store.open(instance.object_key) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except StoreError:
        log.error("object missing", key=instance.object_key)
        raise
