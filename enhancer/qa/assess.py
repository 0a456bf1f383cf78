"""All physical tests of a model beside bicubic, and what came out of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from enhancer.data import NATIVE_SIDE, Float32, half_of, list_patients, read, resize, unit
from enhancer.evaluation.measure import Method
from enhancer.model import Model
from enhancer.qa.edge import Sharpness, sharpness
from enhancer.qa.field import Noise, noise
from enhancer.qa.patterns import Bars, Disc, discs, resolved
from enhancer.qa.planted import FalseStructure, Survival, false_structure, marks, survival
from enhancer.resample import enlarged


@dataclass(frozen=True)
class Findings:
    """One method's."""

    sharpness: Sharpness
    noise: Noise
    bars: list[Bars]
    discs: list[Disc]
    marks: dict[str, tuple[float, float, float]]
    """Text and collimation edge: recovered, distorted, elsewhere, as in Survival."""
    survival: list[Survival]
    false_structure: list[FalseStructure]


@dataclass(frozen=True)
class Assessment:
    """What :func:`assess` found, by method: bicubic, then the model."""

    model: str
    version: str
    digest: str
    scale: int
    images: int
    methods: dict[str, Findings]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def assess(
    model: Model,
    images: Sequence[Float32],
    scale: int,
    *,
    step: Callable[[], None] | None = None,
    others: Mapping[str, Method] | None = None,
) -> Assessment:
    """Every test.

    images: float32 [256, 256] in [0, 1], radiographs that findings are planted in; may be none.
    step: called after each of STEPS a method. others: methods to test besides.
    """
    methods: dict[str, Method] = {
        "bicubic": lambda made: enlarged(made.lr, made.scale),
        model.info.name: lambda made: model.enhance(made.lr, made.scale),
    }
    methods |= dict(others or {})
    advance = step or (lambda: None)
    found = {name: _findings(method, images, scale, advance) for name, method in methods.items()}
    info = model.info
    return Assessment(info.name, info.version, info.digest, scale, len(images), found)


STEPS = 7


def _findings(method: Method, images: Sequence[Float32], scale: int, advance: Callable[[], None]) -> Findings:
    found: list[Any] = []
    tests: list[Callable[[], Any]] = [
        lambda: sharpness(method, scale),
        lambda: noise(method, scale),
        lambda: resolved(method, scale),
        lambda: discs(method, scale),
        lambda: marks(method, scale),
        lambda: survival(method, images, scale),
        lambda: false_structure(method, images, scale) if images else [],
    ]
    for test in tests:
        found.append(test())
        advance()
    return Findings(*found)


def pictures(data: Path, count: int) -> list[Float32]:
    """`count` images of the `dev` patients, spread over a folder with SOURCES.csv in it or above it."""
    patients = {path for path, patient in list_patients(data).items() if half_of(patient) == "dev"}
    paths = sorted(path for path in patients if path.parent.name == "nih_512") or sorted(patients)
    chosen = paths[:: max(1, len(paths) // count)][:count] if count else []
    return [unit(resize(read(path), NATIVE_SIDE, NATIVE_SIDE)) for path in chosen]
