"""Figures over time: kept fine for a day, by the hour for long, counted from what happened to jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from db import deliveries, forecast, measurements, queue, tallies
from db.desk import Measurement
from db.models import Job, JobEvent
from db.states import JobState
from db.types import utcnow
from tests.db import builders

NOW = datetime(2026, 3, 5, 12, 34, 56, tzinfo=UTC)


def test_what_is_measured_is_read_in_its_order_and_by_its_subject(database):
    with database.write() as session:
        for minutes, value in ((1, 3.0), (3, 1.0), (2, 2.0)):
            measurements.record(session, {"memory": value}, "worker a", NOW - timedelta(minutes=minutes))
        measurements.record(session, {"memory": 9.0}, "web b", NOW)
    with database.read() as session:
        found = measurements.points(session, "memory", NOW - timedelta(minutes=2), "worker a")
        assert [value for _at, value in found] == [2.0, 3.0]
        assert len(measurements.points(session, "memory", NOW - timedelta(hours=1))) == 4


def test_a_figure_that_nobody_named_is_not_kept(database):
    with database.write() as session, pytest.raises(KeyError):
        measurements.record(session, {"patients": 1.0})


def test_points_are_put_into_equal_parts_of_time():
    begin = NOW.replace(second=0)
    found = [(begin + timedelta(minutes=m), float(m)) for m in (0, 1, 5, 99)]
    parts = measurements.buckets(found, begin, timedelta(minutes=2), 3, measurements.mean)
    assert parts == [0.5, None, 5.0]


def test_figures_of_yesterday_become_one_an_hour_and_those_of_last_season_go(database):
    yesterday = (NOW - timedelta(days=2)).replace(minute=0, second=0)
    with database.write() as session:
        for minute in range(60):
            at = yesterday + timedelta(minutes=minute)
            measurements.record(session, {"disk-free": 100.0 + minute}, "store", at)
            measurements.record(session, {"jobs-done": 1, "wait-longest": minute}, at=at)
        measurements.record(session, {"disk-free": 5.0}, "store", NOW - timedelta(minutes=5))
        measurements.record(session, {"disk-free": 1.0}, "store", NOW - timedelta(days=91))
    measurements.thin(database, NOW)
    with database.read() as session:
        since = NOW - timedelta(days=100)
        first, last = measurements.points(session, "disk-free", since)
        assert (first, last[1]) == ((yesterday, 129.5), 5.0)
        assert measurements.points(session, "jobs-done", since) == [(yesterday, 60.0)]
        assert measurements.points(session, "wait-longest", since) == [(yesterday, 59.0)]
    measurements.thin(database, NOW)  # again: nothing is merged twice
    with database.read() as session:
        assert measurements.points(session, "jobs-done", since) == [(yesterday, 60.0)]


def a_day_of_work(database):
    """One job done, one failed, one skipped, one waiting; the times are those of the last seconds."""
    with database.write() as session:
        builders.sending(session)
        done = builders.finished(session)
        failed = builders.job_in(session, JobState.FAILED)
        builders.job_in(session, JobState.SKIPPED)
        builders.job(session)
    return done.id, failed.id


def total(found, name):
    return sum(figures.get(name, 0) for figures in found.values())


def test_jobs_are_counted_by_what_happened_to_them(database):
    a_day_of_work(database)
    with database.read() as session:
        found = tallies.count(session, utcnow() - timedelta(minutes=5), utcnow())
    counted = {name: total(found, name) for name in ("jobs-received", "jobs-done", "jobs-failed")}
    assert counted == {"jobs-received": 5, "jobs-done": 1, "jobs-failed": 1}
    assert (total(found, "jobs-skipped"), total(found, "wait-count")) == (1, 4)
    assert total(found, "wait-longest") <= total(found, "wait-seconds") < 60


def test_a_retry_is_no_arrival_and_no_wait(database):
    _done, failed = a_day_of_work(database)
    with database.write() as session:
        session.execute(update(Job).values(started_at=utcnow() - timedelta(hours=3)))
        job = session.get_one(Job, failed)
        queue.retry(session, job, actor="root")
        builders.claim(session)
    with database.read() as session:
        found = tallies.count(session, utcnow() - timedelta(minutes=5), utcnow())
    assert (total(found, "jobs-received"), total(found, "wait-count")) == (5, 0)


def test_counts_are_kept_once_however_often_they_are_made(database):
    a_day_of_work(database)
    later = utcnow() + timedelta(minutes=1)
    for _ in range(2):
        tallies.keep(database, later)
    with database.read() as session:
        kept = session.scalar(select(func.sum(Measurement.value)).where(Measurement.name == "jobs-received"))
        assert kept == 5
        found = tallies.read(session, later - timedelta(hours=1), later)
    assert (total(found, "jobs-done"), total(found, "jobs-failed")) == (1, 1)


def test_what_was_not_yet_counted_is_seen_at_once(database):
    tallies.keep(database)
    a_day_of_work(database)
    with database.read() as session:
        now = utcnow()
        assert total(tallies.read(session, now - timedelta(hours=1), now), "jobs-done") == 1


def test_counts_outlive_the_events(database):
    a_day_of_work(database)
    later = utcnow() + timedelta(minutes=1)
    tallies.keep(database, later)
    with database.write() as session:
        session.query(JobEvent).delete()
    with database.read() as session:
        assert total(tallies.read(session, later - timedelta(days=1), later), "jobs-done") == 1


def test_a_scheduler_that_was_away_counts_what_it_missed(database):
    a_day_of_work(database)
    with database.write() as session:
        for row in session.scalars(select(JobEvent)):
            row.at -= timedelta(days=2)
    tallies.keep(database)
    with database.read() as session:
        now = utcnow()
        assert total(tallies.read(session, now - timedelta(days=7), now), "jobs-done") == 1
        assert total(tallies.read(session, now - timedelta(days=1), now), "jobs-done") == 0


def falling(hours: float, per_hour: float, free: float = 1000.0):
    steps = int(hours * 4)
    return [(NOW + timedelta(hours=i / 4), free - per_hour * i / 4) for i in range(steps + 1)]


def test_a_disk_that_fills_steadily_is_full_when_its_line_says_so():
    found = forecast.forecast(falling(48, 10.0), reserve=40.0)
    assert found.enough
    assert found.days == pytest.approx((1000 - 480 - 40) / 240, rel=1e-6)
    assert found.bytes_per_day == pytest.approx(240)


@pytest.mark.parametrize(
    ("points", "enough"),
    [([], False), (falling(5, 10.0), False), ([*falling(8, 10.0)[::8]], False), (falling(24, -1.0), True)],
)
def test_nothing_is_foretold_from_too_little_or_where_space_grows(points, enough):
    found = forecast.forecast(points)
    assert (found.days, found.enough) == (None, enough)


def test_a_disk_that_is_at_its_reserve_is_full_now():
    assert forecast.forecast(falling(24, 10.0), reserve=900.0).days == 0.0


def test_a_delivery_says_nothing_of_a_jobs_wait(database):
    with database.write() as session:
        _job, lease = builders.sending(session)
        deliveries.stored(session, lease, 0, actor="sender")
    with database.read() as session:
        found = tallies.count(session, utcnow() - timedelta(minutes=5), utcnow())
    assert (total(found, "wait-count"), total(found, "jobs-done")) == (1, 1)
