"""One examined image through one model: stored values in, the derived object and its figures out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from enhancer import Course, ModelInfo, plausible
from enhancer.bound import Bound
from enhancer.consistency import Consistency, consistency
from pacs_node import derive, geometry, stored
from pacs_node.decode import StoredImage
from pacs_node.examine import Examination
from pacs_node.provenance import Derivation

Progress = Callable[[float], None]


class Enlarger(Protocol):
    """What `enhancer.load` gives."""

    info: ModelInfo

    @property
    def bounds(self) -> Mapping[int, Bound]: ...

    @property
    def course(self) -> Course: ...

    @property
    def degraded(self) -> str: ...

    def enhance(
        self, lr: npt.NDArray[np.float32], scale: int, *, progress: Progress | None = None
    ) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Enhanced:
    """values: Int[H*s, W*s], stored values in the source's format; consistency and bound in units of the
    image's own range; seconds spent in the network; course: where, and what stood in the way."""

    values: npt.NDArray[Any]
    consistency: Consistency
    bound: BoundFigures | None
    seconds: float
    course: Course


@dataclass(frozen=True, slots=True)
class BoundFigures:
    """Of the bound on nine tenths of the pixels' errors: its median over the image and 99th percentile."""

    median: float
    p99: float


def enhance_image(
    header: Dataset, image: StoredImage, model: Enlarger, scale: int, progress: Progress | None = None
) -> Enhanced:
    """Enhance the stored values of `image`, whose header says how they are to be seen.

    Raises what the model raises, ModelOutputError for a result that is no picture of its source, and whatever
    `progress` does: that is how it is stopped midway.
    """
    shuttered = geometry.shutter_mask(header, image.format.rows, image.format.columns)
    given = stored.to_network(image, inverted=stored.high_is_dark(header), shuttered=shuttered)
    began = time.perf_counter()
    sr = model.enhance(given.lr, scale, progress=progress)
    seconds = time.perf_counter() - began
    figures = consistency(sr, given.lr, scale)
    plausible.check(sr, given.lr, figures, model.info.name)
    told = _bound(model, given.lr, sr, scale)
    return Enhanced(stored.from_network(sr, image, given), figures, told, seconds, model.course)


def _bound(
    model: Enlarger, lr: npt.NDArray[np.float32], sr: npt.NDArray[np.float32], scale: int
) -> BoundFigures | None:
    fitted = model.bounds.get(scale)
    if fitted is None:
        return None
    median, p99 = np.percentile(fitted.of(lr, sr, scale), (50, 99))
    return BoundFigures(float(median), float(p99))


def derive_from(examined: Examination, values: npt.NDArray[Any], how: Derivation) -> Dataset:
    """The derived object of an examined source. Raises ValueError where it has no image."""
    if examined.image is None:
        raise ValueError("nothing was decoded")
    return derive.derive(
        examined.untouched(),
        values,
        examined.image.format,
        how,
        transfer_syntax=examined.transfer_syntax,
        stored_bytes=examined.stored_bytes,
        source_is_ours=examined.is_picture,
        unreadable=examined.dropped,
    )
