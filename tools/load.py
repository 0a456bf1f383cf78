"""How quickly a busy node with a long queue answers: people click, screens follow, the worker enhances.

A real node on a temporary folder, its database filled with many jobs; three people who are logged in ask for
one page or answer after another, others listen to the event stream, and images are sent in by C-STORE and
come back into an archive meanwhile. Prints a table of milliseconds by route; run it with `make load`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import requests

from config import Settings, load_settings
from cxr_sr import push
from cxr_sr.bench import image_copies
from db import Database, people, presence, schema
from db import queue as table
from pacs_node.archive import Archive
from tools import filling

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "a lamp behind the film"
PEOPLE = (("rita", "radiologist"), ("ravi", "radiologist"), ("olga", "admin"))
TARGET_MS = 300.0
START_SECONDS = 180.0
LONGEST_SECONDS = 180.0
"""Time beyond what was asked for, in which a slow machine comes round to every route."""


@dataclass(frozen=True)
class Route:
    """One thing that people ask for; `{job}`, `{name}` and the like are filled in anew each time."""

    what: str
    path: str
    form: dict[str, str] | None = None
    body: str | None = None
    admin: bool = False


ROUTES = (
    Route("queue", "/queue"),
    Route("queue, a large state", "/queue?state=done"),
    Route("queue, a small state", "/queue?state=failed"),
    Route("queue, far down", "/queue?after={job}"),
    Route("queue, by priority", "/queue?sort=priority"),
    Route("queue, filtered", "/queue?state=failed&rule=frontal+chest&priority=routine"),
    Route("queue, by destination", "/queue?destination=teaching"),
    Route("queue, a day", "/queue?since={day}&until={day}"),
    Route("search by name", "/queue", form={"q": "{name}"}),
    Route("search by beginning", "/queue", form={"q": "{beginning}"}),
    Route("search by ID", "/queue", form={"q": "P{patient}"}),
    Route("job page", "/jobs/{job}"),
    Route("dashboard", "/dashboard"),
    Route("system", "/system"),
    Route("review", "/review"),
    Route("upload", "/upload"),
    Route("audit trail", "/admin/audit", admin=True),
    Route("API: jobs", "/api/v1/jobs?limit=50"),
    Route("API: jobs of a state", "/api/v1/jobs?state=done,failed&limit=50"),
    Route("API: search", "/api/v1/jobs/search", body='{{"patient": "{name}"}}'),
    Route("API: search by study date", "/api/v1/jobs/search", body='{{"study_from": "{day}"}}'),
    Route("API: a job", "/api/v1/jobs/{job}"),
    Route("API: system", "/api/v1/system"),
    Route(
        "API: ten jobs reprioritised", "/api/v1/jobs/bulk",
        body='{{"action": "priority", "priority": "bulk", "ids": {queued}}}',
    ),
    Route("API: metrics", "/metrics"),
    Route("API: readyz", "/readyz"),
)  # fmt: skip


@dataclass
class Figures:
    """Milliseconds until the last byte, by what was asked for; and what went wrong."""

    taken: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    events: int = 0
    streams_lost: int = 0
    enhanced: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: str, seconds: float, trouble: str = "") -> None:
        """Count one answer."""
        with self._lock:
            self.taken.setdefault(what, []).append(1000 * seconds)
            if trouble:
                self.failures.append(f"{what}: {trouble}")

    def heard(self, events: int) -> None:
        """Count events of a stream."""
        with self._lock:
            self.events += events

    def lost(self) -> None:
        """Count a stream that ended before its time."""
        with self._lock:
            self.streams_lost += 1

    def rows(self) -> list[dict[str, Any]]:
        """A row for each route in the table's order, and one for all together."""
        named = [(route.what, self.taken[route.what]) for route in ROUTES if route.what in self.taken]
        together = [each for _what, taken in named for each in taken]
        return [_row(what, taken) for what, taken in [*named, ("all", together)] if taken]


def _row(what: str, taken: list[float]) -> dict[str, Any]:
    cuts = quantiles(taken, n=100, method="inclusive") if len(taken) > 1 else [taken[0]] * 99
    return {
        "route": what,
        "answers": len(taken),
        "p50_ms": round(cuts[49], 1),
        "p95_ms": round(cuts[94], 1),
        "max_ms": round(max(taken), 1),
    }


