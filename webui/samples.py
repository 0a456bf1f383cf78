"""A radiograph to try the node with; it comes with the software."""

from __future__ import annotations

from importlib import resources
from typing import IO

NAME = "chest_pa_nih_256.dcm"
"""The smallest of them: a first result within seconds."""
_PACKAGE = "cxr_sr"
"""Where the data lies, in an installed wheel as in a checkout; its code is not touched."""


def opened() -> IO[bytes]:
    """The bytes of the sample."""
    return resources.files(_PACKAGE).joinpath("samples", NAME).open("rb")
