"""How busy a worker is, and how full its device."""

from __future__ import annotations

import pytest

from pacs_node.gauge import Gauge


@pytest.fixture
def now(monkeypatch):
    """A clock that stands until it is moved."""
    moment = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: moment[0])
    return moment


def test_the_part_of_the_time_that_was_worked_is_told(now):
    measured = Gauge()
    with measured.working():
        now[0] += 3
    now[0] += 7
    assert measured.look() == {"busy": 0.3}
    now[0] += 10
    assert measured.look() == {"busy": 0.0}


def test_work_that_goes_on_counts_at_each_look(now):
    measured = Gauge()
    with measured.working():
        now[0] += 5
        assert measured.look() == {"busy": 1.0}
        now[0] += 2
        assert measured.look() == {"busy": 1.0}
        now[0] += 1
    now[0] += 1
    assert measured.look() == {"busy": 0.5}


def test_a_device_tells_how_full_it_is(now, monkeypatch):
    import torch

    measured = Gauge()
    measured.device = "cuda:0"
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (60, 80))
    monkeypatch.setattr(torch.cuda, "utilization", lambda _device: 40)
    now[0] += 1
    assert measured.look() == {"busy": 0.0, "device-memory": 0.25, "device-use": 0.4}


def test_a_device_that_has_gone_or_a_driver_that_says_nothing_breaks_nothing(now, monkeypatch):
    import torch

    def gone(_device):
        raise RuntimeError("no CUDA device")

    def silent(_device):
        raise ModuleNotFoundError("pynvml")

    measured = Gauge()
    measured.device = "cuda:0"
    now[0] += 1
    monkeypatch.setattr(torch.cuda, "mem_get_info", gone)
    assert measured.look() == {"busy": 0.0}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (60, 80))
    monkeypatch.setattr(torch.cuda, "utilization", silent)
    now[0] += 1
    assert measured.look() == {"busy": 0.0, "device-memory": 0.25}
