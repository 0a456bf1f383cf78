"""A device in trouble, without one: the processor, taken for a device that fails as a test wants."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from enhancer.device import Placement
from enhancer.model import NetworkModel
from enhancer.modelfile import read_model
from enhancer.networks.generator import Generator


class Accelerator(Placement):
    """The processor under another name: PyTorch has a device for it that computes as it does."""

    @property
    def accelerated(self) -> bool:
        return True

    @property
    def label(self) -> str:
        return "cuda:0, float32"


Trouble = Callable[[torch.Tensor], None]
"""Sees the part of the image that the network is given, and raises what the device would."""


@contextlib.contextmanager
def troubled(model: NetworkModel, trouble: Trouble) -> Iterator[list[int]]:
    """The generator at its place meets `trouble` at each part; its spare on the processor never does.

    Gives the pixels of each part that was tried there, halo and all.
    """
    tried: list[int] = []
    network = model._seat.network

    def before(_: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        tried.append(arguments[0].numel())
        trouble(arguments[0])

    handle = network.register_forward_pre_hook(before)
    try:
        yield tried
    finally:
        handle.remove()


def room_for(pixels: int) -> Trouble:
    """A device with memory for parts of so many pixels."""

    def trouble(x: torch.Tensor) -> None:
        if x.numel() > pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return trouble


def on_accelerator(path: Path, tile: int = 320) -> NetworkModel:
    """The model of a file on the stand-in, in float32."""
    return NetworkModel(read_model(path), Accelerator(torch.device("cpu"), torch.float32), tile=tile)


def constant(value: float) -> Any:
    """A generator that answers with one value, whatever it sees."""

    class Constant(Generator):
        def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
            return torch.full((1, 1, x.shape[-2] * scale, x.shape[-1] * scale), value)

    return Constant(4, 1)


def broken(path: Path, generator: Generator) -> NetworkModel:
    """The model of a file with another network inside."""
    file = dataclasses.replace(read_model(path), generator=generator)
    return NetworkModel(file, Placement(torch.device("cpu"), torch.float32))
