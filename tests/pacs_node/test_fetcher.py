"""The fetcher at work: its hours, its manners, archives that are dead, slow, wrong or full of surprises."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import select

from config import Settings
from config.network import Archive
from config.settings import FetchSettings
from db import Database, batches, commands
from db.models import Batch, Job, Source
from db.objects import LocalStore
from db.states import JobState, Priority, Purpose
from pacs_node import header, pull
from pacs_node.fetched import Basket
from pacs_node.fetcher import Fetcher, within
from tests.pacs_node.nodes import (
    CR,
    EXPLICIT,
    PATIENT,
    associated,
    encoded,
    eventually,
    make_database,
    make_object,
    make_settings,
    receiving,
)
from tests.pacs_node.webpeers import Answered, Asked, WebPeer, as_json, web_peer

SECONDS = 60.0


@pytest.mark.parametrize(
    ("hours", "at", "open_"),
    [
        ("", "12:00", True),
        ("20:00-06:00", "19:59", False),
        ("20:00-06:00", "20:00", True),
        ("20:00-06:00", "00:30", True),
        ("20:00-06:00", "06:00", False),
        ("08:00-12:00", "07:59", False),
        ("08:00-12:00", "11:59", True),
        ("08:00-12:00", "12:00", False),
    ],
)
def test_the_hours_of_an_archive(hours, at, open_):
    assert within(hours, datetime.strptime(at, "%H:%M")) is open_  # noqa: DTZ007 - local on purpose


def tag(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


@dataclass
class Shelf:
    """An archive by DICOMweb that has these studies; `wado` may answer for one in its own way."""

    studies: dict[str, list[Dataset]] = field(default_factory=dict)
    wado: dict[str, Callable[[Asked], Answered]] = field(default_factory=dict)
    modality: str = "CR"
    search_status: int = 200
    series_status: int = 200

    def add(self, images: int = 1) -> str:
        uid = generate_uid()
        self.studies[uid] = [make_object() for _ in range(images)]
        return uid

    def __call__(self, asked: Asked) -> Answered:
        path = asked.path.partition("?")[0]
        if path.endswith("/studies"):
            found = [{"0020000D": tag("UI", uid), "00100020": tag("LO", "P-1")} for uid in self.studies]
            return Answered(self.search_status, as_json(found))
        study = path.split("/studies/")[1].split("/")[0]
        if path.endswith("/series"):
            series = {"0020000E": tag("UI", "1.2.3.9"), "00080060": tag("CS", self.modality)}
            return Answered(self.series_status, as_json([series]))
        if study in self.wado:
            return self.wado[study](asked)
        return parts(*(whole(ds) for ds in self.studies[study]))


def whole(ds: Dataset) -> bytes:
    meta = header.part10_header(ds.SOPClassUID, ds.SOPInstanceUID, EXPLICIT)
    return meta + encoded(ds)


def parts(*files: bytes) -> Answered:
    body = b"".join(b"\r\n--x\r\nContent-Type: application/dicom\r\n\r\n" + file for file in files)
    return Answered(200, body + b"\r\n--x--\r\n", 'multipart/related; type="application/dicom"; boundary=x')


@dataclass
class Work:
    """A node's state, and the fetcher that works."""

    settings: Settings
    database: Database
    store: LocalStore
    now: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.fetcher = Fetcher(self.settings, self.database, self.store, self.stop, lambda: self.now)

    def batch(self, *studies: str, archive: str = "old", **query: Any) -> int:
        with self.database.write() as session:
            return batches.create(session, archive, [batches.Chosen(uid) for uid in studies], query=query).id

    def until(self, true: Callable[[], object], seconds: float = SECONDS) -> bool:
        def step() -> object:
            self.fetcher.step()
            return true()

        return eventually(step, seconds)

    def finished(self, number: int) -> bool:
        return self.until(lambda: self.state(number) == "finished")

    def state(self, number: int) -> str:
        with self.database.read() as session:
            return session.get_one(Batch, number).state

    def items(self, number: int) -> list[tuple[str, int, str | None]]:
        with self.database.read() as session:
            return [(one.state, one.received, one.reason) for one in batches.items(session, number)]

    def attempts(self, number: int) -> list[int]:
        with self.database.read() as session:
            return [one.attempts for one in batches.items(session, number)]

    def jobs(self) -> list[Job]:
        with self.database.read() as session:
            return list(session.scalars(select(Job).order_by(Job.id)))

    def sources(self) -> list[Source]:
        with self.database.read() as session:
            return list(session.scalars(select(Source).order_by(Source.id)))


