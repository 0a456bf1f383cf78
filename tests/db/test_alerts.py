"""What somebody must look at: found, raised once, told again, cleared; without patients unless asked for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from config import Settings
from config.network import Destination
from config.settings import AlertSettings, StorageSettings
from db import alerts, measurements, pauses, people
from db.alerts import Condition
from db.desk import Pause
from db.models import JobEvent, Patient, PeerStatus, RoleInstance, Series, Source, Study
from db.objects import Room
from db.presence import Presence
from db.states import JobState, Priority
from db.types import utcnow
from tests.db import builders

PACS = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
ROOM = Room(free_bytes=500 * 10**9, total_bytes=10**12)
DAY = timedelta(days=1)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(
        data_dir=tmp_path / "var", destinations=(PACS,), storage=StorageSettings(reserve_bytes=10**9)
    )


@pytest.fixture
def look(database, settings):
    """Return a function that gives the sentences of what is wrong, by kind."""

    def look(room: Room | None = ROOM, wanted: Settings = settings) -> dict[str, str]:
        with database.read() as session:
            return {one.kind: one.message for one in alerts.look(session, wanted, room)}

    return look


def test_a_new_node_needs_nobody(look):
    assert look() == {}


def test_a_role_that_was_here_and_is_away_is_missed_but_not_during_a_restart(database, look):
    with Presence(database, "receiver"):
        assert look() == {}
    assert look() == {}
    long_ago = utcnow() - timedelta(minutes=5)
    with database.write() as session:
        session.execute(update(RoleInstance).values(beat_at=long_ago))
    assert look() == {"role-missing": f"No receiver has been running since {long_ago:%Y-%m-%d %H:%M} UTC."}
    with Presence(database, "receiver"):
        assert look() == {}


def test_a_worker_without_a_model_is_told_unless_another_has_one(database, look):
    with Presence(database, "worker", {"problem": "srgan.safetensors is damaged"}):
        assert look() == {"problem": "No worker can enhance: srgan.safetensors is damaged."}
        with Presence(database, "worker"):
            assert look() == {}


def test_a_long_wait_is_told_but_bulk_work_may_wait(database, look):
    with database.write() as session:
        bulk, urgent = builders.job(session, priority=Priority.BULK), builders.job(session)
        session.execute(update(JobEvent).values(at=utcnow() - timedelta(hours=3)))
        builders.claim(session)
    assert look() == {}
    with database.write() as session:
        waiting = builders.job(session)
        session.execute(update(JobEvent).values(at=utcnow() - timedelta(hours=3)))
    assert urgent.id < waiting.id > bulk.id
    assert look() == {"waiting": f"Job {waiting.id} has waited for a worker for 3 hours."}


def fail(database, number):
    with database.write() as session:
        return [builders.job_in(session, JobState.FAILED).id for _ in range(number)]


def test_many_failures_within_an_hour_are_told_and_older_ones_not(database, look):
    fail(database, 4)
    assert look() == {}
    fail(database, 1)
    assert look() == {"failures": "5 jobs failed within an hour: broken (5)."}
    with database.write() as session:
        session.execute(update(JobEvent).values(at=utcnow() - timedelta(hours=2)))
    assert look() == {}


def test_patients_are_named_only_where_the_settings_say_so(database, settings, look):
    first, *_others = fail(database, 5)
    with database.write() as session:
        study = Study(patient=Patient(name="Doe^Jane", patient_id="P1"), study_instance_uid="1.2",
                      accession_number="A77")  # fmt: skip
        series = Series(study=study, series_instance_uid="1.2.3")
        session.get_one(Source, first).series = series
    assert "Doe" not in str(look())
    assert "A77" not in str(look())
    named = settings.model_copy(update={"alerts": AlertSettings(names=True)})
    assert f"job {first}: Doe Jane, accession A77." in look(wanted=named)["failures"]


def test_a_destination_is_told_of_when_it_was_silent_for_long(database, look):
    now = utcnow()
    with database.write() as session:
        session.add(
            PeerStatus(
                name="pacs", reachable=False, checked_at=now, changed_at=now - timedelta(minutes=5),
                message="refused.",
            )
        )  # fmt: skip
    assert look() == {}
    since = now - timedelta(minutes=20)
    with database.write() as session:
        session.execute(update(PeerStatus).values(changed_at=since))
    message = f"Destination pacs has not answered since {since:%Y-%m-%d %H:%M} UTC: refused."
    assert look() == {"unreachable": message}


@pytest.mark.parametrize(
    ("free", "words"),
    [(9 * 10**8, "is full, 0.9 GB free: new images are refused"), (15 * 10**8, "is almost full: 1.5 GB")],
)
def test_a_disk_near_its_reserve_is_told(look, free, words):
    assert words in look(Room(free, 10**12, 10**9))["disk"]


def test_a_disk_that_will_be_full_in_some_days_is_told(database, look):
    now = utcnow()
    with database.write() as session:
        for hours in range(48):
            free = {"disk-free": 21e9 + hours * 2e8}
            measurements.record(session, free, alerts.STORE, now - timedelta(hours=hours))
    message = "The object store is full in about 4 days at the rate of the last week: 21.0 GB free."
    assert look(Room(21 * 10**9, 10**12, 10**9)) == {"disk": message}


def test_a_store_that_does_not_answer_is_told_and_one_without_bounds_is_not(look):
    assert look(None) == {"disk": "The object store does not answer."}
    assert look(Room(None, None)) == {}


def test_certificates_and_tokens_are_told_before_they_end(database, look):
    end = utcnow() + timedelta(days=9, hours=1)
    shown = [
        {"keys": "web.tls_cert", "subject": "node", "until": end.isoformat(), "trouble": "soon"},
        {"keys": "audit.ca", "subject": "ca", "until": (end + 90 * DAY).isoformat(), "trouble": None},
    ]
    with database.write() as session:
        user = people.add_user(session, "ada", "admin", "a long password")
        _raw, token = people.create_token(session, user, "night", days=1)
        token.expires_at = utcnow() - timedelta(hours=1)
    with Presence(database, "scheduler", {"certificates": shown}):
        found = look()
    assert found["certificate"] == f"The certificate web.tls_cert expires on {end:%Y-%m-%d}, in 9 days."
    assert found["token"].startswith("The API token night of ada has expired on ")


def test_what_was_paused_and_forgotten_is_told(database, look):
    with database.write() as session:
        pauses.pause(session, pauses.INTAKE, actor="root")
    assert look() == {}
    with database.write() as session:
        session.execute(update(Pause).values(at=utcnow() - timedelta(hours=5)))
    assert look()["paused"].startswith("Intake has been paused by root since ")


class TestTable:
    SILENT = Condition("unreachable", "pacs", "pacs is silent")

    @pytest.fixture
    def update(self, database):
        """Return a function that tells the table what is wrong; gives kinds of what is to be told."""

        def update(*found, repeat=DAY, gone=None, now=None):
            with database.write() as session:
                changes = alerts.update(session, found, repeat=repeat, gone=gone, now=now)
                every = (changes.raised, changes.standing, changes.cleared)
                return tuple([alert.kind for alert in part] for part in every)

        return update

    def told(self, database, trouble=None):
        with database.write() as session:
            alerts.told(session, [alert.id for alert in alerts.open_alerts(session)], trouble)

    def test_an_alert_is_raised_once_and_cleared_once(self, database, update):
        assert update(self.SILENT) == (["unreachable"], [], [])
        self.told(database)
        assert update(self.SILENT) == ([], [], [])
        assert update() == ([], [], ["unreachable"])
        assert update() == ([], [], [])
        assert update(self.SILENT) == (["unreachable"], [], [])
        with database.read() as session:
            assert len(alerts.past(session)) == 2

    def test_what_stands_is_told_again_after_a_while(self, database, update):
        update(self.SILENT)
        self.told(database)
        assert update(self.SILENT, repeat=timedelta(0)) == ([], ["unreachable"], [])

    def test_what_nobody_heard_of_is_to_be_told_still_and_says_why(self, database, update):
        update(self.SILENT)
        self.told(database, "refused")
        assert update(self.SILENT) == ([], ["unreachable"], [])
        with database.read() as session:
            (alert,) = alerts.open_alerts(session)
            assert (alert.told_at, alert.trouble) == (None, "refused")

    def test_only_what_is_surely_over_is_cleared(self, update):
        update(self.SILENT)
        assert update(gone=()) == ([], [], [])
        assert update(gone=[self.SILENT.key]) == ([], [], ["unreachable"])

    def test_its_sentence_goes_with_the_time(self, database, update):
        update(self.SILENT)
        update(Condition("unreachable", "pacs", "silent for 2 hours"))
        with database.read() as session:
            assert [alert.message for alert in alerts.open_alerts(session)] == ["silent for 2 hours"]

    def test_alerts_that_are_long_over_are_let_go(self, database, update):
        update(self.SILENT)
        update()
        update(self.SILENT)
        with database.write() as session:
            assert alerts.purge(session, utcnow() + timedelta(seconds=5)) == 1
            assert len(alerts.open_alerts(session)) == 1
