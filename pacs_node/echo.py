"""C-ECHO, or the smallest search by DICOMweb: is a destination or archive there, and does it know us?"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from config.network import Remote
from config.settings import DicomSettings
from pacs_node import codecs, statuses, stow
from pacs_node.carrier import PeerError
from pacs_node.scu import association


@dataclass(frozen=True, slots=True)
class EchoResult:
    """Whether a destination answered, after how many seconds, and a sentence for people."""

    ok: bool
    seconds: float
    message: str


def echo(remote: Remote, dicom: DicomSettings) -> EchoResult:
    """Send one C-ECHO on an association of its own, or by DICOMweb a search for one study.

    Never raises for what the peer or the network does.
    """
    began = time.monotonic()
    if remote.kind == "dicomweb":
        try:
            stow.ping(remote, dicom)
        except PeerError as error:
            return EchoResult(False, time.monotonic() - began, str(error))
        return EchoResult(True, time.monotonic() - began, f"{remote.name} answered a search")
    context = build_context(
        Verification, [codecs.EXPLICIT_VR_LITTLE_ENDIAN, codecs.IMPLICIT_VR_LITTLE_ENDIAN]
    )
    try:
        with association(remote, dicom, [context]) as assoc:
            status = assoc.send_c_echo().get("Status")
    except PeerError as error:
        return EchoResult(False, time.monotonic() - began, str(error))
    seconds = time.monotonic() - began
    if status is None:
        return EchoResult(False, seconds, "the destination did not answer the C-ECHO")
    if status != statuses.SUCCESS:
        return EchoResult(False, seconds, statuses.describe(status))
    return EchoResult(True, seconds, f"{remote.ae_title} answered")
