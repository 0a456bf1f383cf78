"""A GPU in trouble, as the worker meets it: tried again or done elsewhere, told, and never delivered wrong.

Here is none: the processor plays it (`tests.enhancer.troubled`), so that the real cutting and falling back
runs.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import select

import enhancer
from config.settings import EnhancerSettings, QueueSettings
from db import queue
from db.models import Job, RoleInstance
from db.states import JobState
from enhancer.modelfile import write_model
from enhancer.networks.generator import Generator
from pacs_node import worker as worker_module
from pacs_node.models import Models
from tests import dicom_variants as variants
from tests.enhancer.troubled import broken, constant, on_accelerator, room_for, troubled
from tests.pacs_node.clinic import OneModel, open_clinic
from tests.pacs_node.nodes import eventually

QUICK = QueueSettings(poll_seconds=0.05, retry_base_seconds=0.01, retry_max_seconds=0.01, max_attempts=3)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A small network with weights of its own."""
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    write_model(path, Generator(16, 2), name="small", version="0", channels=16, blocks=2)
    return path


def image(number: int) -> Dataset:
    """The n-th chest, unlike every other."""
    return variants.cr(np.roll(variants.chest_values(12), number, axis=1), SOPInstanceUID=generate_uid())


def until_it_ends(clinic, job_id: int) -> Job:
    """Serve the queue until the job is neither queued nor running."""

    def ended() -> bool:
        clinic.worker.work_once()
        return clinic.job(job_id).state not in {JobState.QUEUED, JobState.RUNNING}

    assert eventually(ended, 60)
    return clinic.job(job_id)


def test_an_image_that_finds_no_room_is_done_in_parts_and_the_job_tells(tmp_path, model_file):
    told: list[str | None] = []
    model = on_accelerator(model_file)
    with open_clinic(tmp_path, models=OneModel(model), queue=QUICK) as clinic:
        clinic.worker.report = told.append
        whole = clinic.result(clinic.serve(image(1))).pixel_array
        with troubled(model, room_for(70 * 70)):
            job = clinic.serve(image(2))
        assert job.state == JobState.DELIVERING
        assert job.result.figures["device"] == "cuda:0, float32"
        assert "Too little memory" in job.result.figures["setbacks"][0]
        assert [e for e in clinic.events(job.id) if e.startswith("warning") and "Too little memory" in e]
        assert whole.shape == clinic.result(job).pixel_array.shape
        clinic.serve(image(3))
    assert [why is None for why in told] == [False, True], "degraded, and well again with the next image"


@pytest.mark.faults
def test_an_image_for_which_there_is_no_room_at_all_is_done_by_the_processor_to_the_same_values(
    tmp_path, model_file
):
    images = []
    for folder, room in (("whole", 1 << 30), ("none", 0)):
        model = on_accelerator(model_file)
        with (
            open_clinic(tmp_path / folder, models=OneModel(model)) as clinic,
            troubled(model, room_for(room)),
        ):
            job = clinic.serve(image(0))
            images.append(clinic.result(job).pixel_array.astype(int))
    assert job.result.figures["device"] == "cpu, float32"
    assert np.abs(images[0] - images[1]).max() <= 1


