"""More arrives than can be enhanced: intake stays as it was, memory is flat, what is urgent overtakes."""

from __future__ import annotations

import json
import random
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import psutil
import pytest
from pydicom import Dataset
from pynetdicom import AE
from sqlalchemy import func, select

import db
from db import Database, queue, schema
from db.intake import Arrival, Origin, QueueFull, intake
from db.models import Job
from db.objects import LocalStore
from db.states import JobState, Priority
from db.types import utcnow
from tests.db import builders
from tests.faults.node import Node, wait_until
from tests.faults.sizes import size

IMAGES = size(60, 10_000)
"""Small images that are sent in one go."""

GROWTH_BYTES = 48 << 20
"""What a process may hold more at the end than after the first images: caches, not a share of each."""

CALLERS = """
[[rules]]
name = "emergency"
match = { CallingAETitle = "ER" }
priority = "stat"
"""


class Caller:
    """A modality with one association that stays open."""

    def __init__(self, node: Node, ae_title: str) -> None:
        ae = AE(ae_title=ae_title)
        ae.add_requested_context("1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.1.2.1")
        self.assoc = ae.associate("127.0.0.1", node.dicom_port, ae_title="CXR_SR")
        assert self.assoc.is_established

    def send(self, ds: Dataset) -> int:
        status = self.assoc.send_c_store(ds).get("Status")
        assert status is not None
        return status

    def close(self) -> None:
        self.assoc.release()


def memory(node: Node) -> dict[str, int]:
    """Bytes that each process of the node has for itself (USS), children of the worker together."""
    held: dict[str, int] = {"supervisor": psutil.Process(node.pid).memory_full_info().uss}
    for role, pid in node.roles().items():
        process = psutil.Process(pid)
        held[role] = process.memory_full_info().uss
        children = []
        for child in process.children(recursive=True):
            try:
                children.append(child.memory_full_info().uss)
            except psutil.NoSuchProcess:
                continue
        if children:
            held[f"{role}'s children"] = sum(children)
    return held


def states(node: Node) -> dict[JobState, int]:
    with node.database.read() as session:
        found = session.execute(select(Job.state, func.count()).group_by(Job.state))
        return {JobState(state): int(count) for state, count in found}


def arrived(node: Node, uid: str) -> bool:
    with node.database.read() as session:
        query = select(Job.state).join(Job.source).where(db.models.Source.sop_instance_uid == uid)
        return session.scalars(query).one() is JobState.DONE


