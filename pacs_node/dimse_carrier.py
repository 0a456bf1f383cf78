"""Objects by C-STORE, negotiated for exactly what is sent, over one association as long as it fits."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.presentation import PresentationContext, build_context

from config import Destination
from config.settings import DicomSettings
from pacs_node import codecs, scu, statuses, transcode
from pacs_node.carrier import Parcel, Receipt, Undeliverable

log = structlog.get_logger(__name__)


class DimseCarrier:
    """A storage SCU. An association that failed in any way is never used again (a late answer would be read
    as the next one's)."""

    def __init__(self, dicom: DicomSettings) -> None:
        self.dicom = dicom
        self._stack = ExitStack()
        self._destination: Destination | None = None
        self._assoc: Association | None = None
        self._refused: set[tuple[str, str]] = set()
        """SOP classes and transfer syntaxes that the destination has refused."""
        self._message_id = 0

    def carry(self, parcel: Parcel) -> Receipt:
        """See :class:`pacs_node.carrier.Carrier`."""
        with self._hanging_up():
            answer = self._store(parcel)
        text = statuses.describe(answer.status, answer.comment)
        return Receipt(statuses.row(answer.status).verdict, answer.status, text)

    def close(self) -> None:
        """Release the association, if one is open."""
        self._assoc = None
        with contextlib.suppress(scu.PeerError):
            self._stack.close()
        self._stack = ExitStack()

    @contextmanager
    def _hanging_up(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if self._assoc is not None:
                scu.hang_up(self._assoc)
            self.close()
            raise

    def _store(self, parcel: Parcel) -> scu.Stored:
        part10 = parcel.part10
        smaller = self._compressed(parcel)
        syntaxes = _syntaxes(
            part10.transfer_syntax_uid, smaller.file_meta.TransferSyntaxUID if smaller else None
        )
        assoc, context = self._context(parcel.destination, part10.sop_class_uid, syntaxes)
        accepted = str(context.transfer_syntax[0])
        if smaller is not None and accepted == smaller.file_meta.TransferSyntaxUID:
            stream = transcode.data_set(smaller)
        elif accepted == part10.transfer_syntax_uid:
            stream = parcel.stream
            stream.seek(part10.offset)
        else:
            stream = _as_implicit(parcel.stream)
        self._message_id = self._message_id % 65535 + 1
        return scu.store(
            assoc,
            context,
            part10.sop_class_uid,
            part10.sop_instance_uid,
            stream,
            message_id=self._message_id,
            timeout=self.dicom.dimse_timeout,
        )

    def _compressed(self, parcel: Parcel) -> Dataset | None:
        """One of our objects in the encoding that the destination wants; None: it goes as it is.

        It is made before the association is, so that no peer waits for an encoder.
        """
        wanted = transcode.SYNTAXES.get(parcel.destination.transfer_syntax)
        if wanted is None or not parcel.ours or (parcel.part10.sop_class_uid, wanted) in self._refused:
            return None
        try:
            parcel.stream.seek(0)
            return transcode.compressed(parcel.stream, wanted)
        except transcode.NotCompressed as error:
            log.info("delivery.uncompressed", destination=parcel.destination.name, why=str(error))
            return None
        finally:
            parcel.stream.seek(0)

    def _context(
        self, destination: Destination, sop_class: str, syntaxes: list[str]
    ) -> tuple[Association, PresentationContext]:
        """An association to the destination and the accepted context with the first of the syntaxes."""
        ready = self._assoc is not None and self._assoc.is_established and self._destination == destination
        if ready and self._assoc is not None and (found := _accepted(self._assoc, sop_class, syntaxes)):
            return self._assoc, found
        self.close()
        proposed = [build_context(sop_class, syntax) for syntax in syntaxes]
        try:
            assoc = self._stack.enter_context(scu.association(destination, self.dicom, proposed))
        except scu.NotAccepted as error:
            raise Undeliverable(str(error)) from error
        self._assoc, self._destination = assoc, destination
        self._refused |= {(sop_class, str(cx.transfer_syntax[0])) for cx in assoc.rejected_contexts}
        if found := _accepted(assoc, sop_class, syntaxes):
            return assoc, found
        raise Undeliverable("the destination accepts no presentation context for this object")


def _syntaxes(own: str, compressed: str | None) -> list[str]:
    """What is proposed, best first: as the destination wants it, as it is, as every peer must take it."""
    syntaxes = [compressed, own] if compressed else [own]
    return (
        [*syntaxes, codecs.IMPLICIT_VR_LITTLE_ENDIAN] if own == codecs.EXPLICIT_VR_LITTLE_ENDIAN else syntaxes
    )


def _accepted(assoc: Association, sop_class: str, syntaxes: list[str]) -> PresentationContext | None:
    """The accepted context with the first of the transfer syntaxes that has one."""
    mine = {
        str(cx.transfer_syntax[0]): cx for cx in assoc.accepted_contexts if cx.abstract_syntax == sop_class
    }
    return next((mine[syntax] for syntax in syntaxes if syntax in mine), None)


def _as_implicit(stream: BinaryIO) -> BinaryIO:
    """The data set of a stored file in Implicit VR Little Endian; only for objects that we made."""
    stream.seek(0)
    encoded = encode(dcmread(stream), True, True)
    if encoded is None:
        raise Undeliverable("the object cannot be encoded in Implicit VR Little Endian")
    return io.BytesIO(encoded)