class Person:
    """Somebody at a browser: asks for one thing after another with a short pause between."""

    def __init__(self, url: str, name: str, role: str, jobs: int, queued: list[int], seed: int) -> None:
        self.url, self.role, self.jobs, self.queued = url, role, jobs, queued
        self.chance = random.Random(seed)
        self.session = requests.Session()
        answer = self.session.post(
            f"{url}/login", data={"name": name, "password": PASSWORD}, headers={"Origin": url}, timeout=60
        )
        answer.raise_for_status()
        self.session.headers["X-CSRF-Token"] = self.session.get(f"{url}/api/v1/me", timeout=60).json()[
            "csrf_token"
        ]

    def click(self, figures: Figures, stop: threading.Event, pause: float) -> None:
        """Go through all routes again and again, each time in another order."""
        mine = [route for route in ROUTES if not route.admin or self.role == "admin"]
        while not stop.is_set():
            for route in self.chance.sample(mine, len(mine)):
                if stop.wait(self.chance.uniform(0.5, 1.5) * pause):
                    return
                self.ask(route, figures)

    def ask(self, route: Route, figures: Figures) -> None:
        """One request, timed until its last byte."""
        given = self._given()
        url = self.url + route.path.format(**given)
        began = time.perf_counter()
        try:
            if route.body is not None:
                kind = {"Content-Type": "application/json"}
                body = route.body.format(**given)
                answer = self.session.post(url, data=body, headers=kind, timeout=60)
            elif route.form is not None:
                form = {name: value.format(**given) for name, value in route.form.items()}
                answer = self.session.post(url, data=form, timeout=60)
            else:
                answer = self.session.get(url, timeout=60)
            trouble = "" if answer.ok else f"status {answer.status_code}"
        except requests.RequestException as error:
            trouble = type(error).__name__
        figures.note(route.what, time.perf_counter() - began, trouble)

    def _given(self) -> dict[str, Any]:
        name = self.chance.choice(filling.FAMILIES)
        day = time.gmtime(time.time() - 86400 * self.chance.uniform(0, 300))
        return {
            "job": self.chance.randint(1, self.jobs),
            "name": f"{name} {self.chance.choice(filling.GIVEN)}",
            "beginning": name[: self.chance.randint(2, 4)].lower(),
            "patient": 100_000 + self.chance.randint(1, max(1, self.jobs // 2)),
            "day": time.strftime("%Y-%m-%d", day),
            "queued": json.dumps(self.chance.sample(self.queued, min(10, len(self.queued)))),
        }


def listen(url: str, cookies: Any, figures: Figures, stop: threading.Event) -> None:
    """One screen that follows the events."""
    try:
        with requests.get(f"{url}/api/v1/events", cookies=cookies, stream=True, timeout=(60, 30)) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines(chunk_size=1):
                if stop.is_set():
                    return
                figures.heard(line.startswith(b"event: job"))
    except requests.RequestException:
        pass
    if not stop.is_set():
        figures.lost()


@contextmanager
def node(folder: Path, jobs: int) -> Iterator[tuple[str, Settings, Database]]:
    """A whole node with that many jobs, all its roles running; yields its address."""
    with Archive(folder / "archive", ae_title="ARCHIVE") as archive:
        config = folder / "cxr-sr.toml"
        config.write_text(
            f"data_dir = {json.dumps(str(folder / 'var'))}\n[web]\nport = 0\n[dicom]\nport = 0\n"
            "[storage]\nreserve_bytes = 0\n"
            '[[destinations]]\nname = "pacs"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\n'
            f"port = {archive.port}\ndefault = true\n",
            encoding="utf-8",
        )
        settings = load_settings(config)
        settings.data_dir.mkdir()
        database = Database(settings.database_url)
        try:
            schema.upgrade(database)
            filling.fill(database, jobs, due=False)
            with database.write() as session:
                for name, role in PEOPLE:
                    people.add_user(session, name, role, PASSWORD)
            with _served(config, folder):
                ports = _ports(database)
                yield f"http://127.0.0.1:{ports['web']}", _at_port(settings, ports["receiver"]), database
        finally:
            database.close()


def _at_port(settings: Settings, port: int) -> Settings:
    return settings.model_copy(update={"dicom": settings.dicom.model_copy(update={"port": port})})


@contextmanager
def _served(config: Path, folder: Path) -> Iterator[None]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CXR_SR_")}
    command = [sys.executable, "-m", "cxr_sr", "serve", "--config", str(config)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ports(database: Database) -> dict[str, int]:
    """Ports of the roles that listen, once they and a worker are there."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with database.read() as session:
            rows = presence.alive(session)
        ports = {row.role: int(row.info["port"]) for row in rows if row.info.get("port")}
        loaded = any(row.role == "worker" and row.info.get("model") for row in rows)
        if loaded and {"web", "receiver"} <= ports.keys():
            return ports
        time.sleep(0.2)
    raise RuntimeError("the node does not start")


def feed(
    settings: Settings, database: Database, images: list[Path], figures: Figures, stop: threading.Event
) -> None:
    """Send images in as long as the worker has few to do."""
    dicom = settings.dicom
    while images and not stop.wait(0.5):
        with database.read() as session:
            due = table.waiting(session, due=True)
        if due < 3:
            batch, images = images[:5], images[5:]
            push.push(batch, host=dicom.host, port=dicom.port, ae_title=dicom.ae_title)
            figures.enhanced += len(batch)


def measure(folder: Path, *, jobs: int, seconds: float, streams: int, pause: float) -> Figures:
    """Run all of it for some seconds, or until each route was asked for."""
    figures, stop = Figures(), threading.Event()
    images = image_copies(folder, 5 + int(seconds))
    with node(folder, jobs) as (url, settings, database):
        queued = _queued(database)
        persons = [Person(url, *who, jobs, queued, seed) for seed, who in enumerate(PEOPLE)]
        warm = Figures()
        for person in persons[-1:]:
            for route in ROUTES:
                person.ask(route, warm)
        works = [
            threading.Thread(target=feed, args=(settings, database, images, figures, stop)),
            *(threading.Thread(target=one.click, args=(figures, stop, pause)) for one in persons),
        ]
        cookies = persons[0].session.cookies
        screens = [
            threading.Thread(target=listen, args=(url, cookies, figures, stop), daemon=True)
            for _ in range(streams)
        ]
        for thread in (*screens, *works):
            thread.start()
        stop.wait(seconds)
        latest = time.monotonic() + LONGEST_SECONDS
        while len(figures.taken) < len(ROUTES) and time.monotonic() < latest:
            time.sleep(0.2)
        stop.set()
        for thread in works:
            thread.join(120)
        before = figures.enhanced
        with database.read() as session:
            figures.enhanced = before - table.waiting(session, due=True)
    return figures


def _queued(database: Database) -> list[int]:
    from db import browse
    from db.states import JobState

    with database.read() as session:
        return browse.ids(session, states=[JobState.QUEUED], limit=500)


def main() -> int:
    """Print the figures; 1 when a request failed or the slowest route misses the target."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs in the database (100,000)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long people click (60)")
    parser.add_argument("--streams", type=int, default=50, help="event streams held open (50)")
    parser.add_argument("--pause", type=float, default=0.5, help="mean seconds between two clicks (0.5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cxr-sr-load-") as name:
        figures = measure(
            Path(name), jobs=given.jobs, seconds=given.seconds, streams=given.streams, pause=given.pause
        )
    rows = figures.rows()
    load = re.split(r"\s+", Path("/proc/loadavg").read_text())[0]
    told = {
        "jobs": given.jobs,
        "people": len(PEOPLE),
        "streams": given.streams,
        "streams_lost": figures.streams_lost,
        "events_heard": figures.events,
        "images_sent_and_taken_up": figures.enhanced,
        "cores": os.cpu_count(),
        "load_average": float(load),
        "failures": figures.failures,
        "routes": rows,
    }
    if given.json:
        print(json.dumps(told, indent=2))
    else:
        print(
            f"{given.jobs:,} jobs, {len(PEOPLE)} people, {given.streams} event streams "
            f"({figures.streams_lost} lost, {figures.events} events heard), {figures.enhanced} images "
            f"taken up by the worker, {os.cpu_count()} cores, load average {load}\n"
        )
        print(f"{'route':34} {'answers':>8} {'p50 ms':>8} {'p95 ms':>8} {'max ms':>8}")
        for row in rows:
            late = "  *" if row["p95_ms"] > TARGET_MS else ""
            print(
                f"{row['route']:34} {row['answers']:8} {row['p50_ms']:8} {row['p95_ms']:8} "
                f"{row['max_ms']:8}{late}"
            )
        for failure in sorted(set(figures.failures)):
            print(f"failed: {failure}", file=sys.stderr)
    return 1 if figures.failures or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
