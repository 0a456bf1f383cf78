"""The DICOM door as strangers find it: a real receiver in a process of its own, and peers that break every
rule. It goes on answering, and gives back what they made it take."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from sqlalchemy import select

from db.models import Source
from tests.faults import wire
from tests.faults.node import Node, wait_until
from tests.faults.sizes import size
from tests.faults.strange_peers import Session, sessions
from tests.faults.wire import Line
from tests.pacs_node.nodes import encoded, make_object

INPUTS = int(os.environ.get("DOOR_INPUTS", size(120, 6000)))
"""Sessions; the same ones in every run of the same number."""
AT_ONCE = min(250, INPUTS // 2)
"""Inputs between two looks at the receiver."""
MOST_GROWTH = 24 << 20
"""Bytes that its resident memory may grow by, after the first looks, however much comes."""
MAX_OBJECT = 1 << 20


@dataclass
class Footprint:
    """What the receiver holds."""

    memory: int
    threads: int
    files: int


class Door:
    """The receiver role of a real node, alone."""

    def __init__(self, folder: Path) -> None:
        self.node = Node(folder, destination_port=1)
        self.port = self.node.dicom_port
        limits = (
            f"[dicom]\nstorage_commitment = true\nmax_object_bytes = {MAX_OBJECT}\nnetwork_timeout = 20\n"
        )
        self.node.config.write_text(self.node.config.read_text().replace("[dicom]\n", limits))
        self.node.start("receiver")
        wait_until(self.node.receives, 120, "the receiver listens")
        self.process = psutil.Process(self.node.pid)  # a role alone needs no supervisor

    def footprint(self) -> Footprint:
        """What it holds now; connections to the database, which it keeps in a pool, are not counted."""
        files = 0
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                files += "cxr-sr.db" not in str(entry.readlink())
        return Footprint(self.process.memory_info().rss, self.process.num_threads(), files)

    def idle(self) -> bool:
        """Whether no connection is left."""
        return not [c for c in self.process.net_connections("tcp") if c.status != psutil.CONN_LISTEN]

    def spooled(self) -> list[Path]:
        """Files of objects on their way in."""
        spool = self.node.folder / "var" / "objects" / "spool"
        return [path for path in spool.rglob("*") if path.is_file() and path.suffix != ".lock"]

    def works(self) -> None:
        """It answers an echo and stores a good image, whatever happened before."""
        good = make_object()
        with Line(self.port) as line:
            line.say(wire.associate_rq())
            heard = line.hear()
            assert heard is not None
            assert heard[0] == wire.AC
            line.say(wire.echo())
            assert status(line.hear()) == 0x0000
            line.say(store(good.SOPInstanceUID.encode(), encoded(good)))
            assert status(line.hear()) == 0x0000
            line.say(wire.pdu(wire.RELEASE_RQ, bytes(4)))
            heard = line.hear()
            assert heard is not None
            assert heard[0] == wire.RELEASE_RP
        with self.node.database.read() as session:
            query = select(Source.id).where(Source.sop_instance_uid == str(good.SOPInstanceUID))
            assert session.scalars(query).all()

    def settled(self) -> Footprint:
        """What it holds once everybody has gone. It has said nothing that it should not say."""
        wait_until(self.idle, 60, "every connection is closed")
        self.works()
        wait_until(self.idle, 60, "every connection is closed")
        wait_until(lambda: not self.spooled(), 30, "nothing is left in the spool")
        assert self.process.is_running()
        assert "Traceback" not in self.node.said()
        return self.footprint()


def store(uid: bytes, data: bytes, *, context: int = 3) -> bytes:
    """A whole C-STORE."""
    told = wire.command(0x0001, sop_class=wire.CR.encode(), sop_instance=uid)
    pieces = [data[at : at + 16000] for at in range(0, len(data), 16000)] or [b""]
    last = len(pieces) - 1
    sent = [wire.p_data(wire.pdv(context, 2 * (at == last), piece)) for at, piece in enumerate(pieces)]
    return wire.p_data(wire.pdv(context, 3, told)) + b"".join(sent)


def status(heard: tuple[int, bytes] | None) -> int | None:
    """The status in a response; None where it is none."""
    if heard is None or heard[0] != wire.P_DATA:
        return None
    told, at = heard[1][6:], 0
    while at + 8 <= len(told):
        _, element, length = struct.unpack_from("<HHI", told, at)
        if element == 0x0900:
            return int.from_bytes(told[at + 8 : at + 10], "little")
        at += 8 + length
    return None


def play(port: int, session: Session) -> set[int]:
    """Say the first piece, wait for what is answered, then say the rest in one go and hear it out: who closes
    at once is not answered. Returns the kinds of PDUs that came."""
    heard: list[int] = []

    def listen(seconds: float, most: int) -> None:
        line.socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            while len(heard) < most and (answer := line.hear()) is not None:
                heard.append(answer[0])
        line.socket.settimeout(60)

    with Line(port) as line:
        line.say(session[0])
        listen(0.05, 1)
        for piece in session[1:]:
            if not line.say(piece):
                break
        listen(0.02, 1000)
        return {*heard, *line.end()}


@pytest.fixture(scope="module")
def door(tmp_path_factory) -> Iterator[Door]:
    """Return a receiver that the tests of this file share: each leaves it able to work."""
    made = Door(tmp_path_factory.mktemp("door") / "node")
    yield made
    made.node.close()


@pytest.mark.slow
def test_whatever_peers_say_the_receiver_answers_the_next_and_gives_back_what_it_took(door):
    for _ in range(3):
        door.works()
    before: Footprint | None = None
    tried = 0
    kinds: Counter[int] = Counter()
    began = time.monotonic()

    @settings(
        max_examples=INPUTS,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(sessions())
    def talk(session: Session) -> None:
        nonlocal before, tried
        kinds.update(play(door.port, session) or {0})
        tried += 1
        if tried % AT_ONCE == 0:
            now = door.settled()
            before = before or now
            assert now.memory - before.memory < MOST_GROWTH

    start = door.settled()
    talk()
    end = door.settled()
    assert before is not None
    assert end.threads <= start.threads + 1  # a pool may have come to its size meanwhile
    assert end.files <= start.files
    assert end.memory - before.memory < MOST_GROWTH
    print(
        f"{tried} sessions in {time.monotonic() - began:.0f} s; resident {start.memory >> 20} MiB at first,"
        f" {before.memory >> 20} after {AT_ONCE}, {end.memory >> 20} at the end; {end.threads} threads,"
        f" {end.files} files; accepted {kinds[wire.AC]}, rejected {kinds[wire.RJ]}, answered"
        f" {kinds[wire.P_DATA]}, aborted {kinds[wire.ABORT]}, released {kinds[wire.RELEASE_RP]}, closed"
        f" without a word {kinds[0]}"
    )
