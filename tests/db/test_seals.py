"""Who changes, removes or adds a row behind the node's back is found by chains and seals.

Here triggers are dropped and rows changed through a connection of our own, as who has the file can.
"""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
from alembic import command
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from db import Database, audit, chain, revisions, schema, seals, verification
from db.models import AuditEvent, AuditSeal
from db.seals import Sealer
from db.verification import Kind

on_sqlite = pytest.mark.parametrize("engine_name", ["sqlite"])
"""What is found does not hang on the engine; some of it is tried on both."""


def written(database, *actors: str) -> None:
    with database.write() as session:
        for actor in actors:
            audit.record(session, actor, "login", detail={"n": 1})


@pytest.fixture
def sealed(database):
    """A trail of seven entries and two about seals; the last two entries came after the second seal."""
    sealer = Sealer(database)
    written(database, "a", "b", "c")
    assert sealer.seal() is not None
    written(database, "d", "e")
    assert sealer.seal() is not None
    written(database, "f", "g")
    return database


@contextmanager
def unguarded(database):
    """A transaction in which nothing keeps rows from being changed."""
    with database.write() as session:
        if database.sqlite:
            names = session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all()
            for name in names:
                session.execute(text(f"DROP TRIGGER {name}"))
        else:
            session.execute(text("SET LOCAL session_replication_role = replica"))
        yield session


def of(session, actor: str) -> AuditEvent:
    return session.scalars(select(AuditEvent).where(AuditEvent.actor == actor)).one()


def found(database, **asked) -> list[tuple[Kind, int | None, int | None]]:
    report = verification.verify(database, **asked)
    assert report.sound == (not report.findings)
    return [(one.kind, one.row, one.seal) for one in report.findings]


def test_a_trail_that_nobody_touched_is_sound_and_its_figures_are_told(sealed):
    report = verification.verify(sealed)
    assert report.sound
    assert (report.rows, report.chains, report.seals, report.unsealed, report.before) == (9, 1, 2, 3, 0)
    with sealed.read() as session:
        newest = seals.newest(session)
    assert report.head == newest.digest
    assert verification.verify(sealed, head=newest.digest.upper()).sound


def test_a_seal_counts_what_came_since_the_last_and_what_is_quiet_is_not_sealed_again(sealed):
    sealer = Sealer(sealed)
    made = sealer.seal()
    assert made is not None
    assert made.rows == 3  # f, g, and the entry about the second seal
    assert sealer.seal() is None
    assert Sealer(sealed).seal() is None, "who comes new to the lead knows what was sealed"
    written(sealed, "h")
    assert sealer.seal().rows == 2
    with sealed.read() as session:
        assert session.scalar(select(func.count(AuditSeal.id))) == 4
    assert found(sealed) == []


def test_two_that_seal_at_once_make_no_two_ends(sealed):
    first, second = Sealer(sealed), Sealer(sealed)
    written(sealed, "h")
    assert first.seal() is not None
    with sealed.read() as session:
        one = seals.newest(session)
    twin = AuditSeal(at=one.at, rows=0, position=0, heads={}, previous=one.previous, digest="0" * 64)
    with pytest.raises(IntegrityError), sealed.write() as session:
        session.add(twin)
    written(sealed, "i")
    assert second.seal() is not None
    assert found(sealed) == []


@pytest.mark.parametrize(
    "change", [update(AuditSeal).values(rows=0), delete(AuditSeal)], ids=["changed", "removed"]
)
def test_the_database_itself_refuses_to_change_or_remove_a_seal(sealed, change):
    with pytest.raises(DBAPIError, match="only added"), sealed.write() as session:
        session.execute(change)


@pytest.mark.parametrize("engine_name", ["postgresql"])
@pytest.mark.parametrize("table", ["audit_event", "audit_seal"])
def test_the_database_itself_refuses_to_empty_the_trail(sealed, table):
    with pytest.raises(DBAPIError, match="only added"), sealed.write() as session:
        session.execute(text(f"TRUNCATE {table}"))


@pytest.mark.parametrize(
    ("actor", "values"),
    [
        ("a", {"actor": "x"}),
        ("b", {"outcome": "failure"}),
        ("e", {"detail": {"n": 2}}),
        ("g", {"action": "logout", "object_id": "1"}),
    ],
    ids=["first", "middle", "sealed", "last"],
)
def test_a_changed_row_is_named(sealed, actor, values):
    with unguarded(sealed) as session:
        number = of(session, actor).id
        session.execute(update(AuditEvent).where(AuditEvent.id == number).values(**values))
    assert found(sealed) == [(Kind.CHANGED, number, None)]


@on_sqlite
def test_a_row_whose_time_was_changed_is_named(sealed):
    with unguarded(sealed) as session:
        number = of(session, "d").id
        earlier = of(session, "a").at
        session.execute(update(AuditEvent).where(AuditEvent.id == number).values(at=earlier))
    assert found(sealed) == [(Kind.CHANGED, number, None)]


