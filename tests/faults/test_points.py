"""A process killed at each named point of the code: what was promised arrives all the same, once, and nothing
is left behind."""

from __future__ import annotations

import gc
import inspect
import json
import os
import socket
import tracemalloc  # noqa: F401 - before two threads that find a cut socket load it at once, within pytest
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset
from sqlalchemy import func, select, update

from db import people, queue, schema
from db.backup import restore
from db.exchange import Commitment
from db.leases import owner_here
from db.models import Delivery, Job, Result, Source
from db.states import DeliveryState, JobState
from db.types import utcnow
from tests.faults.modality import Modality
from tests.faults.node import ROLES, Node, RecordingArchive, wait_until
from tests.faults.pierced import Nursery
from tests.faults.points import POINTS, Point, find
from tests.faults.promises import store_in, sweep, take_stock

QUICK = {
    "its row committed, not answered",
    "the result stored, its preview not",
    "the answer not written down",
    "let go, its object still there",
    "an upload committed, not answered",
}
"""The points that are tried in `make test`."""

LEAVES_SOMETHING = {
    "let go, its object still there",
    "one of a source's objects deleted",
    "an orphan swept, others not",
    "a backup half made",
}
"""Points of the scheduler after which there are files that nobody names, until the duty is done again."""

BOUNDARY = "-----a-boundary"

DUTIES = {"purge": "purge", "sweep": "sweep_orphans", "backup": "back_up", "leases": "expire_leases"}

SETTINGS = """
storage_commitment = true
[enhancer]
scale = 2
[retention]
backups = 2
"""


class House:
    """A node, each role of it a process of its own that can be started with a point at which it dies."""

    def __init__(self, folder: Path) -> None:
        self.recorder = RecordingArchive()
        self.node = Node(folder / "node", destination_port=self.recorder.port, more=SETTINGS)
        self.node.folder.joinpath("var").mkdir(mode=0o700)
        schema.upgrade(self.node.database)
        with self.node.database.write() as session:
            user = people.add_user(session, "ada", "radiologist", "correct horse battery")
            self.token, _ = people.create_token(session, user, "test")
        self.nursery = Nursery(self.node)

    def open(self, *but: str) -> None:
        """Start every role that does not run, except those named; these are killed."""
        for role in ROLES:
            if role in but:
                self.nursery.end(role)
            elif not self.nursery.runs(role):
                self.nursery.start(role)

    def jobs(self, ds: Dataset) -> list[Job]:
        """The jobs of an image."""
        with self.node.database.read() as session:
            query = select(Job).join(Source).where(Source.sop_instance_uid == str(ds.SOPInstanceUID))
            return list(session.scalars(query))

    def arrived(self, ds: Dataset) -> bool:
        """Whether the result of an image is where it should be, and promised to stay there."""
        with (
            self.node.database.write() as session
        ):  # a question whose asker died is put again in five minutes
            session.execute(
                update(Commitment).where(Commitment.state == "waiting").values(not_before=utcnow())
            )
        with self.node.database.read() as session:
            query = select(Delivery.state).join(Job).join(Source)
            query = query.where(Source.sop_instance_uid == str(ds.SOPInstanceUID), Job.state == JobState.DONE)
            return session.scalars(query).all() == [DeliveryState.COMMITTED]

    def post(self, path: str, kind: str, body: bytes) -> int | None:
        """Post something as a program does; the status, None when the connection was cut or refused."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.node.web_port}{path}",
            data=body,
            headers={"Content-Type": kind, "Authorization": f"Bearer {self.token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                json.load(answer)
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return None

    def close(self) -> None:
        self.nursery.close()
        self.recorder.close()
        self.node.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("points"))
    yield made
    made.close()
    gc.collect()


@pytest.mark.parametrize("name", POINTS)
def test_a_named_point_is_in_the_code(name):
    point = POINTS[name]
    owner, last, function = find(point.target)
    assert callable(getattr(owner, last))
    if point.caller is not None:
        caller = inspect.unwrap(find(point.caller)[2])
        assert function.__name__ in caller.__code__.co_names, (
            f"{point.caller} does not call {function.__name__}"
        )


def points() -> list[object]:
    """Every point; those that `make test` has no time for are marked."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.faults) for name in POINTS]


@pytest.mark.slow
@pytest.mark.parametrize("name", points())
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # sockets of the recorder and the modality, cut by the kill
def test_a_process_killed_at_a_named_point_loses_nothing_and_leaves_nothing(name, house: House, small_image):
    point = POINTS[name]
    ds = small_image(list(POINTS).index(name))
    {"scheduler": by_the_clock, "web": by_the_web}.get(point.role, by_association)(house, name, point, ds)
    gc.collect()  # here, where the warning about the cut sockets is expected


def by_association(house: House, name: str, point: Point, ds: Dataset) -> None:
    house.open(point.role)
    mark = house.nursery.start(point.role, name)
    modality = Modality(house.node.dicom_port, [ds])
    modality.allow(1)
    modality.start()
    try:
        wait_until(lambda: mark.exists() and not house.nursery.runs(point.role), 120, f"killed, {name}")
        house.open()
        wait_until(lambda: not modality.is_alive(), 120, "the image is acknowledged")
    finally:
        modality.give_up.set()
        modality.join(60)
    assert modality.acknowledged == [ds.SOPInstanceUID]
    everything_arrives(house, ds, most_copies=2 if point.role == "sender" else 1)


