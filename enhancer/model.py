"""Models: float images in, enhanced float images out."""

from __future__ import annotations

import abc
import copy
import dataclasses
import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from enhancer.backprojection import projected
from enhancer.bound import Bound
from enhancer.device import Placement, lacks_memory, place
from enhancer.domain import Domain
from enhancer.errors import (
    DeviceError,
    DeviceLostError,
    DeviceMemoryError,
    ModelInputError,
    ModelOutputError,
)
from enhancer.modelfile import ModelFile, locate, read_model
from enhancer.networks.generator import Generator
from enhancer.normalise import affine_of
from enhancer.resample import enlarged
from enhancer.tiling import plan, with_halo

Float32 = npt.NDArray[np.float32]
Progress = Callable[[float], None]

TILE = 320
"""Side of a tile without its halo, source pixels; it bounds the memory and is no part of the result."""
SMALLEST_TILE = 32
"""Below this the halo takes nearly all, and cutting on saves nothing."""


@dataclass(frozen=True)
class ModelInfo:
    """What a record of an enhanced image needs to say about its model."""

    name: str
    version: str
    digest: str
    """SHA-256 of the model file, hexadecimal."""
    scales: tuple[int, ...]
    device: str
    """Where and in which precision it runs, e.g. `cpu, bfloat16`."""
    card: Path | None
    """The model card, if one lies beside the file."""
    domain: Domain | None = None
    """What it has learnt from; None of a model that learns nothing."""


@dataclass(frozen=True)
class Course:
    """How the work on one image went: where it was done, and what stood in the way, in sentences."""

    device: str
    setbacks: tuple[str, ...] = ()


class Model(abc.ABC):
    """Something that enlarges images."""

    info: ModelInfo
    bounds: Mapping[int, Bound] = {}
    """How large its errors may be, for each scale that was measured."""
    course: Course = Course("")
    """How the last image went."""
    degraded: str = ""
    """Why it does not run where it should; empty when it does."""

    def enhance(self, lr: Float32, scale: int, *, progress: Progress | None = None) -> Float32:
        """float32 [H, W] in [0, 1] -> float32 [scale*H, scale*W]; nothing is clipped.

        Values outside [0, 1] are taken as they are: the result follows any affine change of the input.
        `progress` is called with the share done, above 0 and up to 1, after each part of the image; it begins
        anew where the device had no room. Raises ModelInputError for an image or scale that the model does
        not take, ModelOutputError when the network's result is not finite, DeviceMemoryError and
        DeviceLostError when it could not be worked out.
        """
        if scale not in self.info.scales:
            raise ModelInputError(
                f"The model {self.info.name} enlarges {_listed(self.info.scales)}, not x{scale}."
            )
        if lr.ndim != 2 or 0 in lr.shape:
            raise ModelInputError(f"An image of two dimensions is needed, not one of shape {lr.shape}.")
        lr = np.ascontiguousarray(lr, dtype=np.float32)
        if not np.isfinite(lr).all():
            raise ModelInputError("The image holds values that are not finite numbers.")
        self.course = Course(self.info.device)
        sr = self._enhance(lr, scale, progress or _nothing)
        if not np.isfinite(sr).all():
            raise ModelOutputError(f"The model {self.info.name} returned values that are not finite numbers.")
        return sr

    @abc.abstractmethod
    def _enhance(self, lr: Float32, scale: int, progress: Progress) -> Float32: ...


