"""The disposable child: decodes one object under limits of memory and time, hands the result over, and ends.

Started ahead of need as ``python -m pacs_node.examine_child HEADER_FD PIXELS_FD`` and waiting for one line
of JSON; answers with lines of JSON. Header and pixels go through the two memory files. Whatever happens in
here (a decoder's segmentation fault, a hang, gigabytes of memory) ends with this process.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from pacs_node import decode, facts, pictures, reading
from pacs_node.errors import Reason, Refused

CRASH_VARIABLE = "CXR_SR_TEST_EXAMINE_CRASH"
"""For tests: `segv`, `abort`, `hang`, `spin` or `swell` makes the child do that once it has sent the
header."""

_answers = 1
_META = (
    "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID", "ImplementationClassUID",
    "ImplementationVersionName", "SourceApplicationEntityTitle",
)  # fmt: skip


def main(header_fd: int, pixels_fd: int) -> int:
    """Wait for one request, serve it, and return an exit status."""
    _keep_answers_apart()
    _say(kind="ready")
    line = sys.stdin.readline()
    if not line:
        return 0  # never needed
    request = json.loads(line)
    _limit(int(request["memory_bytes"]), int(request["cpu_seconds"]))
    try:
        _serve(Path(request["path"]), int(request["max_pixels"]), header_fd, pixels_fd)
    except Refused as refused:
        _say(kind="refused", reason=refused.refusal.reason.value, sentence=refused.refusal.sentence)
    except MemoryError:
        _say(
            kind="refused",
            reason=Reason.DECODER_MEMORY.value,
            sentence="Decoding the object took more memory than it may.",
        )
    return 0


def _serve(path: Path, max_pixels: int, header_fd: int, pixels_fd: int) -> None:
    if pictures.is_picture(path):
        _misbehave()
        picture = pictures.read_picture(path, max_pixels=max_pixels)
        _write(pixels_fd, picture.values.data)
        _say(
            kind="picture",
            media_type=picture.media_type,
            lossy_ratio=picture.lossy_ratio,
            rows=picture.values.shape[0],
            columns=picture.values.shape[1],
            dtype=picture.values.dtype.str,
        )
        return
    ds, transfer_syntax, excess = reading.read(path, max_pixels=max_pixels)
    header, dropped = reading.clean_header(ds)
    _write(header_fd, header)
    stored = ds.get("PixelData")
    meta = getattr(ds, "file_meta", Dataset())
    _say(
        kind="header",
        transfer_syntax=transfer_syntax,
        meta={keyword: facts.text(meta, keyword, 64) for keyword in _META},
        dropped=dropped,
        stored_bytes=len(stored) if stored is not None else 0,
    )
    _misbehave()
    if excess is not None:
        decode.pixel_format(ds, max_pixels=max_pixels)  # what is wrong besides is the better reason
        raise Refused(excess.reason, excess.sentence)
    image = decode.decode(ds, transfer_syntax, max_pixels=max_pixels)
    _write(pixels_fd, image.values.data)
    fmt = image.format
    _say(
        kind="image",
        padding=image.padding,
        rows=fmt.rows,
        columns=fmt.columns,
        bits_allocated=fmt.bits_allocated,
        bits_stored=fmt.bits_stored,
        high_bit=fmt.high_bit,
        signed=fmt.signed,
        photometric=fmt.photometric,
    )


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _write(descriptor: int, data: Any) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(descriptor, view) :]


def _keep_answers_apart() -> None:
    """Answers go where standard output went; what a library prints goes nowhere."""
    global _answers
    _answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _say(**message: Any) -> None:
    os.write(_answers, (json.dumps(message) + "\n").encode())


def _misbehave() -> None:
    what = os.environ.get(CRASH_VARIABLE)
    if what == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "abort":
        os.abort()
    elif what == "hang":
        time.sleep(3600)
    elif what == "spin":
        while True:
            pass
    elif what == "swell":
        bytearray(1 << 40)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
