from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from config import Destination, Settings
from config.settings import AuditSettings
from cxr_sr import scheduler
from cxr_sr.conformance import statement
from cxr_sr.leader import AdvisoryLeadership, FileLeadership, leadership
from cxr_sr.scheduler import Duties
from db import Database, commitments, deliveries, early, presence, queue, schema, webhooks
from db.deliveries import Address
from db.exchange import Commitment, Document
from db.models import Job, JobEvent, PeerStatus, Source
from db.presence import Presence
from db.states import DeliveryState, JobState
from db.types import utcnow
from pacs_node.archive import Archive
from tests.db import builders
from tests.pacs_node.audit.repository import repository
from tests.pacs_node.certificates import Authority


@pytest.fixture
def duties(settings, database, store):
    with Presence(database, "scheduler") as here:
        yield Duties(settings, database, store, here)


def add_job(database, key):
    with database.write() as session:
        source = Source(
            sha256=key[-36:-4].rjust(64, "0"),
            size_bytes=3,
            object_key=key,
            media_type="application/dicom",
            origin_kind="dimse",
        )
        session.add(source)
        session.flush()
        return queue.enqueue(session, source).id


def test_the_job_of_a_silent_worker_goes_back_to_the_queue(duties, database, put_object):
    job_id = add_job(database, put_object(b"abc"))
    with database.write() as session:
        assert queue.claim(session, "worker", 0.0) is not None
    time.sleep(0.01)
    duties.expire_leases()
    with database.read() as session:
        assert session.get_one(Job, job_id).state == JobState.QUEUED


def test_an_archive_that_has_not_promised_in_time_is_sent_the_object_again(duties, database):
    asked = Address("pacs", {"name": "pacs", "storage_commitment": True})
    with database.write() as session:
        job, lease = builders.sending(session, asked)
        delivery = deliveries.stored(session, lease, 0, actor="sender")
        commitments.want(session, delivery, "1.2", "1.3")
        session.scalars(select(Commitment)).one().due_at = utcnow() - timedelta(seconds=1)
    duties.expire_leases()
    with database.read() as session:
        assert builders.only_delivery(session, job).state == DeliveryState.WAITING


def test_the_end_of_a_certificate_is_shown_and_said_once(database, store, data_dir, tmp_path):
    pair = Authority(tmp_path / "ca").issue("server", days=10)
    settings = Settings(data_dir=data_dir, web={"tls_cert": pair.cert, "tls_key": pair.key})
    with Presence(database, "scheduler") as here, capture_logs() as logs:
        duties = Duties(settings, database, store, here)
        duties.check_certificates()
        duties.check_certificates()
        with database.read() as session:
            (row,) = presence.alive(session)
            (shown,) = row.info["certificates"]
    assert (shown["keys"], shown["subject"]) == ("web.tls_cert", "server")
    assert "in 9 days; replace it" in shown["trouble"]
    assert [entry["event"] for entry in logs] == ["certificate"]


def test_destinations_are_echoed_and_their_answers_kept(database, store, tmp_path, data_dir, free_port):
    with Archive(tmp_path / "archive") as archive:
        here = Destination(name="here", ae_title="DEMO_PACS", host="127.0.0.1", port=archive.port)
        gone = Destination(name="gone", ae_title="DEMO_PACS", host="127.0.0.1", port=free_port())
        settings = Settings(data_dir=data_dir, destinations=(gone, here))
        with Presence(database, "scheduler") as presence_:
            Duties(settings, database, store, presence_).echo()
    with database.read() as session:
        assert session.get_one(PeerStatus, "here").reachable
        assert not session.get_one(PeerStatus, "gone").reachable


def test_the_room_that_is_left_is_shown(duties, database):
    duties.check_disk()
    with database.read() as session:
        (instance,) = presence.alive(session)
    assert instance.info["free_bytes"] > 0


def test_backups_are_made_and_only_the_newest_kept(duties, settings, database, monkeypatch):
    folder = scheduler.backup_folder(settings)
    moments = iter(datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 11))
    monkeypatch.setattr(scheduler, "utcnow", lambda: next(moments))
    for _ in range(9):
        duties.back_up()
    kept = sorted(path.name for path in folder.iterdir())
    assert kept == [f"cxr-sr-202601{day:02}T000000Z.db" for day in range(3, 10)]
    copy = Database(f"sqlite:///{folder / kept[-1]}")
    schema.check(copy)
    copy.close()


def test_what_a_killed_backup_has_left_goes_with_the_next(duties, data_dir):
    folder = scheduler.backup_folder(duties.settings)
    folder.mkdir(parents=True)
    for name in (".cxr-sr-20260101T000000Z.db.k2_x8a.part", ".cxr-sr-20260101T000000Z.db.k2_x8a.part-wal"):
        (folder / name).write_bytes(b"half")
    (folder / ".keep").touch()
    duties.back_up()
    left = sorted(path.name for path in folder.iterdir())
    assert left[0] == ".keep"
    assert len(left) == 2, "and the backup"


