"""SIGKILL at any moment loses nothing that was acknowledged, makes no twin and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import random
import time
import tracemalloc  # noqa: F401 - before two threads that find a cut socket load it at once, within pytest
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from db.exchange import Commitment
from db.models import Delivery, Job, Result
from db.states import DeliveryState, JobState
from db.types import utcnow
from tests.faults.modality import Modality
from tests.faults.node import Node, RecordingArchive, wait_until
from tests.faults.promises import all_done, check_archive, sweep, take_stock
from tests.faults.sizes import LONG, size

SEEDS = [int(word) for word in os.environ.get("KILL_SEEDS", "1 2 3" if LONG else "7").split()]
"""Each is a run with other victims at other moments."""

IMAGES = int(os.environ.get("KILL_IMAGES", size(12, 1000)))
KILLS = int(os.environ.get("KILL_KILLS", size(6, 100)))
"""Of each run; at full size one takes twenty minutes on two idle cores."""

VICTIMS = ("receiver", "worker", "worker", "sender", "sender", "web", "scheduler")
MORE_VICTIMS = (*VICTIMS * 2, "all", "all", "supervisor")
"""Of a long run; a supervisor that dies alone leaves roles behind that take their time to end."""


@pytest.fixture
def node(tmp_path, recorder) -> Iterator[Node]:
    """Its leases are long: nobody is to wait for those of the dead."""
    made = Node(
        Path(tmp_path) / "node",
        destination_port=recorder.port,
        lease_seconds=60,
        more=("storage_commitment = true\n" if LONG else "") + "[enhancer]\nscale = 2\n",
    )
    yield made
    made.close()


def count_results(node: Node) -> int:
    with node.database.read() as session:
        return session.scalar(select(func.count()).select_from(Result)) or 0


def is_running(node: Node) -> bool:
    with node.database.read() as session:
        return session.scalar(select(Job.id).where(Job.state == JobState.RUNNING).limit(1)) is not None


def moments(node: Node, modality: Modality, recorder: RecordingArchive) -> dict[str, Callable[[], bool]]:
    """Conditions that come true when the next image gets so far."""
    acknowledged, results, arrived = len(modality.acknowledged), count_results(node), len(recorder.arrivals)
    tries = modality.tries
    return {
        "sending": lambda: modality.tries > tries,
        "acknowledged": lambda: len(modality.acknowledged) > acknowledged,
        "running": lambda: is_running(node),
        "result": lambda: count_results(node) > results,
        "arrived": lambda: len(recorder.arrivals) > arrived,
    }


def kill(node: Node, victim: str) -> None:
    """Kill a role, all of them, or the supervisor, and see to it that there is a supervisor again."""
    if victim in {"all", "supervisor"}:
        node.kill_all() if victim == "all" else node.kill_supervisor()
        node.start()
    else:
        wait_until(partial(node.kill_role, victim), 90, f"the {victim} runs")


def promised(node: Node, images: int) -> bool:
    """Whether the archive has promised to keep every result; what is asked again in five minutes is asked
    now."""
    with node.database.write() as session:
        session.execute(update(Commitment).where(Commitment.state == "waiting").values(not_before=utcnow()))
    with node.database.read() as session:
        states = session.execute(select(Delivery.state, func.count()).group_by(Delivery.state)).all()
    return states == [(DeliveryState.COMMITTED, images)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the recorder's sockets, cut by a kill
def test_killing_any_role_or_all_loses_no_acknowledged_image_and_makes_no_twin(
    seed, node: Node, recorder, small_image
):
    rng = random.Random(seed)
    node.start()
    wait_until(node.receives, 120, "the receiver listens")
    began = time.monotonic()
    modality = Modality(node.dicom_port, [small_image(number) for number in range(IMAGES)])
    modality.start()
    story: Counter[str] = Counter()
    try:
        for number in range(KILLS):
            conditions = moments(node, modality, recorder)
            modality.allow(IMAGES // KILLS)
            moment = rng.choice(list(conditions))
            victim = "all" if number == KILLS // 2 else rng.choice(MORE_VICTIMS if LONG else VICTIMS)
            story[victim] += 1
            wait_until(conditions[moment], 180, f"an image is {moment}")
            time.sleep(rng.uniform(0, 0.15))
            kill(node, victim)
        modality.allow(IMAGES % KILLS)
        wait_until(lambda: not modality.is_alive(), 60 + IMAGES, "the last image is acknowledged")
    finally:
        modality.give_up.set()
        modality.join(timeout=30)
    assert len(modality.acknowledged) == IMAGES
    wait_until(lambda: all_done(node, IMAGES), 120 + 10 * IMAGES, "every acknowledged image is done")
    seconds = time.monotonic() - began
    if LONG:
        wait_until(lambda: promised(node, IMAGES), 120, "the archive has promised to keep every result")
    cut_short = story["sender"] + story["all"] + story["supervisor"]
    repeats = check_archive(node, recorder, modality.acknowledged, most_repeats=cut_short)
    assert node.stop() == 0
    stock = take_stock(node)
    assert not stock.missing
    assert not stock.damaged
    print(
        f"seed {seed}: {IMAGES} images in {seconds:.0f} s, {KILLS} kills ({dict(story)}), "
        f"{modality.tries} tries to send them, {repeats} deliveries repeated; left behind: {stock}"
    )
    sweep(node)
    assert not take_stock(node)
    gc.collect()  # here, where the warning about the cut sockets is expected