def serves(node: Node) -> bool:
    """Whether everybody is there: receiver, web and what the pages need."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{node.web_port}/readyz", timeout=30).close()
    except OSError:
        return False
    return node.receives()


def dashboard(node: Node) -> Callable[[], None]:
    """A function that asks for the dashboard as an administrator."""
    added = node.run("user", "add", "olga", "--role", "admin", stdin="a lamp behind the film\n")
    assert added.returncode == 0
    token = node.run("token", "create", "olga", "--name", "overload").stdout.strip()
    address = f"http://127.0.0.1:{node.web_port}/api/v1/dashboard"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})

    def ask() -> None:
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)

    return ask


def told(what: str, seconds: list[float]) -> None:
    """Print what people would wait, for the page of promises."""
    cuts = statistics.quantiles(seconds, n=20)
    print(
        f"{what}: median {statistics.median(seconds) * 1000:.0f} ms, "
        f"p95 {cuts[-1] * 1000:.0f} ms, slowest {max(seconds) * 1000:.0f} ms of {len(seconds)}"
    )


@pytest.mark.slow
def test_thousands_of_images_wait_in_line_and_an_urgent_one_is_done_first(tmp_path, recorder, small_image):
    node = Node(tmp_path / "node", destination_port=recorder.port, more=CALLERS)
    try:
        node.start()
        wait_until(lambda: serves(node), 90, "the node is ready")
        look = dashboard(node)
        ward, emergency = Caller(node, "WARD"), Caller(node, "ER")
        answers: list[float] = []
        pages: list[float] = []
        at_first: dict[str, int] = {}
        for number in range(IMAGES):
            ds = small_image(number)
            began = time.perf_counter()
            assert ward.send(ds) == 0x0000
            answers.append(time.perf_counter() - began)
            if number == IMAGES // 10:
                at_first = memory(node)
            if number % (IMAGES // 20) == 0:
                began = time.perf_counter()
                look()
                pages.append(time.perf_counter() - began)
        at_last = memory(node)
        waiting = states(node)[JobState.QUEUED]
        urgent = small_image(IMAGES)
        assert emergency.send(urgent) == 0x0000
        done = partial(arrived, node, urgent.SOPInstanceUID)
        wait_until(done, 120, "the urgent image is done")
        overtaken = states(node)[JobState.QUEUED]
        ward.close()
        emergency.close()

        told(f"{IMAGES} images stored", answers)
        told("the dashboard meanwhile", pages)
        print(f"{waiting} waited when the urgent one came, {overtaken} still did when it was done")
        for name in sorted(at_first):
            first, last = at_first[name] >> 20, at_last.get(name, 0) >> 20
            print(f"{name}: {first} MiB after the first tenth, {last} at the end")
        assert sum(states(node).values()) == IMAGES + 1
        assert overtaken > 0
        for role in ("supervisor", "receiver", "sender", "web", "scheduler"):
            assert at_last[role] - at_first[role] < GROWTH_BYTES, role
    finally:
        node.close()


def test_intake_stops_with_a700_at_the_limit_and_not_before_and_goes_on_where_there_is_room(
    tmp_path, recorder, small_image
):
    node = Node(tmp_path / "node", destination_port=recorder.port, more="")
    node.config.write_text(node.config.read_text().replace("[queue]\n", "[queue]\nmax_waiting = 5\n"))
    try:
        node.start("receiver")
        wait_until(node.receives, 60, "the receiver listens")
        caller = Caller(node, "WARD")
        found = [caller.send(small_image(number)) for number in range(8)]
        assert found == [0x0000] * 5 + [0xA700] * 3
        with node.database.write() as session:  # a worker takes two of them
            queue.claim(session, "worker", 600)
            queue.claim(session, "worker", 600)
        assert [caller.send(small_image(number)) for number in range(5, 8)] == [0x0000, 0x0000, 0xA700]
        caller.close()
    finally:
        node.close()


def test_nothing_is_left_open_by_work(tmp_path, recorder, small_image):
    """Python's development mode tells of every socket and file that nobody closed."""
    images = size(4, 200)
    node = Node(tmp_path / "node", destination_port=recorder.port)
    environment = node.environment
    node.environment = lambda: {**environment(), "PYTHONDEVMODE": "1"}  # type: ignore[method-assign]
    try:
        node.start()
        wait_until(lambda: serves(node), 120, "the node is ready")
        first: dict[str, tuple[int, int]] = {}
        for number in range(images):
            caller = Caller(node, "WARD")
            assert caller.send(small_image(number)) == 0x0000
            caller.close()
            urllib.request.urlopen(f"http://127.0.0.1:{node.web_port}/login", timeout=60).read()
            if number == images // 2:
                wait_until(
                    lambda: states(node) == {JobState.DONE: images // 2 + 1}, 300, "the first half is done"
                )
                first = open_things(node)
        wait_until(lambda: states(node) == {JobState.DONE: images}, 600, "all are done")
        wait_until(lambda: not grown(first, open_things(node)), 60, "files and threads are as many as before")
        assert node.stop() == 0
        said = [line for line in node.said().splitlines() if "ResourceWarning" in line or "unclosed" in line]
        assert said == []
    finally:
        node.close()


def open_things(node: Node) -> dict[str, tuple[int, int]]:
    """Open files and threads of each role."""
    found = {}
    for role, pid in node.roles().items():
        process = psutil.Process(pid)
        found[role] = (process.num_fds(), process.num_threads())
    return found


def grown(first: dict[str, tuple[int, int]], now: dict[str, tuple[int, int]]) -> list[str]:
    """Roles that hold more than before; a pool of three threads may have grown to its size meanwhile."""
    return [
        role
        for role, (files, threads) in now.items()
        if files > first[role][0] + 3 or threads > first[role][1] + 3
    ]


# An hour by a clock of its own --------------------------------------------------------------------


@dataclass
class Clock:
    """A time that goes on when it is told to; the database's modules ask it instead of the machine's."""

    now: datetime = field(default_factory=utcnow)

    def __call__(self) -> datetime:
        return self.now

    def on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    import sys

    made = Clock()
    for name, module in list(sys.modules.items()):
        if name.startswith("db.") and getattr(module, "utcnow", None) is utcnow:
            monkeypatch.setattr(module, "utcnow", made)
    return made


@dataclass
class Hour:
    """What happened while more came than could be done."""

    refused: list[int] = field(default_factory=list)
    """How many waited whenever one was refused."""
    waits: dict[Priority, list[float]] = field(default_factory=dict)
    order: list[tuple[Priority, int]] = field(default_factory=list)
    accepted: int = 0


def arrivals(rng: random.Random, seconds: float, each: float) -> Iterator[tuple[float, Priority]]:
    """Times and priorities of what comes: at random, one in fifty urgent, one in five for research."""
    at = 0.0
    while (at := at + rng.expovariate(1 / each)) < seconds:
        yield at, rng.choices([Priority.STAT, Priority.ROUTINE, Priority.BULK], [2, 78, 20])[0]


def test_an_hour_of_overload_keeps_the_order_and_refuses_at_the_limit_alone(tmp_path, clock):
    """Twice as much comes as a worker of two seconds an image can do."""
    seconds, limit, each = size(180, 3600), size(40, 600), 2.0
    database = Database(f"sqlite:///{tmp_path / 'cxr-sr.db'}")
    schema.upgrade(database)
    store = LocalStore(tmp_path / "objects")
    rng = random.Random(3)
    coming = list(arrivals(rng, seconds, each / 2))
    hour, began, free_at = Hour(), clock.now, 0.0
    came: dict[int, tuple[float, Priority]] = {}

    def since() -> float:
        return (clock.now - began).total_seconds()

    def work_until(moment: float) -> None:
        nonlocal free_at
        while (start := max(free_at, since())) <= moment:
            clock.now = began + timedelta(seconds=start)
            with database.write() as session:
                lease = queue.claim(session, "worker", 600)
                if lease is None:
                    return
                queue.finish(session, lease, builders.result(), [])
            at, priority = came[lease.id]
            hour.waits.setdefault(priority, []).append(start - at)
            hour.order.append((priority, lease.id))
            free_at = start + each

    try:
        for number, (at, priority) in enumerate(coming):
            work_until(at)
            clock.now = began + timedelta(seconds=at)
            file = store.spool / "one.part"
            file.write_bytes(b"%d" % number)
            arrival = Arrival(file, "application/dicom", sop_instance_uid=f"1.2.{number}", priority=priority)
            try:
                taken = intake(database, store, arrival, Origin("dimse"), max_waiting=limit)
            except QueueFull:
                with database.read() as session:
                    hour.refused.append(queue.waiting(session))
                continue
            hour.accepted += 1
            came[taken.job_id] = (at, priority)
        work_until(float("inf"))
        with database.read() as session:
            ended = dict(session.execute(select(Job.state, func.count()).group_by(Job.state)).all())
    finally:
        database.close()

    urgent, routine = hour.waits[Priority.STAT], hour.waits[Priority.ROUTINE]
    print(
        f"{len(coming)} came in {seconds} s, {len(hour.refused)} were refused; urgent ones waited "
        f"{max(urgent):.1f} s at most, routine ones {max(routine):.0f} s"
    )
    assert ended == {JobState.DONE: hour.accepted}
    assert hour.accepted + len(hour.refused) == len(coming)
    assert hour.refused
    assert set(hour.refused) == {limit}
    assert max(urgent) <= each * (1 + longest_run(hour.order, Priority.STAT))
    for priority in (Priority.STAT, Priority.ROUTINE, Priority.BULK):
        numbers = [number for which, number in hour.order if which is priority]
        assert numbers == sorted(numbers), "first come, first served"


def longest_run(order: list[tuple[Priority, int]], of: Priority) -> int:
    """How many of one priority were done one after another at most."""
    longest = run = 0
    for priority, _number in order:
        run = run + 1 if priority is of else 0
        longest = max(longest, run)
    return longest