def test_rotation_leaves_other_files_alone(tmp_path):
    (tmp_path / "cxr-sr-before-upgrade.db").touch()
    (tmp_path / "cxr-sr-20260101T000000Z.db").touch()
    assert scheduler.rotate(tmp_path, 0) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["cxr-sr-before-upgrade.db"]


def test_a_backup_is_due_at_once_only_when_the_newest_is_old(tmp_path):
    now = datetime(2026, 1, 2, tzinfo=UTC)
    day = timedelta(days=1)
    assert scheduler.backup_due(tmp_path, day, now) == now
    backup = tmp_path / "cxr-sr-20260101T120000Z.db"
    backup.touch()
    os.utime(backup, (datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp(),) * 2)
    assert scheduler.backup_due(tmp_path, day, now) == datetime(2026, 1, 2, 12, tzinfo=UTC)
    assert scheduler.backup_due(tmp_path, day, now + 3 * day) == now + 3 * day


def test_old_temporary_files_go_and_young_ones_and_locks_stay(store):
    folder = store.spool / "dimse-1"
    folder.mkdir()
    paths = {name: folder / name for name in ("old.part", "young.part", "old.lock")}
    for path in paths.values():
        path.touch()
    for name in ("old.part", "old.lock"):
        os.utime(paths[name], (1, 1))
    assert scheduler.sweep_spool(store, datetime.now(UTC) - timedelta(hours=1)) == 1
    assert not paths["old.part"].exists()
    assert paths["young.part"].exists()
    assert paths["old.lock"].exists()


def test_orphaned_objects_are_removed_and_those_with_a_row_kept(duties, database, store, put_object):
    kept, orphan = put_object(b"abc"), put_object(b"xyz")
    add_job(database, kept)
    for key in (kept, orphan):
        os.utime(store.root / key, (1, 1))
    duties.sweep_orphans()
    assert (store.root / kept).exists()
    assert not (store.root / orphan).exists()


def test_only_one_of_two_schedulers_leads_and_the_other_takes_over(tmp_path, database):
    first, second = leadership(database, tmp_path), leadership(database, tmp_path)
    assert isinstance(first, FileLeadership)
    assert first.hold()
    assert first.hold()
    assert not second.hold()
    first.give_up()
    assert second.hold()
    second.give_up()


@pytest.mark.peer("pgserver")
def test_on_postgresql_the_lead_follows_the_connection(postgresql_url):
    databases = [Database(postgresql_url) for _ in range(2)]
    first, second = AdvisoryLeadership(databases[0]), AdvisoryLeadership(databases[1])
    try:
        assert first.hold()
        assert first.hold()
        assert not second.hold()
        assert first._connection is not None
        first._connection.connection.dbapi_connection.close()
        assert second.hold()
        assert not first.hold()
    finally:
        for lead, database in zip((first, second), databases, strict=True):
            lead.give_up()
            database.close()


def test_a_duty_that_fails_is_tried_again_and_the_others_go_on(duties):
    calls = []

    def broken() -> None:
        calls.append(1)
        raise RuntimeError("no")

    scheduler._logged(broken)()
    assert calls == [1]


def test_the_role_leads_shows_it_and_ends_when_told(settings, database):
    stop = threading.Event()
    thread = threading.Thread(target=scheduler.run, args=(settings, stop))
    thread.start()
    deadline = time.monotonic() + 20
    leading = False
    while not leading and time.monotonic() < deadline:
        time.sleep(0.05)
        with database.read() as session:
            leading = any(i.info.get("leading") and "free_bytes" in i.info for i in presence.alive(session))
    stop.set()
    thread.join(timeout=15)
    assert leading
    assert not thread.is_alive()


def test_every_duty_stands_in_the_timetable(duties):
    names = {job.id for job in scheduler.timetable(duties).get_jobs()}
    daily = {"purge", "back_up", "write_statement"}
    often = {"expire_leases", "check_disk", "check_certificates", "echo", "sweep_orphans"}
    assert names == daily | often | {
        "count_jobs",
        "check_alerts",
        "call_webhooks",
        "seal_trail",
        "verify_trail",
    }


def test_the_conformance_statement_is_written_for_its_page(duties, database):
    for _ in range(2):
        duties.write_statement()
    with database.read() as session:
        kept = session.get_one(Document, scheduler.STATEMENT)
    assert kept.content == json.loads(json.dumps(statement().data()))


