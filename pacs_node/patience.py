"""HTTP without endless patience: a time for the whole of an answer, whatever comes of it byte by byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from pacs_node.sockets import sever


@contextmanager
def cut_off(wire: socket.socket | None, seconds: float, late: threading.Event) -> Iterator[None]:
    """End a connection when the block takes longer; time-outs begin anew with each byte that comes."""

    def cut() -> None:
        late.set()
        if wire is not None:
            sever(wire)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class BoundedAdapter(HTTPAdapter):
    """HTTP to peers that may take so many seconds from our last byte to their last header, and no longer."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        pools = (HTTPConnectionPool, HTTPSConnectionPool)
        self.poolmanager.pool_classes_by_scheme = {
            pool.scheme: _bounded(pool, self._seconds) for pool in pools
        }


def _bounded(pool: type[HTTPConnectionPool], seconds: float) -> type[HTTPConnectionPool]:
    """The same pool with connections that hang up on a peer which takes longer."""
    base: Any = pool.ConnectionCls

    class Connection(base):
        def getresponse(self) -> Any:
            late, wire, response = threading.Event(), self.sock, None
            try:
                with cut_off(wire, seconds, late):
                    response = super().getresponse()
            except Exception:
                if not late.is_set():
                    raise
            if response is None:
                raise TimeoutError("timed out") from None
            if late.is_set():  # headers that were cut off look whole to the library
                response.close()
                raise TimeoutError("timed out")
            response.wire = wire
            return response

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})