class NetworkModel(Model):
    """A generator with its weights on a device.

    What finds no room there is cut smaller, and at last done by the processor; `course` tells of it.
    """

    def __init__(self, file: ModelFile, placement: Placement, *, tile: int = TILE) -> None:
        self._tile = tile
        self._halo = file.generator.halo
        self._spare = copy.deepcopy(file.generator) if placement.accelerated else None
        self._seat = Seat(file.generator, placement)
        self.bounds = file.bounds
        self.info = ModelInfo(
            name=file.name,
            version=file.version,
            digest=file.digest,
            scales=file.scales,
            device=placement.label,
            card=file.card,
            domain=file.domain,
        )

    def _enhance(self, lr: Float32, scale: int, progress: Progress) -> Float32:
        """The enlargement with the network's residual, brought to what the source says."""
        try:
            return self._on(self._seat, lr, scale, progress)
        except DeviceMemoryError:
            if self._spare is None:
                raise
        self._note("There was no room on it at all: the processor did the whole image.")
        # in float32, which every processor does well; made anew each time, as it should be rare
        seat = Seat(copy.deepcopy(self._spare), Placement(torch.device("cpu"), torch.float32))
        self.course = dataclasses.replace(self.course, device=seat.placement.label)
        return self._on(seat, lr, scale, progress)

    def _on(self, seat: Seat, lr: Float32, scale: int, progress: Progress) -> Float32:
        height, width = lr.shape
        affine = affine_of(lr)
        x = affine.forward(lr)
        sr = enlarged(lr, scale)
        side, done = self._tile, 0
        waiting = deque(plan(height, width, side))
        while waiting:
            tile = waiting.popleft()
            if tile.side > side:
                waiting.extendleft(reversed(tile.cut(side)))
                continue
            seen = with_halo(tile, self._halo, height, width)
            residual = seat.residual(x[seen.top : seen.bottom, seen.left : seen.right], scale)
            if residual is None:
                side = -(-tile.side // 2)
                if side < SMALLEST_TILE:
                    raise DeviceMemoryError(f"There is not enough memory on {seat.placement.device}.")
                self._note(
                    f"Too little memory on {seat.placement.device}: went on in parts of {side} pixels."
                )
                waiting.appendleft(tile)
                continue
            inner = residual[
                (tile.top - seen.top) * scale : (tile.bottom - seen.top) * scale,
                (tile.left - seen.left) * scale : (tile.right - seen.left) * scale,
            ]
            if not np.isfinite(inner).all():
                raise ModelOutputError(
                    f"The model {self.info.name} returned values that are not finite numbers."
                )
            sr[tile.top * scale : tile.bottom * scale, tile.left * scale : tile.right * scale] += (
                inner * np.float32(affine.gain)
            )
            done += (tile.bottom - tile.top) * (tile.right - tile.left)
            progress(done / (height * width))
        return projected(sr, lr, scale)

    def _note(self, setback: str) -> None:
        self.course = dataclasses.replace(self.course, setbacks=(*self.course.setbacks, setback))


class Seat:
    """A generator at its place: takes a part of an image, gives its residual."""

    def __init__(self, generator: Generator, placement: Placement) -> None:
        self.placement = placement
        self.network = generator.to(placement.device)
        if placement.dtype != torch.float32:
            self.network.lower(placement.dtype)
        for module in self.network.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def residual(self, x: Float32, scale: int) -> Float32 | None:
        """float32 [H, W] as the network sees it -> float32 [scale*H, scale*W]; None: there is no room for it.

        Raises DeviceLostError.
        """
        try:
            return self._run(x, scale)
        except RuntimeError as error:
            if not lacks_memory(error):
                if not self.placement.accelerated:
                    raise
                said = str(error).partition("\n")[0][:120]
                raise DeviceLostError(f"The device {self.placement.device} failed: {said}") from error
        if self.placement.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    @torch.inference_mode()
    def _run(self, x: Float32, scale: int) -> Float32:
        tensor = torch.from_numpy(np.ascontiguousarray(x))[None, None].to(self.placement.device)
        residual = self.network(tensor.contiguous(memory_format=torch.channels_last), scale)
        result: Float32 = residual[0, 0].float().cpu().numpy()
        return result


class IdentityModel(Model):
    """For tests: at x1 the very input, at x2 and x4 its bicubic enlargement."""

    def __init__(self, scales: tuple[int, ...] = (1, 2, 4)) -> None:
        self.info = ModelInfo(
            name="identity",
            version="1",
            digest=hashlib.sha256(b"identity 1").hexdigest(),
            scales=scales,
            device="cpu, float32",
            card=None,
        )

    def _enhance(self, lr: Float32, scale: int, progress: Progress) -> Float32:
        sr = enlarged(lr, scale)
        progress(1.0)
        return sr


def load(
    name_or_path: str | Path, device: str = "auto", *, precision: str = "auto", tile: int = TILE
) -> Model:
    """A shipped model by name (`srgan`, `srresnet`) or any of ours by the path of its .safetensors.

    `device` is auto, cpu, cuda or cuda:N. `precision` is auto, where the residual runs in bfloat16 if the
    chip has it, or float32. `tile` bounds the memory. A GPU has to do a small image first: one that cannot is
    left alone where `device` is auto. Raises ModelFileError or DeviceError.
    """
    file, placement = read_model(locate(name_or_path)), place(device, precision)
    if not placement.accelerated:
        return NetworkModel(file, placement, tile=tile)
    spare = dataclasses.replace(file, generator=copy.deepcopy(file.generator))
    try:
        model = NetworkModel(file, placement, tile=tile)
        model.enhance(np.zeros((16, 16), np.float32), file.scales[0])
        if model.course.device == model.info.device:
            return model
        why = "it has no memory left"
    except (RuntimeError, DeviceLostError) as error:
        why = str(error).partition("\n")[0][:120]
    if device != "auto":
        raise DeviceError(f"The device {device} cannot be used: {why}")
    model = NetworkModel(spare, place("cpu", precision), tile=tile)
    model.degraded = f"The device {placement.device} cannot be used, the processor works instead: {why}"
    return model


def _nothing(_: float) -> None:
    return None


def _listed(scales: tuple[int, ...]) -> str:
    return ", ".join(f"x{scale}" for scale in scales)
