"""Objects by C-STORE, negotiated for exactly what is sent, over one association as long as it fits."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.presentation import PresentationContext, build_context

from config import Destination, Settings
from pacs_node import codecs, scu, statuses, transcode, unpack
from pacs_node.carrier import Parcel, Receipt, Undeliverable
from pacs_node.examine import Limits

_PLAIN = (codecs.EXPLICIT_VR_LITTLE_ENDIAN, codecs.IMPLICIT_VR_LITTLE_ENDIAN)


class DimseCarrier:
    """A storage SCU. An association that failed in any way is never used again (a late answer would be read
    as the next one's)."""

    def __init__(self, settings: Settings) -> None:
        self.dicom = settings.dicom
        given = settings.examine
        self._limits = Limits(given.timeout_seconds, given.memory_bytes, given.max_pixels)
        self._stack = ExitStack()
        self._destination: Destination | None = None
        self._assoc: Association | None = None
        self._refused: set[tuple[str, str | None]] = set()
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
        wanted = str(smaller.file_meta.TransferSyntaxUID) if smaller is not None else None
        syntaxes = _syntaxes(part10.transfer_syntax_uid, wanted)
        assoc, context = self._context(parcel.destination, part10.sop_class_uid, syntaxes)
        accepted = str(context.transfer_syntax[0])
        if smaller is not None and accepted == wanted:
            stream = transcode.data_set(smaller)
        elif accepted == part10.transfer_syntax_uid:
            stream = parcel.stream
            stream.seek(part10.offset)
        else:
            stream = self._plain(parcel, accepted)
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

    def _plain(self, parcel: Parcel, syntax: str) -> BinaryIO:
        """The data set in an uncompressed transfer syntax that is not its own."""
        parcel.stream.seek(0)
        try:
            plain = parcel.part10.transfer_syntax_uid in _PLAIN
            ds: Dataset = (
                dcmread(parcel.stream) if plain else unpack.uncompressed(parcel.stream, self._limits)
            )
            encoded = encode(ds, syntax == codecs.IMPLICIT_VR_LITTLE_ENDIAN, True)
        except unpack.NotUnpacked as error:
            raise Undeliverable(
                f"the destination takes it uncompressed alone, and it stays so: {error}"
            ) from error
        if encoded is None:
            raise Undeliverable(
                "the object cannot be encoded uncompressed, and the destination takes no other"
            )
        return io.BytesIO(encoded)

    def _compressed(self, parcel: Parcel) -> Dataset | None:
        """One of our objects in the encoding that the destination wants; None: it goes as it is.

        It is made before the association is, so that no peer waits for an encoder.
        """
        wanted = transcode.SYNTAXES.get(parcel.destination.transfer_syntax)
        if (parcel.part10.sop_class_uid, wanted) in self._refused:
            return None
        return transcode.as_wanted(parcel)

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
    return list(dict.fromkeys([*([compressed] if compressed else []), own, *_PLAIN]))


def _accepted(assoc: Association, sop_class: str, syntaxes: list[str]) -> PresentationContext | None:
    """The accepted context with the first of the transfer syntaxes that has one."""
    mine = {
        str(cx.transfer_syntax[0]): cx for cx in assoc.accepted_contexts if cx.abstract_syntax == sop_class
    }
    return next((mine[syntax] for syntax in syntaxes if syntax in mine), None)