def test_a_lost_device_ends_the_worker_and_its_successor_does_the_job(tmp_path, model_file):
    model = on_accelerator(model_file)

    def trouble(x: torch.Tensor) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with open_clinic(tmp_path, models=OneModel(model), queue=QUICK) as clinic:
        first, second = clinic.receive(image(1)), clinic.receive(image(2))
        with troubled(model, trouble) as tried:
            worker = threading.Thread(target=clinic.worker.work)
            worker.start()
            worker.join(60)
            assert not worker.is_alive(), "it ends by itself: the supervisor starts another process"
        assert len(tried) == 1, "nothing more is asked of the device, by no other job either"
        assert not clinic.stop.is_set()
        assert clinic.job(first.job_id).state == JobState.QUEUED
        assert "device-side assert" in " ".join(clinic.events(first.job_id))
        clinic.worker.lost_device = False
        for accepted in (first, second):
            assert until_it_ends(clinic, accepted.job_id).state == JobState.DELIVERING


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "not finite"),
        pytest.param(float("inf"), "not finite", marks=pytest.mark.faults),
        (1e6, "no picture of its source"),
    ],
)
def test_nonsense_is_tried_again_then_failed_with_the_reason_and_never_delivered(
    tmp_path, model_file, value, reason
):
    network = broken(model_file, checkers(value) if np.isfinite(value) else constant(value))
    with open_clinic(tmp_path, models=OneModel(network), queue=QUICK) as clinic:
        job = until_it_ends(clinic, clinic.receive(image(0)).job_id)
        assert (job.state, job.attempts, job.reason_code) == (JobState.FAILED, 3, "model")
        assert reason in job.reason
        assert job.result is None
        assert job.deliveries == []
        assert not list((tmp_path / "objects" / "results").glob("*/*"))
        clinic.use(enhancer.IdentityModel())
        with clinic.database.write() as session:
            queue.retry(session, session.get_one(Job, job.id), actor="test")
        assert until_it_ends(clinic, job.id).state == JobState.DELIVERING, "once mended, a retry does it"


def checkers(value: float) -> Generator:
    """A generator that answers with a pattern as fine as pixels, which no reduction sees."""

    class Checkers(Generator):
        def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
            rows = torch.arange(x.shape[-2] * scale)[:, None]
            columns = torch.arange(x.shape[-1] * scale)[None]
            return value * (1 - 2.0 * ((rows + columns) % 2))[None, None]

    return Checkers(4, 1)


@pytest.mark.faults
def test_a_model_that_is_gone_or_damaged_is_said_and_used_when_it_is_back(tmp_path, model_file):
    """A rule's own model, asked for first when an image needs it."""
    path, good = tmp_path / "own.safetensors", model_file.read_bytes()
    settings: dict[str, Any] = {"enhancer": EnhancerSettings(model=str(path), device="cpu"), "queue": QUICK}
    with open_clinic(tmp_path / "node", **settings) as clinic:
        clinic.worker.planner = dataclasses.replace(clinic.worker.planner, models=Models(clinic.settings))
        for content, reason in ((None, "no model file"), (good[: len(good) // 2], "own.safetensors")):
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
            job = until_it_ends(clinic, clinic.receive(image(len(reason))).job_id)
            assert (job.state, job.attempts, job.reason_code) == (JobState.FAILED, 3, "model")
            assert reason in job.reason
        accepted = clinic.receive(image(1))
        clinic.worker.work_once()
        assert clinic.job(accepted.job_id).state == JobState.QUEUED
        path.write_bytes(good)
        assert until_it_ends(clinic, accepted.job_id).state == JobState.DELIVERING
        path.unlink()
        assert clinic.serve(image(2)).state == JobState.DELIVERING, "what is loaded is held"


@pytest.mark.faults
def test_a_worker_without_its_model_says_so_and_begins_when_it_is_there(tmp_path, model_file, monkeypatch):
    monkeypatch.setattr(worker_module, "_MODEL_PAUSE", 0.1)
    path = tmp_path / "own.safetensors"
    with open_clinic(tmp_path / "node", enhancer=EnhancerSettings(model=str(path), device="cpu")) as clinic:

        def problem() -> str | None:
            with clinic.database.read() as session:
                row = session.scalar(select(RoleInstance).where(RoleInstance.role == "worker"))
                return None if row is None else row.info.get("problem")

        role = threading.Thread(target=worker_module.run, args=(clinic.settings, clinic.stop))
        role.start()
        try:
            assert eventually(lambda: "no model file" in (problem() or ""), 60)
            accepted = clinic.receive(image(0))
            path.write_bytes(model_file.read_bytes())
            assert eventually(lambda: clinic.job(accepted.job_id).state == JobState.DELIVERING, 60)
            assert problem() is None
        finally:
            clinic.stop.set()
            role.join(60)
        assert not role.is_alive()