@contextmanager
def working(tmp_path: Any, *archives: Archive, dicom: Any = None, **fetch: Any) -> Iterator[Work]:
    settings = make_settings(tmp_path / "node", dicom=PATIENT | (dicom or {})).model_copy(
        update={"archives": archives, "fetch": FetchSettings(**fetch)}
    )
    database = make_database(settings)
    work = Work(settings, database, LocalStore(settings.data_dir / "objects"))
    try:
        yield work
    finally:
        work.stop.set()
        work.fetcher.drain(SECONDS)
        database.close()


def web(peer: WebPeer, name: str = "old") -> Archive:
    return Archive(name=name, kind="dicomweb", url=peer.url)


def test_fetched_images_wait_behind_clinical_ones_with_the_wishes_of_the_batch(tmp_path):
    shelf = Shelf()
    study = shelf.add(images=2)
    with web_peer(shelf) as peer, working(tmp_path, web(peer)) as work:
        number = work.batch(study, requested={"scale": 2})
        assert work.finished(number)
        assert work.items(number) == [("fetched", 2, None)]
        for job in work.jobs():
            assert (job.priority, job.purpose) == (Priority.BULK, Purpose.CLINICAL)
            assert (job.batch_id, job.requested) == (number, {"scale": 2})
        assert {(s.origin_kind, s.sop_class_uid) for s in work.sources()} == {("fetch", CR)}
        asked = [one for one in peer.asked if "/series/" in one.path]
        assert asked[0].headers["Accept"].endswith("transfer-syntax=*")


def test_nothing_is_fetched_outside_the_hours(tmp_path):
    shelf = Shelf()
    study = shelf.add()
    with web_peer(shelf) as peer, working(tmp_path, web(peer), hours="20:00-06:00") as work:
        number = work.batch(study)
        for _ in range(5):
            work.fetcher.step()
        assert (work.items(number), peer.asked) == ([("waiting", 0, None)], [])
        work.now = datetime(2026, 1, 1, 23, tzinfo=UTC)
        assert work.finished(number)


def test_no_more_is_fetched_than_may_wait(tmp_path):
    shelf = Shelf()
    studies = [shelf.add() for _ in range(4)]
    with web_peer(shelf) as peer, working(tmp_path, web(peer), max_waiting=2) as work:
        number = work.batch(*studies)
        assert work.until(lambda: len(work.jobs()) == 2)
        work.until(lambda: False, 1)
        assert [state for state, _, _ in work.items(number)] == ["fetched", "fetched", "waiting", "waiting"]
        with work.database.write() as session:
            for job in session.scalars(select(Job)):
                job.state = JobState.DONE
        assert work.finished(number)


def test_a_dead_archive_delays_no_other_and_uses_up_no_attempt(tmp_path):
    """MIG#347: one that failed stuck the whole queue."""
    shelf = Shelf()
    study = shelf.add()
    with web_peer(Shelf()) as gone:
        dead = web(gone, "dead")
    with web_peer(shelf) as peer, working(tmp_path, dead, web(peer)) as work:
        waiting, living = work.batch("1.2.3", archive="dead"), work.batch(study)
        assert work.finished(living)
        assert work.until(lambda: (work.items(waiting)[0][2] or "").endswith("cannot be reached"))
        work.until(lambda: False, 1)
        assert work.items(waiting)[0][0] in ("waiting", "fetching")
        assert work.attempts(waiting)[0] <= 1


def test_a_study_that_breaks_off_is_tried_again_and_fails_in_the_end(tmp_path):
    shelf = Shelf()
    studies = [shelf.add() for _ in range(4)]
    shelf.wado[studies[0]] = lambda _: Answered(503)
    shelf.wado[studies[1]] = lambda _: Answered(404)
    shelf.wado[studies[2]] = lambda _: Answered(200, b"--x\r\n\r\ncut", 'multipart/related; boundary="x"')
    with web_peer(shelf) as peer, working(tmp_path, web(peer), max_attempts=2) as work:
        number = work.batch(*studies)
        assert work.finished(number)
        assert [state for state, _, _ in work.items(number)] == ["failed", "failed", "failed", "fetched"]
        assert work.attempts(number) == [2, 1, 2, 1]
        reasons = [reason or "" for _, _, reason in work.items(number)]
        assert "503" in reasons[0]
        assert "not have the study" in reasons[1]
        assert "cut off" in reasons[2]


