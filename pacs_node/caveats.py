"""Where a result is to be taken with more care than others: beyond what its model has learnt from, or unlike
its own source. Such a result is delivered and says so; it is neither hidden nor withheld."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from enhancer.domain import Domain
from pacs_node import anatomy, geometry
from pacs_node.facts import text
from pacs_node.provenance import ConsistencyFigures

_TOLERANCE = 1.02
"""Spacings are written in few decimals."""


@dataclass(frozen=True, slots=True)
class Caveat:
    """code: for programs. words: a few, for the header. sentence: for people."""

    code: str
    words: str
    sentence: str

    def as_json(self) -> dict[str, str]:
        """For the result's figures."""
        return {"code": self.code, "sentence": self.sentence}


def caveats(
    header: Dataset, rows: int, columns: int, domain: Domain | None, told: ConsistencyFigures | None
) -> tuple[Caveat, ...]:
    """What to say of a result. header, rows, columns: the source's; domain: the model's, None where it tells
    none."""
    found: list[Caveat] = []
    if anatomy.shows_chest(header) is False or anatomy.is_frontal(header) is False:
        found.append(
            Caveat("view", "not a frontal chest", "The models have learnt from frontal chest images only.")
        )
    elif anatomy.shows_chest(header) is None or anatomy.is_frontal(header) is None:
        sentence = "Nothing says that this is a frontal chest image; the models have learnt from no other."
        found.append(Caveat("view-unknown", "view not stated", sentence))
    if text(header, "LossyImageCompression", 2) == "01":
        sentence = "The source was compressed with loss; traces of the compression may be enhanced as well."
        found.append(Caveat("lossy", "source compressed with loss", sentence))
    if domain is not None:
        found += _size(header, rows, columns, domain)
        if told is not None and told.p999 > domain.p999:
            sentence = (
                f"Reduced again, the result differs from its source by {100 * told.p999:.2g} % of the grey"
                f" range in places (limit {100 * domain.p999:.2g} %): something was added or moved there."
            )
            found.append(Caveat("consistency", "poor consistency", sentence))
    return tuple(found)


def _size(header: Dataset, rows: int, columns: int, domain: Domain) -> list[Caveat]:
    found: list[Caveat] = []
    if min(rows, columns) < domain.side:
        sentence = f"The image is smaller than any that the model has learnt from ({domain.side} pixels)."
        found.append(Caveat("small", "smaller than trained on", sentence))
    spacing = geometry.finest_spacing(header)
    finest, coarsest = domain.spacing
    if spacing is None:
        found.append(
            Caveat("spacing-unknown", "spacing not stated", "Nothing says how large its pixels are.")
        )
    elif spacing * _TOLERANCE < finest:
        sentence = (
            f"Its pixels are {spacing:.3g} mm wide; the model has learnt from {finest:g} mm and coarser, so"
            " what it adds at this size was never compared with the truth."
        )
        found.append(Caveat("fine", "finer pixels than trained on", sentence))
    elif spacing > coarsest * _TOLERANCE:
        sentence = (
            f"Its pixels are {spacing:.3g} mm wide; the model has learnt from {coarsest:g} mm and finer."
        )
        found.append(Caveat("coarse", "coarser pixels than trained on", sentence))
    return found