class TestAudit:
    @pytest.fixture
    def told(self, data_dir):
        """Settings with a file of audit messages, and what stands in it."""
        settings = Settings(data_dir=data_dir, audit=AuditSettings(messages="file"))

        def read() -> list[str]:
            path = data_dir / "audit.xml"
            return path.read_text().splitlines() if path.exists() else []

        return settings, read

    def test_what_the_roles_record_is_told_and_the_end_too(self, told, database):
        settings, read = told
        stop = threading.Event()
        thread = threading.Thread(target=scheduler.run, args=(settings, stop))
        thread.start()
        deadline = time.monotonic() + 60
        while not read() and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()
        thread.join(timeout=60)
        assert "110120" in read()[0]
        assert "110121" in read()[-2]
        assert "110101" in read()[-1], "the seal over all of it"
        assert all("cxr-sr scheduler" in line for line in read())

    def test_a_repository_that_is_down_is_shown_and_holds_nothing_up(
        self, data_dir, database, store, free_port
    ):
        audit = AuditSettings(messages="syslog", host="127.0.0.1", port=free_port(), tls=False)
        settings = Settings(data_dir=data_dir, audit=audit)
        with Presence(database, "scheduler") as here:
            duties = Duties(settings, database, store, here)
            with capture_logs() as logs:
                duties.tell_repository()
                duties.tell_repository()
            assert [entry["event"] for entry in logs] == ["audit-waits"]
            with database.read() as session:
                (instance,) = presence.alive(session)
            assert "cannot be reached" in instance.info["problem"]
            assert instance.info["audit_waiting"] == 1
            with repository(port=audit.port) as there:
                duties.tell_repository()
                assert len(there.messages) == 1
            with database.read() as session:
                (instance,) = presence.alive(session)
            assert instance.info["problem"] is None
            assert instance.info["audit_waiting"] == 0

    def test_what_retention_takes_untold_is_told_as_lost(self, told, database, store):
        settings, read = told
        with Presence(database, "scheduler") as here:
            duties = Duties(settings, database, store, here)
            duties.tell_repository()
            with database.write() as session:
                builders.sending(session, builders.PACS)
                for event in session.scalars(select(JobEvent)):
                    event.at = datetime(2020, 1, 1, tzinfo=UTC)
            duties.purge()
            duties.tell_repository()
        assert any("110133" in line for line in read())

    def test_it_stands_in_the_timetable_where_it_is_wanted(self, told, database, store):
        with Presence(database, "scheduler") as here:
            duties = Duties(told[0], database, store, here)
        assert "tell_repository" in {job.id for job in scheduler.timetable(duties).get_jobs()}


def test_addresses_are_called_by_whoever_leads(duties, database, put_object):
    heard = []

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_args):
            pass

    with HTTPServer(("127.0.0.1", 0), Ear) as server:
        with database.write() as session:
            webhooks.create(
                session,
                "ris",
                f"http://127.0.0.1:{server.server_address[1]}/",
                [JobState.FAILED],
                created_by=None,
            )
        job_id = add_job(database, put_object(b"abc"))
        with database.write() as session:
            queue.fail(session, queue.claim(session, "worker", 60), "decode", "broken", actor="worker")
        server.timeout = 60
        duties.call_webhooks()
        server.handle_request()
        duties.stop()
    assert [(message["job"], message["state"]) for message in heard] == [(job_id, "failed")]


class Disk:
    """A disk of 10,000 bytes that gives room when objects are removed from it."""

    total = 10_000

    def __init__(self) -> None:
        self.free = 1_100


def test_room_is_made_before_new_images_are_refused_and_not_when_there_is_some(
    settings, database, store, monkeypatch
):
    disk = Disk()
    monkeypatch.setattr("db.objects.shutil.disk_usage", lambda _path: disk)
    store.reserve_bytes = 1_000
    asked = []

    def make_room(_database, _store, *, before, enough):
        asked.append((before < utcnow() - timedelta(hours=23), enough()))
        disk.free = 1_500
        assert enough()
        return early.Cleared(sources=1, results=2, size_bytes=400)

    monkeypatch.setattr(early, "make_room", make_room)
    with Presence(database, "scheduler") as here, capture_logs() as logs:
        duties = Duties(settings, database, store, here)
        duties.check_disk()
        duties.check_disk()
        disk.free = 9_000
        duties.check_disk()
    assert asked == [(True, False)]
    assert [entry["event"] for entry in logs] == ["purged-early", "disk-low", "disk-low: over"]


@pytest.mark.parametrize("fails", ["the lock", "the row"])
def test_a_lease_that_nobody_could_keep_costs_no_attempt(duties, database, monkeypatch, fails):
    """A full disk lets a transaction begin and fails at its first row."""
    now = [0.0]
    monkeypatch.setattr("cxr_sr.scheduler.time.monotonic", lambda: now[0])
    with database.write() as session:
        job_id = builders.job(session).id
        builders.claim(session, seconds=-1)
    write = database.write

    def away():
        raise OperationalError("BEGIN IMMEDIATE", {}, Exception("locked"))

    expire = queue.expire_leases
    if fails == "the lock":
        monkeypatch.setattr(database, "write", away)
    else:
        monkeypatch.setattr(queue, "expire_leases", lambda *_args, **_more: away())
    with pytest.raises(OperationalError):
        duties.expire_leases()
    monkeypatch.setattr(database, "write", write)
    monkeypatch.setattr(queue, "expire_leases", expire)
    duties.expire_leases()
    now[0] += scheduler.GRACE_SECONDS - 1
    duties.expire_leases()
    with database.read() as session:
        assert session.get_one(Job, job_id).state == JobState.RUNNING
    now[0] += 2
    duties.expire_leases()
    with database.read() as session:
        assert session.get_one(Job, job_id).state == JobState.QUEUED
