"""A node that has worked for a while, in this process: jobs in every state, a batch, a statement, people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from argon2 import PasswordHasher

from config import Settings
from config.network import Archive, Destination
from config.settings import WebSettings
from cxr_sr.conformance import statement
from db import Database, batches, people
from db.desk import Webhook
from db.exchange import Document
from db.intake import Arrival, Origin, intake
from db.models import Batch, RoleInstance
from db.objects import LocalStore
from db.states import JobState, Purpose
from tests import dicom_variants as variants
from tests.browser.conftest import PASSWORD
from tests.db import builders
from tests.interop.conftest import Roles
from tests.pacs_node.nodes import eventually, make_database, make_settings
from tests.peers import missing
from tests.webui.cabinet import Cabinet
from tests.webui.conftest import png
from webui import assets, server

ADMIN = "root"
PACS = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=1)
OLD_FILMS = Archive(name="old-films", ae_title="OLD", host="127.0.0.1", port=1)


@dataclass
class Desk:
    """Where the node is, and what lies on it."""

    url: str
    settings: Settings
    database: Database
    jobs: dict[str, int]
    """A job for each state, `held` and `done` with pictures, and one of an uploaded `picture`."""
    batch: int
    upload: int
    webhook: int


@contextmanager
def furnished(folder: Path, pacs: Destination = PACS) -> Iterator[Desk]:
    """The node, its web role running until the block ends. `root` is its administrator, `ada` reads."""
    if not assets.files():
        missing("the front end is not built (make build-web)")
    settings = make_settings(folder / "node", destinations=(pacs,)).model_copy(
        update={"archives": (OLD_FILMS,), "web": WebSettings(port=0)}
    )
    database = make_database(settings)
    store = LocalStore(settings.data_dir / "objects")
    jobs, batch = _fill(database, store)
    upload, jobs["picture"] = _picture(database, store)
    with database.write() as session:
        hook = Webhook(name="worklist", url="https://ris.example/hook", secret="s" * 32, states=["done"])
        session.add(hook)
        session.flush()
        webhook = hook.id
    with Roles(settings, server.run):
        if not eventually(lambda: _port(database), 60):
            raise AssertionError("the server did not come up")
        yield Desk(f"http://127.0.0.1:{_port(database)}", settings, database, jobs, batch, upload, webhook)
    database.close()


def _picture(database: Database, store: LocalStore) -> tuple[int, int]:
    """An upload of one PNG under a typed name, and its job."""
    spooled = store.spool / "film.png"
    spooled.write_bytes(png())
    with database.write() as session:
        batch = Batch()
        session.add(batch)
        session.flush()
        number = batch.id
    arrival = Arrival(
        file=spooled, media_type="image/png", suffix=".png", file_name="film.png", batch_id=number,
        demographics={"PatientName": "Rossi^Giulia", "PatientID": "OLD-1"}, purpose=Purpose.MANUAL,
    )  # fmt: skip
    return number, intake(database, store, arrival, Origin("upload"), max_waiting=1000).job_id


def _fill(database: Database, store: LocalStore) -> tuple[dict[str, int], int]:
    cabinet = Cabinet(database, store)
    jobs = {}
    for state, release in (("done", "auto"), ("held", "review")):
        ds = variants.cr(PatientName="Kim^Nova", PatientID=f"OLD-{state}")
        jobs[state] = cabinet.source(ds)
        cabinet.result(ds, release=release)
    cheap = people._hasher
    people._hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    try:
        with database.write() as session:
            people.add_user(session, "ada", "radiologist", PASSWORD)
            people.add_user(session, ADMIN, "admin", PASSWORD)
            for state in (state for state in JobState if state.value not in jobs and state != "running"):
                if state != JobState.QUEUED:
                    jobs[state.value] = builders.job_in(session, state).id
            jobs["running"] = builders.job(session).id
            builders.claim(session, seconds=3600)
            jobs["queued"] = builders.job(session).id
            said = {"PatientName": "Rossi^Giulia", "PatientID": "OLD-1", "StudyDate": "20240115"}
            studies = [batches.Chosen("1.2.3.1", said), batches.Chosen("1.2.3.2", {})]
            batch = batches.create(session, OLD_FILMS.name, studies, query={}, name="January").id
            told = statement().data()
            told["blocks"] = told["blocks"][:80]  # all of it takes axe half a minute
            told["contents"] = told["contents"][:12]
            session.merge(Document(name="conformance", content=told))
    finally:
        people._hasher = cheap
    return jobs, batch


def _port(database: Database) -> int | None:
    with database.read() as session:
        rows = session.query(RoleInstance).filter_by(role="web")
        return next((int(row.info["port"]) for row in rows), None)
