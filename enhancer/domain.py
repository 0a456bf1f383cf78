"""What a model has learnt from: beyond it a result is a guess, and whoever shows it should say so."""

from __future__ import annotations

import dataclasses
import json

from enhancer.errors import ModelFileError


@dataclasses.dataclass(frozen=True)
class Domain:
    """The images that a model was trained and measured on; kept in the model file.

    spacing: finest and coarsest distance of the source's pixels in mm, as far as the training data tell.
    side: shortest side of a source in pixels. p999: 99.9th percentile of the local consistency, in parts of
    the grey range, above which a result is unlike any that was measured.
    """

    spacing: tuple[float, float] = (0.6, 7.0)
    side: int = 64
    p999: float = 0.03

    def as_json(self) -> str:
        """For the model file's header."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Domain:
        """Raises ModelFileError for what is no domain."""
        try:
            said = json.loads(text)
            finest, coarsest = (float(value) for value in said["spacing"])
            return cls((finest, coarsest), int(said["side"]), float(said["p999"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFileError(f"The model file's domain cannot be read: {text[:100]!r}.") from error