def test_what_cannot_be_read_is_said_and_the_rest_is_taken(tmp_path):
    shelf = Shelf()
    study = shelf.add()
    good = make_object()
    shelf.wado[study] = lambda _: parts(b"no DICOM at all", whole(good))
    with web_peer(shelf) as peer, working(tmp_path, web(peer)) as work:
        number = work.batch(study)
        assert work.finished(number)
        ((state, received, reason),) = work.items(number)
        assert (state, received) == ("fetched", 1)
        assert reason.startswith("1 of 2 objects were refused")
        assert [s.sop_instance_uid for s in work.sources()] == [good.SOPInstanceUID]


def test_an_object_larger_than_allowed_is_refused_and_leaves_nothing(tmp_path):
    shelf = Shelf()
    study = shelf.add()
    big = make_object(size=640)
    shelf.wado[study] = lambda _: parts(whole(big))
    limit = {"max_object_bytes": 1 << 19}
    with web_peer(shelf) as peer, working(tmp_path, web(peer), dicom=limit, max_attempts=1) as work:
        number = work.batch(study, shelf.add())
        assert work.finished(number)
        ((state, received, reason), other) = work.items(number)
        assert (state, received, "more than 524288 bytes" in reason) == ("failed", 0, True)
        assert other == ("fetched", 1, None)
        assert len(work.sources()) == 1
        assert [p for p in work.store.spool.rglob("*.part") if p.is_file()] == []


def test_an_archive_that_is_not_configured_any_more_fails_in_words(tmp_path):
    with working(tmp_path, Archive(name="new", ae_title="NEW", host="127.0.0.1", port=9)) as work:
        number = work.batch("1.2.3")
        assert work.finished(number)
        assert work.items(number) == [("failed", 0, "its archive is not configured any more")]


def test_a_study_without_a_series_that_was_asked_for_is_no_failure(tmp_path):
    shelf = Shelf(modality="CT")
    study = shelf.add()
    with web_peer(shelf) as peer, working(tmp_path, web(peer)) as work:
        number = work.batch(study)
        assert work.finished(number)
        ((state, received, reason),) = work.items(number)
        assert (state, received, "no series" in reason) == ("fetched", 0, True)
        assert work.sources() == []


@pytest.mark.parametrize("status", [404, 501])
def test_of_an_archive_that_cannot_tell_its_series_the_whole_study_is_fetched(tmp_path, status):
    shelf = Shelf(series_status=status)
    study = shelf.add(images=2)
    with web_peer(shelf) as peer, working(tmp_path, web(peer)) as work:
        number = work.batch(study)
        assert work.finished(number)
        assert work.items(number) == [("fetched", 2, None)]
        assert peer.paths("GET")[-1] == f"/studies/{study}"


def test_a_cancelled_batch_drops_the_study_that_is_on_its_way(tmp_path):
    shelf = Shelf()
    study = shelf.add()
    asked, go = threading.Event(), threading.Event()

    def slow(_: Asked) -> Answered:
        asked.set()
        go.wait(SECONDS)
        return parts(*(whole(ds) for ds in shelf.studies[study]))

    shelf.wado[study] = slow
    with web_peer(shelf) as peer, working(tmp_path, web(peer)) as work:
        number = work.batch(study)
        assert work.until(asked.is_set)
        with work.database.write() as session:
            batches.cancel(session, batches.get(session, number), actor="anna")
        assert eventually(lambda: _lost(work), SECONDS)
        go.set()
        work.fetcher.drain(SECONDS)
        assert work.items(number) == [("cancelled", 0, "cancelled on request")]
        assert work.sources() == []


def _lost(work: Work) -> bool:
    """Whether the thread that kept the claim has seen that it is lost."""
    return not any(thread.name.startswith("claim-") for thread in threading.enumerate())


def test_images_of_a_cancelled_batch_can_be_fetched_again(tmp_path):
    shelf = Shelf()
    study = shelf.add()
    with web_peer(shelf) as peer, working(tmp_path, web(peer)) as work:
        first = work.batch(study)
        assert work.finished(first)
        second = work.batch(study)
        assert work.finished(second)
        assert work.items(second) == [("fetched", 1, "1 of 1 objects were here already")]
        with work.database.write() as session:
            for job in session.scalars(select(Job)):
                job.state = JobState.CANCELLED
        third = work.batch(study)
        assert work.finished(third)
        assert [job.batch_id for job in work.jobs()] == [first, third]


