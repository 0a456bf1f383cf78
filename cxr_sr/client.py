"""A client for programs over a node's REST interface; each answer's whole JSON is kept in `raw`.

from cxr_sr.client import Client

node = Client("https://enhance.example.org", token)
for job in node.upload("chest.dcm", destinations=["pacs"]).jobs:
    if node.wait(job.id).state == "done":
        node.download(job.id, f"{job.id}.dcm")
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import requests

Priority = Literal["stat", "routine", "bulk"]
Upload = str | Path | tuple[str, bytes]
"""A file to send: its path, or a name and the bytes."""

ENDED = frozenset({"done", "held", "failed", "skipped", "cancelled", "retracted"})
"""States in which nothing more happens by itself."""
_CHUNK = 1 << 18
_LOST = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class Problem(Exception):
    """The node said no: `status` of HTTP, `kind` for programs, `detail` for people, `body` as it came."""

    def __init__(self, answer: requests.Response) -> None:
        self.status, self.body = answer.status_code, dict[str, Any]()
        after = answer.headers.get("Retry-After", "")
        self.retry_after = float(after) if after.isdigit() else None
        with suppress(ValueError, TypeError):
            self.body = dict(answer.json())
        self.kind = str(self.body.get("type", f"http-{self.status}")).removeprefix("urn:cxr-sr:problem:")
        self.detail = str(self.body.get("detail", f"HTTP {self.status}"))
        super().__init__(f"{self.detail} ({self.status}, {self.kind})")


class Job(NamedTuple):
    """A job: `state`, and of one that failed or was skipped why."""

    id: int
    state: str
    reason_code: str | None
    reason: str | None
    raw: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Job:
        return cls(int(raw["id"]), str(raw["state"]), raw.get("reason_code"), raw.get("reason"), raw)


class Refusal(NamedTuple):
    """A file of an upload that was not taken."""

    file: str
    kind: str
    detail: str


class Uploaded(NamedTuple):
    """What became of an upload; `replayed` when the node had taken it under the same key before."""

    jobs: list[Job]
    refused: list[Refusal]
    replayed: bool


class Event(NamedTuple):
    """Something that happened to a job: `kind` is `state` for a change from `before` to `after`."""

    id: int
    job: int
    kind: str
    before: str | None
    after: str | None
    raw: Mapping[str, Any]


class Client:
    """One node, asked as the owner of a token. Not to be shared between threads.

    What failed on the way is tried again `retries` times where that does nothing twice: reading, and uploads,
    which carry a key. Raises :class:`Problem`, or what `requests` raises when nobody answers.
    """

    def __init__(
        self, url: str, token: str, *, timeout: float = 60.0, retries: int = 4, verify: bool | str = True
    ) -> None:
        self.url, self.timeout, self.retries = url.rstrip("/"), timeout, retries
        self.http = requests.Session()
        self.http.verify = verify
        self._auth = {"Authorization": f"Bearer {token}"}

    def upload(
        self, *files: Upload, scale: Literal["auto", "2", "4"] = "auto", model: str = "",
        priority: Priority = "routine", destinations: Sequence[str] = (),
        demographics: Mapping[str, str] | None = None, key: str = "",
    ) -> Uploaded:  # fmt: skip
        """Send files: DICOM, PNG, JPEG, TIFF, or ZIPs of them. Streams them, however large.

        `demographics` are DICOM keywords, for images that are not DICOM. `key` is needed only by one who may
        send the same again in another process; otherwise each call has a new one.
        """
        fields = [("scale", scale), ("priority", priority), *(("destination", name) for name in destinations)]
        fields += [("model", model)] if model else []
        form = _Form([*fields, *(demographics or {}).items()], files)
        headers = {"Content-Type": form.content_type, "Idempotency-Key": key or str(uuid.uuid4())}
        answer = self._ask("POST", "/api/v1/jobs", data=form, headers=headers, again=True)
        refused = [Refusal(one["file"], one["kind"], one["detail"]) for one in answer.json()["refused"]]
        jobs = [Job.of(one) for one in answer.json()["jobs"]]
        return Uploaded(jobs, refused, "Idempotent-Replayed" in answer.headers)

    def wait(self, job_id: int, *, timeout: float = 600.0, until: Collection[str] = ENDED) -> Job:
        """The job as soon as it is in one of these states. Raises TimeoutError."""
        deadline, pause = time.monotonic() + timeout, 0.2
        while (job := self.job(job_id)).state not in until:
            if time.monotonic() + pause > deadline:
                raise TimeoutError(f"job {job_id} is still {job.state}")
            time.sleep(pause)
            pause = min(5.0, pause * 1.5)
        return job

    def download(self, job_id: int, to: str | Path, what: str = "result.dcm") -> Path:
        """Write `result.dcm`, `result.png`, `source.png`... of a job to a file, whole or not at all."""
        target = Path(to)
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
        path = f"/api/v1/jobs/{job_id}/{what}"
        try:
            with self._ask("GET", path, again=True, stream=True) as answer, part.open("xb") as file:
                for chunk in answer.iter_content(_CHUNK):
                    file.write(chunk)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target

    def job(self, job_id: int) -> Job:
        """The job with its timeline, source, result and deliveries in `raw`."""
        return Job.of(self.call("GET", f"/api/v1/jobs/{job_id}"))

    def jobs(self, **query: str | int) -> Iterator[Job]:
        """Every job page by page, newest first; `state`: one or several with commas between, and so on."""
        return self._pages(
            lambda more: self.call("GET", "/api/v1/jobs", query={"limit": 200, **query, **more})
        )

    def search(self, **wanted: Any) -> Iterator[Job]:
        """Jobs by patient, accession, UID, dates, state: the fields of `POST /api/v1/jobs/search`."""
        body = {"limit": 200, **wanted}
        return self._pages(lambda more: self.call("POST", "/api/v1/jobs/search", body | more, again=True))

    def retry(self, job_id: int) -> Job:
        return self._act(job_id, "retry")

    def cancel(self, job_id: int) -> Job:
        return self._act(job_id, "cancel")

    def release(self, job_id: int) -> Job:
        """Let a held result go to its destinations."""
        return self._act(job_id, "release")

    def retract(self, job_id: int, reason: str, why: str = "quality") -> Job:
        """Take a result back; `why`: quality, safety or worklist. For administrators."""
        return self._act(job_id, "retract", {"reason": reason, "why": why})

    def prioritise(self, job_id: int, priority: Priority) -> Job:
        return self._act(job_id, "priority", {"priority": priority})

    def bulk(
        self, action: Literal["retry", "cancel", "priority"], ids: Sequence[int] = (), *,
        matching: Mapping[str, Any] | None = None, priority: Priority | None = None,
    ) -> tuple[list[int], dict[int, str]]:  # fmt: skip
        """Change the jobs named, or all `matching` a filter: which were changed, and why the others not."""
        which = {"ids": list(ids)} if matching is None else {"filter": dict(matching)}
        body: dict[str, Any] = {"action": action, **which} | ({"priority": priority} if priority else {})
        done: list[int] = []
        refused: dict[int, str] = {}
        while True:
            said = self.call("POST", "/api/v1/jobs/bulk", body)
            done += said["ids"]
            refused |= {int(one["id"]): str(one["reason"]) for one in said["refused"]}
            if not said["next"]:
                return done, refused
            body["cursor"] = said["next"]

    def events(self, after: int | None = None) -> Iterator[Event]:
        """What happens to jobs from now on, or after an event, without end; one may come twice."""
        name = ""
        while True:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after else {})
            with suppress(*_LOST):
                said = self._ask("GET", "/api/v1/events", headers=headers, stream=True, again=True)
                for line in said.iter_lines(chunk_size=1):
                    field, _, value = line.decode().partition(": ")
                    name = value if field == "event" else name
                    if field == "data" and name == "job":
                        raw = json.loads(value)
                        after = int(raw["id"])
                        yield Event(after, raw["job_id"], raw["kind"], raw["before"], raw["after"], raw)
            time.sleep(1.0)

    def dashboard(self) -> dict[str, Any]:
        return self.call("GET", "/api/v1/dashboard")

    def add_webhook(self, name: str, url: str, *states: str) -> dict[str, Any]:
        """Have an address told of jobs; the answer's `secret` is shown this once. For administrators."""
        told = list(states) or ["done", "failed"]
        return self.call("POST", "/api/v1/webhooks", {"name": name, "url": url, "states": told})

    def call(
        self, method: str, path: str, body: Any = None, *, query: Any = None, again: bool = False
    ) -> dict[str, Any]:
        """Any other operation of `/api/openapi.json`: its JSON answer, empty where there is none."""
        said = self._ask(method, path, json=body, params=query, again=again or method == "GET")
        return dict(said.json()) if said.content else {}

    def _act(self, job_id: int, action: str, body: Mapping[str, Any] | None = None) -> Job:
        return Job.of(self.call("POST", f"/api/v1/jobs/{job_id}/{action}", body))

    def _pages(self, page: Any) -> Iterator[Job]:
        cursor: dict[str, str] = {}
        while True:
            said = page(cursor)
            yield from map(Job.of, said["jobs"])
            if said["next"] is None:
                return
            cursor = {"cursor": said["next"]}

    def _ask(self, method: str, path: str, *, again: bool, **more: Any) -> requests.Response:
        """Ask, and ask again where that does nothing twice and may help."""
        headers = self._auth | (more.pop("headers", None) or {})
        more |= {"timeout": self.timeout, "allow_redirects": False}
        for attempt in range(self.retries + 1):
            last, pause = attempt == self.retries, 0.5 * 2**attempt
            try:
                answer = self.http.request(method, self.url + path, headers=headers, **more)
            except _LOST:
                if last or not again:
                    raise
            else:
                if answer.status_code < 300:
                    return answer
                problem = Problem(answer)
                if last or not (problem.status == 429 or (again and problem.retry_after is not None)):
                    raise problem
                pause = problem.retry_after or pause
            time.sleep(min(60.0, pause))
        raise AssertionError("unreachable")


