"""SIGKILL at any moment loses nothing that was acknowledged and makes no twin."""

from __future__ import annotations

import os
import random
import threading
import time
from functools import partial

import pytest
from pydicom import Dataset
from pynetdicom import AE
from sqlalchemy import func, select

from db.models import Job, Result
from db.states import JobState
from tests.faults.node import ROLES, Node, wait_until

SEEDS = [int(word) for word in os.environ.get("KILL_SEEDS", "20261123").split()]
"""Each is a run with other victims at other moments."""

IMAGES = 12
KILLS = 6


class Modality(threading.Thread):
    """Sends each image until it is acknowledged, as a modality does, at a steady pace."""

    def __init__(self, port: int, images: list[Dataset], pace: float) -> None:
        super().__init__(name="modality")
        self.port, self.images, self.pace = port, images, pace
        self.acknowledged: list[str] = []
        self.sent = 0
        self.give_up = threading.Event()

    def run(self) -> None:
        for ds in self.images:
            while not self.give_up.is_set() and not self._send(ds):
                time.sleep(0.2)
            time.sleep(self.pace)

    def _send(self, ds: Dataset) -> bool:
        ae = AE(ae_title="MODALITY")
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5
        ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
        assoc = ae.associate("127.0.0.1", self.port, ae_title="CXR_SR")
        if not assoc.is_established:
            return False
        try:
            self.sent += 1
            status = assoc.send_c_store(ds)
        except (RuntimeError, OSError):  # cut off in the middle
            return False
        finally:
            assoc.release()
            assoc.kill()
        if status.get("Status") != 0x0000:
            return False
        self.acknowledged.append(str(ds.SOPInstanceUID))
        return True


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets of cut associations
def test_killing_any_role_or_all_loses_no_acknowledged_image_and_makes_no_twin(
    seed, node: Node, recorder, small_image
):
    rng = random.Random(seed)
    node.start()
    wait_until(node.receives, 40, "the receiver listens")
    modality = Modality(node.dicom_port, [small_image(number) for number in range(IMAGES)], pace=0.8)
    modality.start()
    victims = []
    try:
        for kill in range(KILLS):
            time.sleep(rng.uniform(0.3, 2.5))
            victim = "all" if kill == KILLS // 2 else rng.choice(ROLES)
            victims.append(victim)
            if victim == "all":
                node.kill_all()
                node.start()
            else:
                wait_until(partial(node.kill_role, victim), 40, f"the {victim} runs")
        modality.join(timeout=60)
    finally:
        modality.give_up.set()
        modality.join(timeout=30)
    assert len(modality.acknowledged) == IMAGES

    def all_arrived() -> bool:
        with node.database.read() as session:
            states = dict(session.execute(select(Job.state, func.count()).group_by(Job.state)).all())
        return states == {JobState.DONE: IMAGES}

    print(f"{modality.sent} sent, {len(recorder.arrivals)} arrived, killed: {' '.join(victims)}")
    wait_until(all_arrived, 90, "every acknowledged image is done")
    copies = recorder.copies()
    with node.database.read() as session:
        results = set(session.scalars(select(Result.sop_instance_uid)))
        sources = {job.source.sop_instance_uid for job in session.scalars(select(Job))}
    assert sources == set(modality.acknowledged)
    assert set(copies) == results
    assert len(results) == IMAGES
    twins = {uid: digests for uid, digests in copies.items() if len(set(digests)) > 1}
    assert not twins
    assert len(recorder.arrivals) <= IMAGES + KILLS
    assert node.stop() == 0
