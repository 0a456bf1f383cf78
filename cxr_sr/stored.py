"""Files of any kind as images to evaluate: DICOM by its stored values, pictures as they are."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from enhancer.data import SUFFIXES
from enhancer.errors import DataError
from enhancer.evaluation.images import Original, read_picture

if TYPE_CHECKING:
    from pacs_node.examine import Examiner

DICOM_SUFFIXES = {".dcm", ".dicom"}
STORED_SUFFIXES = SUFFIXES | DICOM_SUFFIXES


class StoredReader:
    """Reads one file after another. Use as a context manager: DICOM is decoded in a process of its own."""

    def __init__(self) -> None:
        self._examiner: Examiner | None = None

    def __enter__(self) -> StoredReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._examiner is not None:
            self._examiner.close()

    def __call__(self, path: Path) -> Original:
        """Stored values, brighter larger; the smallest and largest, padding apart, stand for 0 and 1.

        Padding becomes the nearer of the two. Raises DataError for what cannot be decoded.
        """
        if path.suffix.lower() in SUFFIXES:
            return read_picture(path)
        from pacs_node.errors import Refused
        from pacs_node.examine import Examiner

        if self._examiner is None:
            self._examiner = Examiner()
        try:
            examined = self._examiner.examine(path)
        except Refused as refused:
            raise DataError(f"{path}: {refused.refusal.sentence}") from refused
        if examined.image is None:
            reason = "its pixels cannot be read" if examined.refusal is None else examined.refusal.sentence
            raise DataError(f"{path}: {reason}")
        image = examined.image
        values = image.values.astype(np.int32)
        if image.padding is None:
            kept = np.ones(values.shape, bool)
        else:
            kept = (values < image.padding[0]) | (values > image.padding[1])
        if not kept.any():
            raise DataError(f"{path}: every pixel is padding.")
        low, high = int(values[kept].min()), int(values[kept].max())
        values = np.clip(values, low, high)
        if image.format.photometric == "MONOCHROME1":
            values = low + high - values
        return Original(values, low, max(high, low + 1), examined.facts.patient.patient_id or None)
