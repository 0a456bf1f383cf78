"""Objects by C-STORE, negotiated for exactly what is sent, over one association as long as it fits."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from pydicom import dcmread
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.presentation import PresentationContext, build_context

from config import Destination
from config.settings import DicomSettings
from pacs_node import codecs, scu, statuses
from pacs_node.carrier import Parcel, Receipt, Undeliverable

Key = tuple[str, str]
"""SOP class and transfer syntax of an object."""


class DimseCarrier:
    """A storage SCU. An association that failed in any way is never used again (a late answer would be read
    as the next one's)."""

    def __init__(self, dicom: DicomSettings) -> None:
        self.dicom = dicom
        self._stack = ExitStack()
        self._destination: Destination | None = None
        self._assoc: Association | None = None
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
        part10, stream = parcel.part10, parcel.stream
        assoc, context = self._context(parcel.destination, (part10.sop_class_uid, part10.transfer_syntax_uid))
        if str(context.transfer_syntax[0]) == part10.transfer_syntax_uid:
            stream.seek(part10.offset)
        else:
            stream = _as_implicit(stream)
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

    def _context(self, destination: Destination, key: Key) -> tuple[Association, PresentationContext]:
        """An association to the destination and its accepted context for such an object."""
        ready = self._assoc is not None and self._assoc.is_established and self._destination == destination
        if ready and self._assoc and (found := _accepted(self._assoc, key)):
            return self._assoc, found
        self.close()
        proposed = [build_context(key[0], key[1])]
        if key[1] == codecs.EXPLICIT_VR_LITTLE_ENDIAN:
            proposed.append(build_context(key[0], codecs.IMPLICIT_VR_LITTLE_ENDIAN))
        try:
            assoc = self._stack.enter_context(scu.association(destination, self.dicom, proposed))
        except scu.NotAccepted as error:
            raise Undeliverable(str(error)) from error
        self._assoc, self._destination = assoc, destination
        if found := _accepted(assoc, key):
            return assoc, found
        raise Undeliverable("the destination accepts no presentation context for this object")


def _accepted(assoc: Association, key: Key) -> PresentationContext | None:
    """The accepted context for an object: its own transfer syntax, else one that we can convert it to."""
    mine = {str(cx.transfer_syntax[0]): cx for cx in assoc.accepted_contexts if cx.abstract_syntax == key[0]}
    if key[1] in mine:
        return mine[key[1]]
    if key[1] == codecs.EXPLICIT_VR_LITTLE_ENDIAN:
        return mine.get(codecs.IMPLICIT_VR_LITTLE_ENDIAN)
    return None


def _as_implicit(stream: BinaryIO) -> BinaryIO:
    """The data set of a stored file in Implicit VR Little Endian; only for objects that we made."""
    encoded = encode(dcmread(stream), True, True)
    if encoded is None:
        raise Undeliverable("the object cannot be encoded in Implicit VR Little Endian")
    return io.BytesIO(encoded)
