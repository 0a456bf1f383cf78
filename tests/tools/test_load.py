"""The figures of a busy node, on a small one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.peers import ROOT
from tools import load


def test_people_screens_and_the_worker_are_measured_on_a_real_node(tmp_path):
    command = [sys.executable, "tools/load.py", "--jobs", "300", "--seconds", "1", "--streams", "3", "--json"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CXR_SR_")}
    done = subprocess.run(
        [*command, "--pause", "0.05"],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["jobs"], told["people"], told["streams"], told["failures"]) == (300, 3, 3, [])
    assert told["streams_lost"] == 0
    routes = {row["route"]: row for row in told["routes"]}
    assert list(routes) == [*(route.what for route in load.ROUTES), "all"]
    assert routes["all"]["answers"] == sum(row["answers"] for row in told["routes"]) / 2
    assert routes["all"]["p50_ms"] <= routes["all"]["p95_ms"] <= routes["all"]["max_ms"]
    assert list(tmp_path.iterdir()) == []
