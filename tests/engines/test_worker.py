"""The worker's rows and relations on PostgreSQL, with two workers at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from db import Database, schema
from db.objects import LocalStore
from db.schema import installation_uuid
from db.states import JobState, Relation
from pacs_node import codecs
from pacs_node.examine import Examiner
from pacs_node.worker import Worker
from tests import dicom_variants as variants
from tests.db.conftest import postgres_server
from tests.pacs_node.clinic import ARCHIVE, Clinic, OneModel
from tests.pacs_node.nodes import make_settings

__all__ = ["postgres_server"]  # a fixture of the db tests, used here too


@pytest.fixture
def clinic(postgres_server, tmp_path) -> Iterator[Clinic]:
    from tests.db.conftest import _create

    settings = make_settings(tmp_path, destinations=(ARCHIVE,))
    database = Database(_create(postgres_server, "worker"))
    schema.upgrade(database)
    store, stop = LocalStore(tmp_path / "objects"), threading.Event()
    with Examiner() as examiner:
        installation = installation_uuid(database)
        worker = Worker(settings, database, store, examiner, OneModel(), installation, stop)
        yield Clinic(settings, database, store, worker, stop, installation)
    database.close()


@pytest.mark.peer("pgserver")
def test_two_workers_tell_resends_and_amendments_apart(clinic):
    source = variants.cr()
    jobs = [clinic.receive(variants.encoded(source, uid)).job_id for uid in list(codecs.CODECS)[:5]]
    other = [clinic.receive(variants.dx()).job_id for _ in range(3)]
    source.PatientName = "Corrected"

    with Examiner() as examiner, ThreadPoolExecutor(2) as pool:
        first = clinic.worker
        second = Worker(
            first.settings, first.database, first.store, examiner, OneModel(), first.installation, first.stop
        )
        list(pool.map(_drain, (clinic.worker, second)))
    amended = clinic.serve(source)

    fates = sorted(clinic.job(number).state.value for number in jobs)
    assert fates == ["retracted", "skipped", "skipped", "skipped", "skipped"]
    assert {clinic.job(number).state for number in other} == {JobState.DELIVERING}
    assert (amended.state, amended.source.relation) == (JobState.DELIVERING, Relation.AMENDMENT)
    assert amended.result is not None
    assert amended.result.figures["rebuilt"] is True


def _drain(worker: Worker) -> None:
    while worker.work_once():
        pass
