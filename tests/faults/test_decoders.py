"""Damaged code streams of every transfer syntax, in the examine child's own work under its own limits: each
ends in an image or a reason, or the child ends; never in an error of ours, a hang or a swollen memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pacs_node import codecs, examine
from tests import dicom_variants as variants
from tests.faults.sizes import size
from tests.peers import ROOT

INPUTS = int(os.environ.get("DECODER_INPUTS", size(5, 400)))
"""Damaged objects of each transfer syntax."""
ADDRESS_SPACE = 1 << 30
PEAK_MIB = 400
CPU_SECONDS = 20

SERVER = """
import json, os, resource, signal, sys, warnings
from pathlib import Path
from pacs_node import examine_child
from pacs_node.errors import Refused
from pacs_node.examine import parse_header
import gdcm, imagecodecs, jpeg_ls, openjpeg, rle  # here, not in each child

warnings.simplefilter("ignore")
examine_child._say = lambda **message: None

def serve(name):
    examine_child._limit(int(sys.argv[1]), int(sys.argv[2]))
    header, pixels = os.memfd_create("header"), os.memfd_create("pixels")
    try:
        examine_child._serve(Path(name), 1 << 22, header, pixels)
        return 0
    except Refused:
        return 1
    except MemoryError:
        return 2
    except BaseException as error:
        print(json.dumps([name, "fault", f"{type(error).__name__}: {error}", 0]), flush=True)
        return 3

for line in sys.stdin:
    name = line.strip()
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os._exit(serve(name))
    _, status, used = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU or code == -signal.SIGKILL:
        how = "hung"
    else:
        how = "died" if code < 0 else ("sound", "refused", "memory", "fault")[code]
    print(json.dumps([name, how, code, used.ru_maxrss // 1024]), flush=True)
"""
"""Serves each object in a fork of itself: the child's work without its start."""


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The object with something wrong in its pixels, or in what it says of them."""
    data = bytearray(content)
    start, header = data.index(b"\xe0\x7f\x10\x00"), data.index(b"\x28\x00\x02\x00")
    for _ in range(rng.choice([1, 2, 8, 30])):
        how = rng.choice(["byte", "byte", "start", "length", "cut", "double", "header"])
        at = rng.randrange(start + 12, max(len(data), start + 13))
        if how == "header":
            at = rng.randrange(header, start)
        elif how == "start":
            at = min(start + 12 + rng.randrange(120), len(data) - 1)
        if how == "length":
            data[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\xff\xff\0\0", b"\x7f\xff\xff\xff"])
        elif how == "cut":
            del data[at : at + rng.randrange(1, 64)]
        elif how == "double":
            data[at:at] = data[at : at + rng.randrange(1, 256)]
        elif at < len(data):
            data[at] = rng.randrange(256)
    return bytes(data)


@pytest.mark.slow
def test_damaged_code_streams_end_in_an_image_a_reason_or_with_the_child(tmp_path):
    files: list[Path] = []
    for uid in codecs.CODECS:
        if uid in (codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, codecs.EXPLICIT_VR_BIG_ENDIAN):
            continue  # nothing is where it is looked for; `tests/fuzz` damages such
        bits = 8 if uid == codecs.JPEG_BASELINE else 12
        values = variants.chest_values(bits, 48, 40)
        good = variants.written(variants.encoded(variants.cr(values, bits=bits), uid), tmp_path / "good")
        content = good.read_bytes()
        rng = random.Random(uid)
        for number in range(INPUTS):
            path = tmp_path / f"{uid}-{number}"
            path.write_bytes(damaged(content, rng))
            files.append(path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SERVER, str(ADDRESS_SPACE), str(CPU_SECONDS)],
        input="\n".join(map(str, files)),
        env=examine._environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=size(200, 3000),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    ends = Counter(how for _, how, _, _ in told)
    worst = max(told, key=lambda one: one[3])
    print(f"{len(files)} damaged objects: {dict(ends)}; at most {worst[3]} MiB ({Path(worst[0]).name})")
    assert [one for one in told if one[1] in ("fault", "hung")] == []
    assert len(told) == len(files)
    assert worst[3] < PEAK_MIB
    assert ends["refused"] > len(files) // 4
    assert ends["sound"] > 0
