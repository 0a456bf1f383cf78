"""The whole node as a user starts it."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.request
from pathlib import Path

import pytest
from sqlalchemy import select

from db import presence
from db.models import User
from tests.faults.node import ROLES, Node, free_port, wait_until


@pytest.fixture
def node(tmp_path):
    made = Node(Path(tmp_path) / "node", destination_port=free_port())
    yield made
    made.close()


def alive(node: Node) -> set[str]:
    with node.database.read() as session:
        return {instance.role for instance in presence.alive(session)}


@pytest.mark.slow
def test_one_command_runs_every_role_says_where_things_are_and_drains(node):
    node.start()
    wait_until(lambda: "DICOM:" in node.said(), 60, "the node says where it is")
    said = node.said()
    assert f"Pages:  http://127.0.0.1:{node.web_port}/" in said
    assert f"CXR_SR at 127.0.0.1:{node.dicom_port}" in said
    assert re.search(r"log in as admin with the password \S+ \(shown only once\)", said)
    assert alive(node) == set(ROLES)
    with urllib.request.urlopen(f"http://127.0.0.1:{node.web_port}/healthz", timeout=10) as answer:
        assert answer.status == 200

    second = node.run("serve")
    assert second.returncode == 1
    assert "another node" in second.stderr

    receiver = node.roles()["receiver"]
    maps = Path(f"/proc/{receiver}/maps").read_text()
    assert "libtorch" not in maps, "the receiver decodes and computes nothing"

    healthy = node.run("doctor", "--json")
    report = {check["name"]: check for check in json.loads(healthy.stdout)["checks"]}
    assert report["dicom port"]["ok"]
    assert "our running receiver" in report["dicom port"]["message"]
    assert report["model"]["ok"]
    assert report["device"]["ok"]
    assert report["database"]["ok"]
    assert report["storage"]["ok"]
    assert not report["destination recorder"]["ok"]
    assert healthy.returncode == 1
    assert "Traceback" not in healthy.stderr

    began = time.monotonic()
    roles = node.roles()
    assert node.stop() == 0
    assert time.monotonic() - began < 30
    assert not any(Path(f"/proc/{pid}").exists() for pid in roles.values())
    assert alive(node) == set()
    assert "Traceback" not in node.said()


def test_a_role_alone_serves_and_drains(node):
    node.start("receiver")
    wait_until(node.receives, 30, "the receiver listens")
    with node.database.read() as session:
        assert session.scalars(select(User.name)).all() == ["admin"]
    assert node.stop() == 0


def test_a_wrong_setting_stops_the_start_with_file_key_and_expectation(node):
    node.config.write_text(node.config.read_text().replace("[web]\nport", "[web]\nprot"))
    done = node.run("serve")
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert str(node.config) in line
    assert "web.prot" in line


def test_a_port_that_is_taken_does_not_end_the_node(node):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", node.dicom_port))
        taken.listen()
        node.start("receiver", "scheduler")
        wait_until(lambda: node.said().count("role-died") >= 2, 30, "the receiver has been tried twice")
    wait_until(lambda: "receiver" in alive(node), 30, "the receiver took the port when it was free")
    assert node.stop() == 0


def test_the_roles_vanish_with_a_killed_supervisor(node):
    node.start("receiver", "scheduler")
    wait_until(lambda: node.receives() and len(alive(node)) == 2, 30, "both roles are up")
    pids = node.roles().values()
    node.kill_supervisor()
    wait_until(lambda: not any(Path(f"/proc/{pid}/maps").exists() for pid in pids), 15, "the roles end")
    node.start("receiver", "scheduler")
    wait_until(node.receives, 30, "a new node takes over")
    assert node.stop() == 0
