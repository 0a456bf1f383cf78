"""A node with a web door and no other role, people who can log in, and files to bring."""

from __future__ import annotations

import io
import shutil
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from config import Settings
from config.network import Destination
from config.settings import QueueSettings, StorageSettings, WebSettings
from db import Database, people, presence, schema
from db.objects import ObjectStore
from webui import server
from webui.app import create_app
from webui.services import KEY, Services

PASSWORD = "correct horse battery"
PACS = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "var",
        storage=StorageSettings(reserve_bytes=0, reserve_percent=0),
        queue=QueueSettings(max_waiting=1000),
        web=WebSettings(port=0, max_upload_bytes=8 << 20),
        destinations=(PACS,),
    )


@pytest.fixture(scope="session")
def hashes() -> Iterator[None]:
    """Cheap password hashes: their cost is not what is tested."""
    from argon2 import PasswordHasher

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(people, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
        people._decoy.cache_clear()
        yield
    people._decoy.cache_clear()


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory, hashes: None) -> Path:
    """A database with the schema and two people, made once and copied for each test."""
    path = tmp_path_factory.mktemp("filled") / "cxr-sr.db"
    made = Database(f"sqlite:///{path}")
    schema.upgrade(made)
    with made.write() as session:
        people.add_user(session, "anna", "radiologist", PASSWORD)
        people.add_user(session, "root", "admin", PASSWORD)
    with made.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    made.close()
    return path


@pytest.fixture
def database(settings: Settings, filled: Path) -> Iterator[Database]:
    settings.data_dir.mkdir()
    shutil.copy(filled, settings.data_dir / "cxr-sr.db")
    found = Database(settings.database_url)
    yield found
    found.close()


@pytest.fixture
def app(settings: Settings, database: Database) -> Iterator[Flask]:
    made = create_app(settings, database)
    yield made
    made.extensions[KEY].broadcaster.close()


@pytest.fixture
def here(app: Flask) -> Services:
    found: Services = app.extensions[KEY]
    return found


@pytest.fixture
def store(here: Services) -> ObjectStore:
    return here.store


class Person:
    """Someone at a browser: logs in, sends forms and files with the session's token."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client
        self.csrf = ""

    def login(self, name: str = "anna", password: str = PASSWORD, **more: str) -> TestResponse:
        answer = self.client.post("/login", data={"name": name, "password": password, **more})
        if answer.status_code == 303:
            self.csrf = self.client.get("/api/v1/me").get_json().get("csrf_token") or ""
        return answer

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.client.get(path, **more)

    def post(self, path: str, **more: Any) -> TestResponse:
        headers = {"X-CSRF-Token": self.csrf, **more.pop("headers", {})}
        return self.client.post(path, headers=headers, **more)

    def upload(self, *files: tuple[str, bytes], **fields: Any) -> TestResponse:
        data: dict[str, Any] = dict(fields)
        data["file"] = [FileStorage(io.BytesIO(content), name) for name, content in files]
        boundary, body = encode_multipart(data)
        return self.post("/api/v1/jobs", data=body, content_type=f"multipart/form-data; boundary={boundary}")


@pytest.fixture
def visitor(app: Flask) -> Person:
    return Person(app.test_client())


@pytest.fixture
def anna(app: Flask) -> Person:
    person = Person(app.test_client())
    assert person.login("anna").status_code == 303
    return person


@pytest.fixture
def root(app: Flask) -> Person:
    person = Person(app.test_client())
    assert person.login("root").status_code == 303
    return person


@dataclass(frozen=True)
class Running:
    """A real server."""

    url: str
    port: int
    stop: threading.Event
    thread: threading.Thread


@pytest.fixture
def run_server(settings: Settings, database: Database) -> Iterator[Callable[..., Running]]:
    """Return a function that serves with these settings on a free port, as the web role does."""
    running: list[Running] = []

    def start(wanted: Settings = settings) -> Running:
        stop = threading.Event()
        thread = threading.Thread(target=server.run, args=(wanted, stop), daemon=True)
        thread.start()
        port = _port(database)
        scheme = "https" if wanted.web.tls_cert else "http"
        made = Running(f"{scheme}://127.0.0.1:{port}", port, stop, thread)
        running.append(made)
        return made

    yield start
    for made in running:
        made.stop.set()
        made.thread.join(timeout=15)
        assert not made.thread.is_alive()


def _port(database: Database) -> int:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        with database.read() as session:
            for row in presence.alive(session):
                if row.role == "web":
                    return int(row.info["port"])
        time.sleep(0.02)
    raise AssertionError("the server did not come up")


def dicom(
    instance: str = "1.2.3.4", *, sop_class: str = "1.2.840.10008.5.1.4.1.1.1", pixels: bytes = b"\0" * 64
) -> bytes:
    """A DICOM file as far as the door looks at it: preamble, file meta, and something after it."""
    meta = b"".join(
        _element(number, b"UI", value.encode())
        for number, value in ((0x02, sop_class), (0x03, instance), (0x10, "1.2.840.10008.1.2.1"))
    )
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    return b"\0" * 128 + b"DICM" + length + meta + pixels


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def png(shade: int = 0) -> bytes:
    """A whole grey picture of 8 by 8 pixels."""
    rows = b"".join(b"\0" + bytes([shade] * 8) for _ in range(8))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def archive(members: dict[str, bytes]) -> bytes:
    """A ZIP of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return buffer.getvalue()
