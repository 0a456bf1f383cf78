"""What was deleted is gone: from the store, and from the pages of the database file."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import delete, make_url

from db.models import Command


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_what_was_deleted_does_not_linger_in_the_file(database):
    """A search of an archive holds names; once it is forgotten no free page holds them."""
    mark = "Zzyzx^Marker" * 400
    with database.write() as session:
        session.add(Command(role="fetch", kind="search", arguments={"name": mark}))
    file = Path(make_url(database.url).database)
    _settle(database)
    assert b"Zzyzx^Marker" in file.read_bytes()
    with database.write() as session:
        session.execute(delete(Command))
    _settle(database)
    assert b"Zzyzx^Marker" not in file.read_bytes()


def _settle(database) -> None:
    """Everything from the log into the file."""
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