def by_the_web(house: House, name: str, point: Point, ds: Dataset) -> None:
    house.open("web")
    mark = house.nursery.start("web", name)
    post = post_upload if point.act == "upload" else post_stow
    wait_until(lambda: listens(house.node.web_port), 120, "the web role listens")
    assert post(house, ds) is None, "it died before it could answer"
    wait_until(lambda: mark.exists() and not house.nursery.runs("web"), 60, f"killed, {name}")
    house.open()
    wait_until(lambda: post(house, ds) in {200, 202}, 120, "the second try is taken")
    everything_arrives(house, ds, most_copies=1)


def post_upload(house: House, ds: Dataset) -> int | None:
    fields = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="destination"\r\n\r\nrecorder\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="chest.dcm"\r\n\r\n'
    )
    body = fields.encode() + encoded(ds) + f"\r\n--{BOUNDARY}--\r\n".encode()
    return house.post("/api/v1/jobs", f"multipart/form-data; boundary={BOUNDARY}", body)


def post_stow(house: House, ds: Dataset) -> int | None:
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = head + encoded(ds) + f"\r\n--{BOUNDARY}--\r\n".encode()
    kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    return house.post("/dicomweb/studies", kind, body)


def encoded(ds: Dataset) -> bytes:
    stream = BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def by_the_clock(house: House, name: str, point: Point, ds: Dataset) -> None:
    PREPARED[point.act](house, ds)
    mark = house.nursery.start("scheduler", name, DUTIES[point.act])
    wait_until(lambda: mark.exists() and not house.nursery.runs("scheduler"), 120, f"killed, {name}")
    stock = take_stock(house.node)
    assert not stock.missing, "first the row says so, then the object goes"
    assert not stock.damaged
    assert bool(stock) == (name in LEAVES_SOMETHING), "it was killed in the middle"
    house.nursery.start("scheduler", duty=DUTIES[point.act])
    wait_until(lambda: not house.nursery.runs("scheduler"), 120, "the duty is done")
    if point.act == "leases":
        house.open()
        everything_arrives(house, ds, most_copies=1)
    if point.act == "backup":
        backups = list((house.node.folder / "var" / "backups").iterdir())
        assert backups
        for backup in backups:
            copy = house.node.folder / f"copy-{mark.name}-{backup.stem}" / "cxr-sr.db"
            restore(f"sqlite:///{copy}", backup)
            assert copy.stat().st_size
    if point.act == "purge":
        sweep(house.node)
        [job] = house.jobs(ds)
        with house.node.database.read() as session:
            assert session.get_one(Source, job.source_id).deleted_at is not None
    assert not take_stock(house.node)


def a_dead_worker_s_job(house: House, ds: Dataset) -> None:
    house.open()
    dead = owner_here("worker").replace(f":{os.getpid()}:", f":{house.nursery.pids['worker']}:")
    house.open("worker", "scheduler")
    send(house, ds)
    with house.node.database.write() as session:
        assert queue.claim(session, dead, 3600) is not None


def an_old_image(house: House, ds: Dataset) -> None:
    house.open()
    send(house, ds)
    everything_arrives(house, ds, most_copies=1)
    house.open("scheduler")
    long_ago = utcnow() - timedelta(days=4000)
    [job] = house.jobs(ds)
    with house.node.database.write() as session:
        session.execute(update(Source).where(Source.id == job.source_id).values(last_received_at=long_ago))
        session.execute(update(Job).where(Job.id == job.id).values(finished_at=long_ago))
        session.execute(update(Result).where(Result.id == job.result_id).values(created_at=long_ago))


def three_orphans(house: House, _ds: Dataset) -> None:
    house.open("scheduler")
    store = store_in(house.node)
    for number in range(3):
        file = store.spool / f"orphan-{number}.part"
        file.write_bytes(b"nobody's")
        stored = store.put(file, "sources", ".dcm")
        os.utime(store.root / stored.key, (0, 0))


def no_backup(house: House, _ds: Dataset) -> None:
    house.open("scheduler")
    for file in (house.node.folder / "var").glob("backups/*"):
        file.unlink()


PREPARED: dict[str, Callable[[House, Dataset], None]] = {
    "leases": a_dead_worker_s_job,
    "purge": an_old_image,
    "sweep": three_orphans,
    "backup": no_backup,
}


def send(house: House, ds: Dataset) -> None:
    modality = Modality(house.node.dicom_port, [ds])
    modality.allow(1)
    modality.start()
    wait_until(lambda: not modality.is_alive(), 120, "the image is acknowledged")


def everything_arrives(house: House, ds: Dataset, *, most_copies: int) -> None:
    """One job, one result, at the archive in equal copies, promised; no file without a row, and no row
    without its file."""
    wait_until(lambda: house.arrived(ds), 120, "the result has arrived and is promised")
    [job] = house.jobs(ds)
    uid = str(job.result_sop_uid)
    copies = house.recorder.copies()[uid]
    assert len(copies) <= most_copies
    assert len(set(copies)) == 1
    assert uid in house.recorder.promised
    with house.node.database.read() as session:
        named = (
            select(func.count()).select_from(Source).where(Source.sop_instance_uid == str(ds.SOPInstanceUID))
        )
        assert session.scalar(named) == 1
        assert (
            session.scalar(select(func.count()).select_from(Result).where(Result.sop_instance_uid == uid))
            == 1
        )
    stock = take_stock(house.node)
    print(f"left by the kill: {stock}")
    assert not stock.missing
    assert not stock.damaged
    sweep(house.node)
    wait_until(lambda: not take_stock(house.node), 30, f"nothing is left: {take_stock(house.node)}")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
