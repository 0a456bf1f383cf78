"""WADO-RS: attributes of instances in the DICOM JSON model, and the long values that it only points to."""

from __future__ import annotations

import json
from collections.abc import Iterator

from flask import Blueprint, Response

from db.objects import ObjectStore, StoreError
from webui import auth
from webui.api.operations import operation
from webui.dicomweb import answers, frames, header, jsonmodel, resources, shapes
from webui.dicomweb.header import PIXEL_DATA
from webui.dicomweb.media import JSON, OCTETS, Offer, choose, choose_json
from webui.dicomweb.rows import Instance
from webui.errors import NotFound
from webui.multipart import Outgoing
from webui.services import services

blueprint = Blueprint("metadata", __name__)
_PATH = "/studies/<study>/series/<series>/instances/<instance>"


@blueprint.get("/studies/<study>/metadata")
@auth.role("radiologist")
@operation("Attributes of a study (WADO-RS)", tag="dicomweb", answers={200: JSON}, problems=(406,))
def of_study(study: str) -> Response:
    """Attributes of each instance; long binary values are told by their BulkDataURI."""
    return _metadata(resources.instances(study), study)


@blueprint.get("/studies/<study>/series/<series>/metadata")
@auth.role("radiologist")
@operation("Attributes of a series (WADO-RS)", tag="dicomweb", answers={200: JSON}, problems=(406,))
def of_series(study: str, series: str) -> Response:
    """Attributes of each instance; long binary values are told by their BulkDataURI."""
    return _metadata(resources.instances(study, series), study)


@blueprint.get(f"{_PATH}/metadata")
@auth.role("radiologist")
@operation(
    "Attributes of an instance (WADO-RS)", tag="dicomweb", answers={200: JSON}, problems=(406, 409, 410)
)
def of_instance(study: str, series: str, instance: str) -> Response:
    """A list of one; 409 where the header of the object cannot be read."""
    found = resources.instances(study, series, instance)
    with resources.opened(found[0]) as head:
        complete = head.complete
    response = _metadata(found, study, instance)
    return (
        response if complete else answers.warn(response, "Attributes that are too long have been left out.")
    )


def _metadata(found: list[Instance], study: str, instance: str = "") -> Response:
    media = choose_json()
    resources.note("metadata", study, instance, count=len(found))
    rows = [(one.object_key, resources.url(*one.uids), shapes.known(one)) for one in found]
    return Response(_array(services().store, rows), content_type=media)


def _array(store: ObjectStore, rows: list[tuple[str, str, jsonmodel.Model]]) -> Iterator[str]:
    """One instance after the other, so that a study of any size takes the memory of one header."""
    before = "["
    for key, address, known in rows:
        yield before + json.dumps(_model(store, key, address, known))
        before = ","
    yield "]"


def _model(store: ObjectStore, key: str, address: str, known: jsonmodel.Model) -> jsonmodel.Model:
    """Everything in the header; of one that cannot be read what our rows know."""
    try:
        with header.opened(store, key) as found:
            return jsonmodel.of_header(found, lambda path: f"{address}/bulkdata/{path}")
    except (header.Unreadable, StoreError):
        return known


@blueprint.get(f"{_PATH}/bulkdata/<path:where>")
@auth.role("radiologist")
@operation("A long value (WADO-RS)", tag="dicomweb", answers={200: OCTETS}, problems=(406, 409, 410))
def bulkdata(study: str, series: str, instance: str, where: str) -> Response:
    """The bytes that a BulkDataURI points to, in little endian; pixels as their frame."""
    one = resources.one(study, series, instance)
    where = where.upper()
    if where == f"{int(PIXEL_DATA):08X}":
        return frames.answer(one, [1])
    with resources.opened(one) as found:
        bulk = found.bulk.get(int(where, 16)) if len(where) == 8 and _is_hex(where) else None
        inner = jsonmodel.binary(found.ds, where) if bulk is None else None
    if bulk is None and inner is None:
        raise NotFound("There is no such value.")
    chosen = choose((Offer(OCTETS), Offer(OCTETS, multipart=False)))
    resources.note("bulkdata", study, instance)
    store = services().store
    if bulk is not None:
        place = bulk

        def chunks() -> Iterator[bytes]:
            with header.opened(store, one.object_key) as again:
                yield from answers.span(again.stream, place.offset, place.length, swap=place.swap)

        part = Outgoing(OCTETS, chunks, place.length)
    else:
        assert inner is not None
        value = inner[1]
        part = Outgoing(OCTETS, lambda: [value], len(value))
    return answers.together(OCTETS, [part]) if chosen.multipart else answers.alone(part)


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789ABCDEF" for letter in text)