@on_sqlite  # the other has types that hold
@pytest.mark.parametrize("change", ["at = 'never'", "detail = '{'", "detail = '[]'"])
def test_a_row_that_cannot_even_be_read_any_more_is_named_and_the_rest_is_read(sealed, change):
    with unguarded(sealed) as session:
        number = of(session, "b").id
        session.execute(text(f"UPDATE audit_event SET {change} WHERE id = {number}"))
    assert found(sealed) == [(Kind.CHANGED, number, None)]


@on_sqlite
def test_a_changed_row_with_a_new_digest_breaks_the_one_after_it(sealed):
    with unguarded(sealed) as session:
        row, after = of(session, "d"), of(session, "e")
        _rewrite(session, row, actor="x")
    assert found(sealed) == [(Kind.CHANGED, after.id, None)]


def test_a_chain_that_was_written_anew_to_its_end_breaks_the_seal(sealed):
    with unguarded(sealed) as session:
        rows = session.scalars(select(AuditEvent).order_by(AuditEvent.number)).all()
        _rewrite(session, rows[1], actor="x")
        for row in rows[2:]:
            _rewrite(session, row)
    assert found(sealed) == [(Kind.REWRITTEN, None, 1), (Kind.REWRITTEN, None, 2)]


@on_sqlite
def test_missing_rows_in_the_middle_are_named_by_the_row_after_them(sealed):
    with unguarded(sealed) as session:
        after = of(session, "d").id
        session.execute(delete(AuditEvent).where(AuditEvent.actor.in_(["b", "c"])))
        session.execute(delete(AuditEvent).where(AuditEvent.actor == "scheduler"))
    kinds = found(sealed)
    assert (Kind.MISSING, None, 1) in kinds, "seal 1 ends at a row that is not there"
    assert (Kind.MISSING, after, 2) in kinds
    assert (Kind.MISSING, of_actor(sealed, "f"), None) in kinds


@on_sqlite
def test_a_missing_row_after_the_last_seal_is_found_too(sealed):
    with unguarded(sealed) as session:
        after = of(session, "g").id
        session.execute(delete(AuditEvent).where(AuditEvent.actor == "f"))
    assert found(sealed) == [(Kind.MISSING, after, None)]


def test_an_end_that_was_cut_off_is_missed_by_the_seal(sealed):
    with unguarded(sealed) as session:
        session.execute(delete(AuditEvent).where(AuditEvent.id >= of(session, "e").id))
    assert found(sealed) == [(Kind.MISSING, None, 2)]


@on_sqlite
def test_a_whole_chain_that_is_gone_is_missed_by_the_seals(sealed):
    with unguarded(sealed) as session:
        session.execute(delete(AuditEvent))
    assert found(sealed) == [(Kind.MISSING, None, 1), (Kind.MISSING, None, 2)]


def test_a_changed_seal_is_named(sealed):
    with unguarded(sealed) as session:
        session.execute(update(AuditSeal).where(AuditSeal.id == 1).values(rows=2))
    assert found(sealed) == [(Kind.SEAL_CHANGED, None, 1)]


@on_sqlite
def test_a_missing_seal_is_named_by_the_seal_after_it_and_by_the_row_that_tells_of_it(sealed):
    with unguarded(sealed) as session:
        session.execute(delete(AuditSeal).where(AuditSeal.id == 1))
    kinds = found(sealed)
    assert (Kind.SEAL_MISSING, None, 2) in kinds
    assert any(kind == Kind.SEAL_MISSING and row is not None for kind, row, _ in kinds)


@on_sqlite
def test_seals_that_were_cut_off_are_missed_by_the_rows_that_tell_of_them(sealed):
    with unguarded(sealed) as session:
        session.execute(delete(AuditSeal).where(AuditSeal.id == 2))
    [(kind, row, _)] = found(sealed)
    assert kind == Kind.SEAL_MISSING
    assert row is not None


@on_sqlite
def test_rows_and_seals_cut_off_together_are_missed_by_who_kept_the_head(sealed):
    """The whole database as it was before: all of it fits together; the log has a seal that is not here."""
    with sealed.read() as session:
        head = seals.newest(session).digest
    with unguarded(sealed) as session:
        told = session.scalars(select(AuditEvent).where(AuditEvent.action == "audit.seal")).all()
        session.execute(delete(AuditEvent).where(AuditEvent.id >= told[1].id))
        session.execute(delete(AuditSeal).where(AuditSeal.id == 2))
    assert found(sealed) == []
    assert found(sealed, head=head) == [(Kind.SEAL_MISSING, None, None)]


@on_sqlite
def test_a_row_that_nobody_recorded_is_named(sealed):
    with unguarded(sealed) as session:
        row = of(session, "g")
        values = {column.name: getattr(row, column.name) for column in AuditEvent.__table__.columns}
        values |= {"actor": "x", "chain": None, "number": None, "digest": None}
        del values["id"]
        number = session.scalar(insert(AuditEvent).values(**values).returning(AuditEvent.id))
    assert found(sealed) == [(Kind.FOREIGN, number, None)]