class _Form:
    """A multipart body that is read from its files as it is sent, and can be sent again."""

    def __init__(self, fields: Iterable[tuple[str, str]], files: Iterable[Upload]) -> None:
        self.boundary = uuid.uuid4().hex
        self.content_type = f"multipart/form-data; boundary={self.boundary}"
        self.tail = f"--{self.boundary}--\r\n".encode()
        head = f"--{self.boundary}\r\nContent-Disposition: form-data; %s\r\n\r\n"
        self.parts: list[tuple[bytes, bytes | Path]] = []
        for field, value in fields:
            self.parts.append(((head % f'name="{field}"').encode(), value.encode()))
        for file in files:
            name, content = file if isinstance(file, tuple) else (Path(file).name, Path(file))
            clean = "".join("_" if letter in '"\\\r\n' else letter for letter in name)
            self.parts.append(((head % f'name="file"; filename="{clean}"').encode(), content))

    def __len__(self) -> int:
        sizes = [len(what) if isinstance(what, bytes) else what.stat().st_size for _head, what in self.parts]
        return sum(sizes) + sum(len(head) + 2 for head, _what in self.parts) + len(self.tail)

    def __iter__(self) -> Iterator[bytes]:
        for head, what in self.parts:
            yield head
            with io.BytesIO(what) if isinstance(what, bytes) else what.open("rb") as file:
                yield from iter(partial(file.read, _CHUNK), b"")
            yield b"\r\n"
        yield self.tail


def verify_signature(secret: str, header: str, body: bytes, *, tolerance: float = 300.0) -> bool:
    """Whether a webhook's call is ours and young: header X-Cxr-Sr-Signature, body as it came."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    at, given = parts.get("t", ""), parts.get("v1", "")
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    young = at.isdigit() and abs(time.time() - int(at)) <= tolerance
    return hmac.compare_digest(digest.encode(), given.encode()) and young