def ask(work: Work, **arguments: Any) -> dict[str, Any]:
    with work.database.write() as session:
        number = commands.ask(session, batches.ROLE, "search", arguments)

    def answer() -> dict[str, Any] | None:
        with work.database.read() as session:
            return commands.result(session, number).answer

    assert work.until(answer)
    return answer() or {}


def test_a_search_is_answered_and_nothing_of_it_is_logged(tmp_path, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    shelf = Shelf()
    study = shelf.add()
    with web_peer(shelf) as peer, working(tmp_path, web(peer)) as work:
        answer = ask(work, archive="old", terms={"patient": "SECRET-77"}, limit=5)
        assert "PatientID=SECRET-77" in peer.asked[0].path
        assert (answer["ok"], answer["more"], answer["modalities"]) == (True, False, ["CR", "DX"])
        assert answer["studies"] == [{"study": study, "shown": {"PatientID": "P-1"}}]
        shelf.search_status = 500
        failed = ask(work, archive="old", terms={"patient": "SECRET-77"})
        assert (failed["ok"], "500" in failed["message"]) == (False, True)
        assert "SECRET" not in failed["message"]
    assert "SECRET" not in caplog.text + capsys.readouterr().out + capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [{"archive": "none", "terms": {"patient": "1"}}, {"archive": "old", "terms": {}}, {}]
)
def test_a_search_that_makes_no_sense_is_answered_in_words(tmp_path, arguments):
    with web_peer(Shelf()) as peer, working(tmp_path, web(peer)) as work:
        answer = ask(work, **arguments)
        assert (answer["ok"], bool(answer["message"])) == (False, True)


@dataclass
class Mover:
    """An archive that moves its objects to a port, and says that it was `claimed`."""

    port: int
    objects: list[Dataset]
    claimed: int
    originator: str

    def series(self, study: str) -> list[pull.SeriesFound] | None:
        return None

    def instances(self, study: str, series: list[str] | None) -> list[str]:
        return [ds.SOPInstanceUID for ds in self.objects]

    def retrieve(self, study: str, series: Any, basket: Basket, message_id: int) -> int:
        with associated(self.port, calling="ARCHIVE") as assoc:
            for ds in self.objects:
                who: dict[str, Any] = {"originator_aet": self.originator, "originator_id": message_id}
                status = assoc.send_c_store(ds, **(who if self.originator else {}))
                assert status.Status == 0
        return self.claimed


@contextmanager
def moving(tmp_path: Any, monkeypatch: Any, sent: int, claimed: int, originator: str) -> Iterator[Work]:
    archive = Archive(name="old", ae_title="ARCHIVE", host="127.0.0.1", port=104, retrieve="move")
    with working(tmp_path, archive, max_attempts=1) as work, receiving(work.settings) as node:
        source = Mover(node.port, [make_object() for _ in range(sent)], claimed, originator)
        monkeypatch.setattr(pull, "opened", lambda *_: nullcontext(source))
        yield work


def test_a_move_of_which_less_came_than_was_sent_has_failed(tmp_path, monkeypatch):
    """adit#415: partial transfers "succeeded"."""
    with moving(tmp_path, monkeypatch, 1, 3, "CXR_SR") as work:
        number = work.batch("1.2.3")
        assert work.finished(number)
        assert work.items(number) == [("failed", 1, "old says that it sent 3 objects, 1 came")]


def test_what_was_moved_joins_its_batch(tmp_path, monkeypatch):
    with moving(tmp_path, monkeypatch, 2, 2, "CXR_SR") as work:
        number = work.batch("1.2.3", requested={"scale": 4})
        assert work.finished(number)
        assert work.items(number) == [("fetched", 2, None)]
        assert {(j.batch_id, j.priority, j.requested["scale"]) for j in work.jobs()} == {(number, 20, 4)}
        assert {s.origin_kind for s in work.sources()} == {"fetch"}


@pytest.mark.parametrize("originator", ["", "SOMEONE"])
def test_a_move_whose_objects_do_not_say_for_whom_is_counted_by_their_names(
    tmp_path, monkeypatch, originator
):
    with moving(tmp_path, monkeypatch, 2, 2, originator) as work:
        number = work.batch("1.2.3")
        assert work.finished(number)
        assert work.items(number) == [("fetched", 2, None)]
        assert {(j.batch_id, j.priority) for j in work.jobs()} == {(None, 10)}


def test_the_bytes_of_a_file_are_the_same_whatever_way_it_came():
    ds = make_object()
    file = whole(ds)
    names = header.read_part10(io.BytesIO(file))
    assert (names.sop_class_uid, names.sop_instance_uid) == (CR, ds.SOPInstanceUID)
