"""C-ECHO: is a destination there, and does it know us?"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from config.network import Destination
from config.settings import DicomSettings
from pacs_node import codecs, statuses
from pacs_node.scu import PeerError, association


@dataclass(frozen=True, slots=True)
class EchoResult:
    """Whether a destination answered, after how many seconds, and a sentence for people."""

    ok: bool
    seconds: float
    message: str


def echo(destination: Destination, dicom: DicomSettings) -> EchoResult:
    """Send one C-ECHO on an association of its own. Never raises for what the peer or the network does."""
    began = time.monotonic()
    context = build_context(
        Verification, [codecs.EXPLICIT_VR_LITTLE_ENDIAN, codecs.IMPLICIT_VR_LITTLE_ENDIAN]
    )
    try:
        with association(destination, dicom, [context]) as assoc:
            status = assoc.send_c_echo().get("Status")
    except PeerError as error:
        return EchoResult(False, time.monotonic() - began, str(error))
    seconds = time.monotonic() - began
    if status is None:
        return EchoResult(False, seconds, "the destination did not answer the C-ECHO")
    if status != statuses.SUCCESS:
        return EchoResult(False, seconds, statuses.describe(status))
    return EchoResult(True, seconds, f"{destination.ae_title} answered")