@on_sqlite
def test_a_row_put_beside_another_of_its_number_is_named(sealed):
    with unguarded(sealed) as session:
        session.execute(text("DROP INDEX ix_audit_event_chain"))
        row = of(session, "b")
        values = {column.name: getattr(row, column.name) for column in AuditEvent.__table__.columns}
        del values["id"]
        number = session.scalar(insert(AuditEvent).values(**values).returning(AuditEvent.id))
    assert found(sealed) == [(Kind.FOREIGN, number, None)]


@pytest.fixture
def old(database):
    """A trail with three rows from before there were chains, sealed with what came after."""
    with database.write() as session:
        session.add_all(AuditEvent(actor=actor, action="login") for actor in ("x", "y", "z"))
    written(database, "a")
    assert Sealer(database).seal().before["rows"] == 3
    return database


def test_rows_from_before_there_were_chains_are_sealed_as_they_are(old):
    report = verification.verify(old)
    assert report.sound
    assert report.before == 3


@on_sqlite
@pytest.mark.parametrize(
    "change", [update(AuditEvent).values(outcome="failure"), delete(AuditEvent)], ids=["changed", "removed"]
)
def test_a_change_of_the_rows_from_before_is_found(old, change):
    with unguarded(old) as session:
        session.execute(change.where(AuditEvent.actor == "y"))
    assert found(old) == [(Kind.BEFORE, None, 1)]


def test_more_rows_than_are_read_at_once_are_all_verified(database, monkeypatch):
    monkeypatch.setattr(verification, "AT_ONCE", 3)
    written(database, *"abcdefgh")
    Sealer(database).seal()
    written(database, *"ijklmnop")
    report = verification.verify(database)
    assert report.sound
    assert report.rows == 17
    with unguarded(database) as session:
        session.execute(update(AuditEvent).where(AuditEvent.actor.in_(["d", "o"])).values(actor="x"))
    assert [kind for kind, _, _ in found(database)] == [Kind.CHANGED, Kind.CHANGED]


@on_sqlite
def test_of_many_findings_the_first_are_told_and_all_are_counted(database, monkeypatch):
    monkeypatch.setattr(verification, "KEPT", 2)
    written(database, *"abcdef")
    with unguarded(database) as session:
        session.execute(update(AuditEvent).values(actor="x"))
    report = verification.verify(database)
    assert (report.count, len(report.findings), report.sound) == (6, 2, False)


@on_sqlite
def test_a_finding_names_no_more_than_numbers(sealed):
    with unguarded(sealed) as session:
        session.execute(update(AuditEvent).values(actor="DOE^JANE", detail={"query": {"patient": "DOE"}}))
    said = json.dumps([one.message for one in verification.verify(sealed).findings])
    assert "DOE" not in said


def of_actor(database, actor: str) -> int:
    with database.read() as session:
        return of(session, actor).id


def _rewrite(session, row: AuditEvent, **values: str) -> None:
    """Change a row and give it the digest that fits."""
    before = select(AuditEvent.digest).where(AuditEvent.number == row.number - 1)
    previous = session.scalar(before) or chain.BEGIN
    for name, value in values.items():
        setattr(row, name, value)
    row.digest = chain.digest(chain.canonical(row), previous)
    session.flush()


def test_an_upgrade_keeps_the_rows_of_older_versions_as_they_are(empty_url):
    """The tables as the version before had them, with two entries."""
    database = Database(empty_url)
    with revisions._alone(database) as connection:
        config = revisions._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        for number in (1, 2):
            connection.exec_driver_sql(
                "INSERT INTO audit_event (id, at, actor, action, outcome, detail) "
                f"VALUES ({number}, CURRENT_TIMESTAMP, 'old', 'login', 'success', '{{}}')"
            )
        connection.commit()
    schema.upgrade(database)
    if not database.sqlite:
        with database.write() as session:
            session.execute(text("SELECT setval('audit_event_id_seq', 2)"))
    written(database, "new")
    assert Sealer(database).seal() is not None
    report = verification.verify(database)
    assert report.findings == []
    assert (report.before, report.rows) == (2, 2)
    with pytest.raises(DBAPIError, match="only added"), database.write() as session:
        session.execute(update(AuditEvent).values(actor="x"))
    database.close()


def test_a_copy_put_back_is_as_sound_as_what_it_was_made_of(sealed, empty_postgres, tmp_path):
    """On either engine: numbers, times and words come back as they were."""
    schema.backup(sealed, tmp_path / "copy.db")
    for url in (f"sqlite:///{tmp_path / 'restored.db'}", empty_postgres):
        schema.restore(url, tmp_path / "copy.db")
        restored = Database(url)
        before = verification.verify(restored)
        written(restored, "after")
        Sealer(restored).seal()
        report = verification.verify(restored, head=before.head)
        restored.close()
        assert (before.findings, report.findings) == ([], [])
        assert report.chains == 2
