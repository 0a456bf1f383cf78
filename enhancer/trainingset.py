"""What a run trains on and what it looks at on the way: the project's data, or a hospital's own folder.

A folder with a `SOURCES.csv` says itself which images are for training; the `dev` patients are looked at.
Any other folder is split here by patient: one in ten, by a hash of the patient's key, is never trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from enhancer.data import SUFFIXES, Grey, images_below, list_images, read, resize
from enhancer.errors import DataError
from enhancer.evaluation.images import Original, Reader, read_picture

LONG_SIDE = 1024
"""Larger images are reduced to this, so that a thousand of them fit into memory."""
LOOKS = 24
"""About so many images are looked at."""


@dataclass(frozen=True)
class TrainingSet:
    """Images to train on, and those to look at, of other patients."""

    train: Iterable[Grey]
    looks: list[Grey]


def training_set(data: Path, reader: Reader = read_picture, suffixes: Set[str] = SUFFIXES) -> TrainingSet:
    """The images of a folder; `reader` and `suffixes` say what else than pictures can be read.

    Raises DataError for a folder without images, or with those of a single patient.
    """
    if (data / "SOURCES.csv").is_file():
        looks = list_images(data, "dev")
        stride = max(1, len(looks) // LOOKS)
        train = list_images(data, "train")
        return TrainingSet((read(path) for path in train), [read(path) for path in looks[::stride]])
    train_images: list[Grey] = []
    look_images: list[Grey] = []
    for path, original in _originals(images_below(data, suffixes), reader):
        kept_apart = is_kept_apart(original.patient or path.name)
        (look_images if kept_apart else train_images).append(as_grey(original))
    if not train_images or not look_images:
        raise DataError(
            f"{data} needs images of more patients: one in ten is kept apart, to see what training is worth."
        )
    stride = max(1, len(look_images) // LOOKS)
    return TrainingSet(train_images, look_images[::stride])


def is_kept_apart(patient: str) -> bool:
    """Whether a patient of a folder without `SOURCES.csv` is looked at and not trained on."""
    return hashlib.sha256(patient.encode()).digest()[0] % 10 == 0


def as_grey(original: Original) -> Grey:
    """8 bits as they are, anything else over 16 bits; at most LONG_SIDE pixels on a side."""
    values = original.values
    if values.dtype == np.uint8:
        grey: Grey = values
    else:
        share = (values.astype(np.float64) - original.low) / (original.high - original.low)
        grey = np.rint(np.clip(share, 0, 1) * 65535).astype(np.uint16)
    factor = LONG_SIDE / max(grey.shape)
    if factor >= 1:
        return grey
    return resize(grey, max(1, round(grey.shape[0] * factor)), max(1, round(grey.shape[1] * factor)))


def _originals(paths: list[Path], reader: Reader) -> Iterator[tuple[Path, Original]]:
    """What can be read; what cannot is counted and said."""
    unread: list[str] = []
    for path in tqdm(paths, desc="reading", unit="image", disable=None, leave=False):
        try:
            yield path, reader(path)
        except DataError as error:
            unread.append(str(error))
    if unread:
        tqdm.write(f"{len(unread)} of {len(paths)} files are left out, the first: {unread[0]}")
