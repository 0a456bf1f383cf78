"""A modality that sends each image until it is acknowledged."""

from __future__ import annotations

import threading
import time

from pydicom import Dataset

from pacs_node.sockets import ClosingAE


class Modality(threading.Thread):
    """Sends each image until it is acknowledged, as a modality does, as many as it was allowed to."""

    def __init__(self, port: int, images: list[Dataset]) -> None:
        super().__init__(name="modality")
        self.port, self.images = port, images
        self.allowed = threading.Semaphore(0)
        self.acknowledged: list[str] = []
        self.tries = 0
        self.give_up = threading.Event()

    def allow(self, images: int) -> None:
        for _ in range(images):
            self.allowed.release()

    def run(self) -> None:
        for ds in self.images:
            while not self.allowed.acquire(timeout=0.5):
                if self.give_up.is_set():
                    return
            while not self.give_up.is_set() and not self._send(ds):
                time.sleep(0.1)

    def _send(self, ds: Dataset) -> bool:
        self.tries += 1
        ae = ClosingAE(ae_title="MODALITY")
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5
        ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
        assoc = ae.associate("127.0.0.1", self.port, ae_title="CXR_SR")
        if not assoc.is_established:
            return False
        try:
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
