from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pacs_node.header import PREFIX_BYTES
from pacs_node.spool import Flood, Spool


@pytest.fixture
def spool(tmp_path):
    spool = Spool(tmp_path)
    yield spool
    spool.close()


def test_an_object_is_written_behind_its_header_and_its_beginning_is_kept(spool):
    incoming = spool.begin(b"HEAD", 1 << 20)
    incoming.write(b"a" * 60000)
    incoming.write(b"b" * 60000)
    incoming.finish()
    assert incoming.path.read_bytes() == b"HEAD" + b"a" * 60000 + b"b" * 60000
    assert bytes(incoming.prefix) == b"a" * 60000 + b"b" * (PREFIX_BYTES - 60000)
    assert (incoming.size, incoming.trouble) == (120000, None)


def test_a_discarded_object_is_gone(spool):
    incoming = spool.begin(b"HEAD", 1000)
    incoming.write(b"a")
    incoming.discard()
    incoming.discard()
    assert list(spool.folder.iterdir()) == []


def test_beyond_the_limit_nothing_is_kept_and_at_twice_the_limit_it_is_a_flood(spool):
    incoming = spool.begin(b"HEAD", 1000)
    incoming.write(b"a" * 1001)
    assert incoming.trouble == "the object has more than 1000 bytes"
    assert list(spool.folder.iterdir()) == []
    with pytest.raises(Flood):
        incoming.write(b"a" * 1000)


def test_a_folder_that_cannot_be_written_is_told_not_raised(spool):
    spool.folder.rmdir()
    incoming = spool.begin(b"HEAD", 1000)
    incoming.write(b"a")
    incoming.finish()
    assert incoming.trouble == "cannot write: No such file or directory"


def test_a_spool_leaves_nothing_behind(tmp_path):
    spool = Spool(tmp_path)
    spool.begin(b"HEAD", 1000).finish()
    spool.close()
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_the_spool_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not(tmp_path):
    code = (
        "import sys, pathlib\n"
        "from pacs_node.spool import Spool\n"
        "spool = Spool(pathlib.Path(sys.argv[1]))\n"
        "spool.begin(b'HEAD', 1000).finish()\n"
        "print(spool.folder, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    ) as process:
        assert process.stdout is not None
        theirs = process.stdout.readline().strip()
        Spool(tmp_path).close()
        assert os.listdir(theirs)
        process.kill()
    Spool(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_an_object_stops_before_it_eats_into_the_reserve(tmp_path):
    room = [True]
    spool = Spool(tmp_path, lambda: room[0])
    incoming = spool.begin(b"HEAD", 1 << 30)
    incoming.write(bytes(9 << 20))
    room[0] = False
    incoming.write(bytes(9 << 20))
    assert incoming.trouble == "no room on disk"
    assert spool.begin(b"HEAD", 1000).trouble == "no room on disk"
    assert list(spool.folder.iterdir()) == []
    spool.close()
