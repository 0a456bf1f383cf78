"""Send files to an AE as a modality would: one association, one C-STORE each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE

from cxr_sr.failure import Failure


@dataclass(frozen=True, slots=True)
class Pushed:
    """What the AE answered to one file: its status, and when the answer came (of the monotonic clock)."""

    file: Path
    sop_instance_uid: str
    status: int | None
    answered_at: float


def push(
    files: Sequence[Path], *, host: str, port: int, ae_title: str, calling: str = "MODALITY"
) -> list[Pushed]:
    """C-STORE each file over one association, in the transfer syntax that it has. Raises :class:`Failure`."""
    ae = AE(ae_title=calling)
    loaded = [(path, dcmread(path)) for path in files]
    for sop_class, syntax in sorted(
        {(str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID)) for _, ds in loaded}
    ):
        ae.add_requested_context(sop_class, syntax)
    assoc = ae.associate(host, port, ae_title=ae_title)
    if not assoc.is_established:
        raise Failure(f"{ae_title} at {host}:{port} accepts no association; does the node run there?")
    try:
        answers = []
        for path, ds in loaded:
            status = assoc.send_c_store(ds)
            answers.append(Pushed(path, str(ds.SOPInstanceUID), status.get("Status"), time.monotonic()))
        return answers
    finally:
        assoc.release()
