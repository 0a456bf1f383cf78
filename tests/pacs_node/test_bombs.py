"""What promises or hides far more than it is, is refused for a reason that says so, before the memory is
spent."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import dataclass

import pytest

from pacs_node import examine, reading
from pacs_node.errors import Reason, Refused
from pacs_node.examine import Examiner, Limits
from tests.faults.sizes import LONG
from tests.pacs_node.bombs import BOMBS, MAX_PIXELS, spliced
from tests.pacs_node.test_examine import CONTEXT
from tests.peers import ROOT

PEAK_MIB = 160
"""Resident memory of the child at its worst; a good image of these tests takes 75."""
ADDRESS_SPACE = 1 << 30

CHILD = """
import json, os, sys
from pathlib import Path
from pacs_node import examine_child
from pacs_node.errors import Refused

examine_child._limit(int(sys.argv[1]), 600)
header, pixels = os.memfd_create("header"), os.memfd_create("pixels")
for name in sys.argv[3:]:
    Path("/proc/self/clear_refs").write_text("5")
    os.ftruncate(header, 0), os.ftruncate(pixels, 0)
    os.lseek(header, 0, 0), os.lseek(pixels, 0, 0)
    reason, sentence = "sound", ""
    try:
        examine_child._say = lambda **message: None
        examine_child._serve(Path(name), int(sys.argv[2]), header, pixels)
    except Refused as refused:
        reason, sentence = refused.refusal.reason.value, refused.refusal.sentence
    except MemoryError:
        reason = "decoder-memory"
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1]
    print(json.dumps([Path(name).name, reason, sentence, int(peak) // 1024]), flush=True)
"""
"""The child's own work on one object after another, and the most memory that each took."""


@dataclass(frozen=True)
class Ending:
    """What came of a bomb."""

    reason: str
    sentence: str
    peak_mib: int


@pytest.fixture(scope="module")
def endings(tmp_path_factory) -> dict[str, Ending]:
    """Return what one child made of all of them, one after the other."""
    folder = tmp_path_factory.mktemp("bombs")
    files = [bomb.write(folder / name) for name, bomb in BOMBS.items()]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(ADDRESS_SPACE), str(MAX_PIXELS), *map(str, files)],
        env=examine._environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    for file in files:
        file.unlink()
    assert done.returncode == 0, done.stderr[-2000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    worst = max(told, key=lambda one: one[3])
    print(f"{len(told)} bombs; the most memory: {worst[3]} MiB for {worst[0]}")
    return {name: Ending(reason, sentence, peak) for name, reason, sentence, peak in told}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_words_before_it_costs_memory(endings, name):
    bomb, ending = BOMBS[name], endings[name]
    assert ending.reason in bomb.expected
    assert bomb.words in ending.sentence
    assert ending.peak_mib < PEAK_MIB


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS if LONG else ["two million numbers"])
def test_a_bomb_costs_whoever_asks_the_child_little(tmp_path, name):
    path = BOMBS[name].write(tmp_path / "a")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Examiner(Limits(timeout_seconds=60, memory_bytes=2 << 30, max_pixels=MAX_PIXELS)) as examiner:
        try:
            seen = examiner.examine(path, CONTEXT)
            reason = seen.refusal.reason.value if seen.refusal else "sound"
        except Refused as refused:
            reason = refused.refusal.reason.value
    assert reason in BOMBS[name].expected
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80_000  # KiB


def test_pixels_of_no_vr_at_all_are_unreadable(tmp_path):
    content = spliced(b"")
    at = content.index(b"\xe0\x7f\x10\x00OW")
    size = len(content) - at - 12
    path = tmp_path / "a"
    head = content[: at + 4] + b"O\xe0" + size.to_bytes(2, "little")
    path.write_bytes(head + content[at + 12 :])
    with pytest.raises(Refused) as caught:
        reading.read(path)
    assert caught.value.refusal.reason in (Reason.UNREADABLE, Reason.TRUNCATED)
