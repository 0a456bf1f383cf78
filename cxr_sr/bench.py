"""The project's own figures, each beside a floor or a ceiling of the same machine, so that a slow day shows.

A figure alone says how fast the machine is; the ratio says how good the program is.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from cxr_sr.failure import Failure

if TYPE_CHECKING:
    import torch


SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement. `ratio` is `value` over `reference`, both in `unit`."""

    suite: str
    what: str
    value: float
    unit: str
    reference: float
    against: str

    @property
    def ratio(self) -> float:
        return self.value / self.reference if self.reference else float("nan")


def seconds(work: Callable[[], object], *, times: int = 3, warm: bool = True) -> float:
    """Median time of `work`, after one run that does not count where `warm`."""
    if warm:
        work()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return median(taken)


def enhance(*, model_name: str = "srgan", device: str = "auto", side: int = 256) -> Iterator[Figure]:
    """The network on one image: what it computes in a second, beside a large matrix product on the same
    device.
    """
    import numpy as np
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import enhancer

    model = enhancer.load(model_name, device=device)
    lr = np.random.default_rng(0).random((side, side), dtype=np.float32)
    where, dtype = _placement(model.info.device)
    a = torch.randn(2048, 2048, device=where, dtype=dtype)

    def product() -> None:
        (a @ a).sum().item()

    ceiling = 2 * 2048**3 / seconds(product, times=7) / 1e9
    for scale in model.info.scales:
        with FlopCounterMode(display=False) as counter:
            model.enhance(lr, scale=scale)
        taken = seconds(lambda scale=scale: model.enhance(lr, scale=scale))  # type: ignore[misc]
        yield Figure(
            "enhance",
            f"x{scale} of {side}x{side} in {taken:.2f} s ({60 / taken:.0f} a minute), {model.info.device}",
            counter.get_total_flops() / taken / 1e9,
            "GFLOP/s",
            ceiling,
            "a matrix product of 2048x2048",
        )


def _placement(label: str) -> tuple[str, torch.dtype]:
    import torch

    return ("cuda" if "cuda" in label else "cpu"), (torch.bfloat16 if "bfloat16" in label else torch.float32)


def queue(*, jobs: int = 200) -> Iterator[Figure]:
    """Jobs through the queue of an embedded database, beside what the disk allows for durable commits."""
    import sqlite3

    from db import Database, schema
    from db import queue as table
    from db.models import Source

    with tempfile.TemporaryDirectory(prefix="cxr-sr-bench-") as folder:
        plain = sqlite3.connect(Path(folder) / "plain.db", isolation_level=None)
        plain.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (x)")

        def commit() -> None:
            plain.execute("INSERT INTO t VALUES (1)")

        commits = 1 / seconds(commit, times=200)
        plain.close()
        database = Database(f"sqlite:///{folder}/bench.db")
        try:
            schema.upgrade(database)
            began = time.perf_counter()
            for number in range(jobs):
                name = hashlib.sha256(str(number).encode()).hexdigest()
                with database.write() as session:
                    source = Source(
                        sha256=name,
                        size_bytes=1,
                        object_key=f"sources/{name[:2]}/{name[:32]}",
                        media_type="application/dicom",
                        origin_kind="bench",
                    )
                    session.add(source)
                    session.flush()
                    table.enqueue(session, source)
            put = jobs / (time.perf_counter() - began)
            began = time.perf_counter()
            for _ in range(jobs):
                with database.write() as session:
                    lease = table.claim(session, "bench", 60)
                assert lease is not None
                with database.write() as session:
                    table.skip(session, lease, "bench", "measured")
            worked = 2 * jobs / (time.perf_counter() - began)
        finally:
            database.close()
    floor = "single-row commits of SQLite (WAL, synchronous=FULL)"
    yield Figure(
        "queue", "sources with their jobs put in, one a transaction", put, "transactions/s", commits, floor
    )
    yield Figure("queue", "claims and ends of jobs", worked, "transactions/s", commits, floor)


def ingest(*, images: int = 100) -> Iterator[Figure]:
    """Objects by C-STORE over one association into a receiver, beside durable files of their size on this
    disk.
    """
    from config import Settings
    from cxr_sr import push
    from db import Database, schema
    from db.objects import open_store
    from pacs_node.receiver import Receiver

    with tempfile.TemporaryDirectory(prefix="cxr-sr-bench-") as name:
        folder = Path(name)
        files = image_copies(folder, images)
        content = files[0].read_bytes()

        def put_file() -> None:
            with (folder / "plain").open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

        floor = 1 / seconds(put_file, times=50)
        settings = Settings(data_dir=folder / "var", dicom={"port": 0}, storage={"reserve_bytes": 0})
        settings.data_dir.mkdir()
        database = Database(settings.database_url)
        try:
            schema.upgrade(database)
            receiver = Receiver(settings, database, open_store(settings.storage_url))
            try:
                began = time.perf_counter()
                port = receiver.server.port
                answers = push.push(files, host="127.0.0.1", port=port, ae_title=settings.dicom.ae_title)
                rate = images / (time.perf_counter() - began)
                assert all(one.status == 0 for one in answers)
            finally:
                receiver.close(0)
        finally:
            database.close()
    what = f"objects of {len(content) // 1024} KiB stored and acknowledged over one association"
    yield Figure("ingest", what, rate, "objects/s", floor, "one fsync of a file of that size")


def end_to_end(*, images: int = 8) -> Iterator[Figure]:
    """From the modality to the archive through every process, beside the network alone in a process of its
    own.
    """
    import threading

    import numpy as np

    import enhancer
    from cxr_sr import loopback

    lr = np.random.default_rng(0).random((256, 256), dtype=np.float32)
    alone = seconds(partial(enhancer.load("srgan").enhance, lr, scale=4))
    with tempfile.TemporaryDirectory(prefix="cxr-sr-bench-") as name:
        folder = Path(name)
        warm, *files = image_copies(folder, images + 1)
        with loopback.node(folder / "node") as here:
            stop = threading.Event()
            for fates in ([warm], files):
                found = list(loopback.follow(here, fates, seconds=600, stop=stop))
    if any(fate.result is None for fate in found):
        raise Failure("not every image came back")
    each = max(fate.seconds for fate in found) / images
    what = f"from C-STORE to the archive, each of {images} images of 256x256 by x4"
    yield Figure("end-to-end", what, each, "s", alone, "the network alone")


def image_copies(folder: Path, images: int) -> list[Path]:
    """A sample under as many names as there are to be images, its corner changed so that none is a resend."""
    from pydicom import dcmread
    from pydicom.uid import generate_uid

    ds = dcmread(SAMPLES / "chest_pa_nih_256.dcm")
    pixels = ds.pixel_array.copy()
    files = []
    for number in range(images):
        pixels[0, 0] = number
        ds.PixelData = pixels.tobytes()
        ds.SOPInstanceUID = generate_uid(entropy_srcs=["bench", str(number)])
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        files.append(folder / f"{number}.dcm")
        ds.save_as(files[-1])
    return files


SUITES: dict[str, Callable[[], Iterator[Figure]]] = {
    "enhance": enhance,
    "ingest": ingest,
    "queue": queue,
    "end-to-end": end_to_end,
}
