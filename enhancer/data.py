"""Images for training and evaluation: reading, splitting by patient, reducing, cutting patches."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from enhancer import noise
from enhancer.errors import DataError
from enhancer.normalise import Affine, affine_of

UInt8 = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""An image [H, W] whose whole range of integers stands for [0, 1]."""
Float32 = npt.NDArray[np.float32]
Split = Literal["train", "val", "dev", "report"]

NATIVE_SIDE = 256
"""Side of the high-resolution image in the native protocol, pixels."""
TRAINED_DOSES = (0.08, 0.7)
"""Noisy patches stand for shares of the dose between these."""
SUFFIXES = {".webp", ".png", ".jpg", ".jpeg", ".tif", ".tiff"}


def read(path: Path) -> UInt8:
    """One image as uint8 [H, W]."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"), dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error


def unit(image: Grey) -> Float32:
    """uint8 or uint16 -> float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)


def resize(image: Grey, height: int, width: int) -> Grey:
    """Pillow's antialiased bicubic, [H, W] -> [height, width] of the same dtype."""
    if image.shape == (height, width):
        return image
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    floating = Image.fromarray(image.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    return np.rint(np.clip(np.asarray(floating), 0, 65535)).astype(np.uint16)


def reduced(image: Grey, scale: int) -> Grey:
    """The image at one `scale`-th of its size; its sides must be multiples of `scale`."""
    return resize(image, image.shape[0] // scale, image.shape[1] // scale)


def reduced_float(image: Float32, scale: int) -> Float32:
    """As `reduced`, of grey values that are no integers."""
    size = (image.shape[1] // scale, image.shape[0] // scale)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def block_mean(image: Float32, scale: int) -> Float32:
    """The mean of each block, float32 [scale*H, scale*W] -> [H, W]."""
    height, width = image.shape
    return image.reshape(height // scale, scale, width // scale, scale).mean(axis=(1, 3))


def blurred(image: Float32, weight: float) -> Float32:
    """Each pixel mixed with its neighbours by the kernel (weight, 1 - 2 weight, weight) both ways."""
    for axis in (0, 1):
        pads = [(1, 1) if side == axis else (0, 0) for side in (0, 1)]
        padded = np.pad(image, pads, mode="edge")
        before, after = (padded[:-2], padded[2:]) if axis == 0 else (padded[:, :-2], padded[:, 2:])
        image = (1 - 2 * weight) * image + weight * (before + after)
    return image


def half_of(patient: str) -> Literal["dev", "report"]:
    """Which half of the validation patients one belongs to: `dev` is for choosing, `report` for the card."""
    return "dev" if hashlib.sha256(patient.encode()).digest()[0] % 2 == 0 else "report"


def list_images(data: Path, split: Split, dataset: str | None = None) -> list[Path]:
    """Files of a folder with `SOURCES.csv`, by split and, if given, data set folder (`nih_512`), sorted."""
    table = data / "SOURCES.csv"
    folder_split = "train" if split == "train" else "val"
    found: list[Path] = []
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                if row["split"] != folder_split:
                    continue
                if split in ("dev", "report") and half_of(row["patient"]) != split:
                    continue
                path = data / row["file"]
                if dataset is None or path.parent.name == dataset:
                    found.append(path)
    except (OSError, KeyError) as error:
        raise DataError(f"{table} is needed to tell training from validation images: {error}") from error
    if not found:
        raise DataError(f"{data} has no images of split {split!r}" + (f" in {dataset}" if dataset else ""))
    return sorted(found)


def list_patients(data: Path) -> dict[Path, str]:
    """The patient of each validation image that the `SOURCES.csv` in `data` or a folder above it lists."""
    data = data.resolve()
    root = next((folder for folder in (data, *data.parents) if (folder / "SOURCES.csv").is_file()), None)
    if root is None:
        raise DataError(
            f"Neither {data} nor a folder above it has a SOURCES.csv, which tells the patients apart."
        )
    with (root / "SOURCES.csv").open(newline="", encoding="utf-8") as stream:
        try:
            rows = [row for row in csv.DictReader(stream) if row["split"] == "val"]
            return {root / row["file"]: row["patient"] for row in rows}
        except KeyError as error:
            raise DataError(f"{root / 'SOURCES.csv'} has no column {error}.") from error


def images_below(folder: Path, suffixes: Set[str] = SUFFIXES) -> list[Path]:
    """Every image file below a folder, sorted; hidden ones are left out."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder of images.")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        named = ", ".join(sorted(filter(None, suffixes)))
        raise DataError(f"{folder} holds no image (looked for {named}).")
    return found


@dataclass(frozen=True)
class Picture:
    """A high-resolution image with its reductions and the affine map of each."""

    hr: Grey
    lr: dict[int, Grey]
    affine: dict[int, Affine]

    @classmethod
    def of(cls, hr: Grey, scales: Sequence[int]) -> Picture:
        multiple = max(scales)
        hr = hr[: hr.shape[0] // multiple * multiple, : hr.shape[1] // multiple * multiple]
        lr = {scale: reduced(hr, scale) for scale in scales}
        return cls(hr, lr, {scale: affine_of(unit(image)) for scale, image in lr.items()})


def truth_of(image: Grey, protocol: str) -> Grey:
    """The high-resolution image of a protocol (see :mod:`enhancer.evaluation.images`), at x4."""
    if protocol == "seed":
        image = resize(image, NATIVE_SIDE // 4, NATIVE_SIDE // 4)
    return resize(image, NATIVE_SIDE, NATIVE_SIDE)


class Patches:
    """Random patches of a set of images, a pure function of (seed, iteration): resuming needs no state.

    `large_share` of the patches come from the images at a larger size than the native protocol's 256x256.
    `area_share` are reduced by the mean of each block, as a larger detector pixel would measure,
    `blur_share` are slightly blurred after their reduction, and `noise_share` get the noise of a lower dose
    before theirs (:mod:`enhancer.noise`), which the large image keeps clear of; all others are reduced by
    Pillow's bicubic. `turned_share` are turned by a random quarter; every second patch is mirrored.
    """

    def __init__(
        self,
        images: Iterable[Grey],
        scales: Sequence[int],
        *,
        patch: int,
        large_share: float,
        seed: int,
        area_share: float = 0.0,
        blur_share: float = 0.0,
        noise_share: float = 0.0,
        turned_share: float = 1.0,
        protocol: str = "native",
    ) -> None:
        self.patch = patch
        self.large_share = large_share
        self.area_share = area_share
        self.blur_share = blur_share
        self.noise_share = noise_share
        self.turned_share = turned_share
        self.seed = seed
        self.native: list[Picture] = []
        self.large: list[Picture] = []
        for image in images:
            self.native.append(Picture.of(truth_of(image, protocol), scales))
            if protocol == "seed":
                continue
            if min(image.shape) > NATIVE_SIDE:
                self.large.append(Picture.of(image, scales))
            if min(image.shape) >= 4 * NATIVE_SIDE:
                half = resize(image, image.shape[0] // 2, image.shape[1] // 2)
                self.large.append(Picture.of(half, scales))

    def batch(self, iteration: int, scale: int, size: int) -> tuple[Float32, Float32]:
        """Normalised pairs: lr float32 [size, 1, p, p] and hr float32 [size, 1, scale*p, scale*p]."""
        rng = np.random.default_rng((self.seed, iteration))
        side = self.patch
        lr = np.empty((size, 1, side, side), np.float32)
        hr = np.empty((size, 1, side * scale, side * scale), np.float32)
        for index in range(size):
            large = bool(self.large) and rng.random() < self.large_share
            pool = self.large if large else self.native
            picture = pool[int(rng.integers(len(pool)))]
            source, affine = picture.lr[scale], picture.affine[scale]
            top = int(rng.integers(source.shape[0] - side + 1))
            left = int(rng.integers(source.shape[1] - side + 1))
            big = picture.hr[
                top * scale : (top + side) * scale,
                left * scale : (left + side) * scale,
            ]
            small = unit(source[top : top + side, left : left + side])
            way = rng.random()
            if way < self.area_share:
                small = block_mean(unit(big), scale)
            elif way < self.area_share + self.blur_share:
                small = blurred(small, float(rng.uniform(0.02, 0.12)))
            elif way < self.area_share + self.blur_share + self.noise_share:
                dose = float(np.exp(rng.uniform(*np.log(TRAINED_DOSES))))
                small = reduced_float(noise.simulate(unit(big), dose, rng), scale)
            turns = int(rng.integers(4)) if rng.random() < self.turned_share else 0
            mirror = rng.random() < 0.5
            gain = affine.gain * float(np.exp(rng.uniform(-0.25, 0.25)))
            if rng.random() < 0.1:
                gain = -gain
            for target, patch in ((lr, small), (hr, unit(big))):
                turned = np.rot90(patch, turns)
                turned = turned[:, ::-1] if mirror else turned
                target[index, 0] = (turned - affine.offset) / gain
        return lr, hr
