"""Models: float images in, enhanced float images out."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from enhancer.backprojection import projected
from enhancer.bound import Bound
from enhancer.device import Placement, place
from enhancer.domain import Domain
from enhancer.errors import ModelInputError, ModelOutputError
from enhancer.modelfile import ModelFile, locate, read_model
from enhancer.normalise import affine_of
from enhancer.resample import enlarged
from enhancer.tiling import plan, with_halo

Float32 = npt.NDArray[np.float32]
Progress = Callable[[float], None]

TILE = 320
"""Side of a tile without its halo, source pixels; it bounds the memory and is no part of the result."""


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


class Model(abc.ABC):
    """Something that enlarges images."""

    info: ModelInfo
    bounds: Mapping[int, Bound] = {}
    """How large its errors may be, for each scale that was measured."""

    def enhance(self, lr: Float32, scale: int, *, progress: Progress | None = None) -> Float32:
        """float32 [H, W] in [0, 1] -> float32 [scale*H, scale*W]; nothing is clipped.

        Values outside [0, 1] are taken as they are: the result follows any affine change of the input.
        `progress` is called with the share done, above 0 and up to 1, after each part of the image.
        Raises ModelInputError for an image or scale that the model does not take, ModelOutputError when the
        network's result is not finite.
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
        sr = self._enhance(lr, scale, progress or _nothing)
        if not np.isfinite(sr).all():
            raise ModelOutputError(f"The model {self.info.name} returned values that are not finite numbers.")
        return sr

    @abc.abstractmethod
    def _enhance(self, lr: Float32, scale: int, progress: Progress) -> Float32: ...


class NetworkModel(Model):
    """A generator with its weights on a device."""

    def __init__(self, file: ModelFile, placement: Placement, *, tile: int = TILE) -> None:
        self._placement = placement
        self._tile = tile
        self._halo = file.generator.halo
        self._network = file.generator.to(placement.device)
        if placement.dtype != torch.float32:
            self._network.lower(placement.dtype)
        for module in self._network.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
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
        height, width = lr.shape
        affine = affine_of(lr)
        x = affine.forward(lr)
        sr = enlarged(lr, scale)
        tiles = plan(height, width, self._tile)
        for index, tile in enumerate(tiles, start=1):
            seen = with_halo(tile, self._halo, height, width)
            residual = self._residual(x[seen.top : seen.bottom, seen.left : seen.right], scale)
            inner = residual[
                (tile.top - seen.top) * scale : (tile.bottom - seen.top) * scale,
                (tile.left - seen.left) * scale : (tile.right - seen.left) * scale,
            ]
            sr[tile.top * scale : tile.bottom * scale, tile.left * scale : tile.right * scale] += (
                inner * np.float32(affine.gain)
            )
            progress(index / len(tiles))
        return projected(sr, lr, scale)

    @torch.inference_mode()
    def _residual(self, x: Float32, scale: int) -> Float32:
        tensor = torch.from_numpy(np.ascontiguousarray(x))[None, None].to(self._placement.device)
        residual = self._network(tensor.contiguous(memory_format=torch.channels_last), scale)
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
    chip has it, or float32. `tile` bounds the memory. Raises ModelFileError or DeviceError.
    """
    return NetworkModel(read_model(locate(name_or_path)), place(device, precision), tile=tile)


def _nothing(_: float) -> None:
    return None


def _listed(scales: tuple[int, ...]) -> str:
    return ", ".join(f"x{scale}" for scale in scales)
