"""Where a network runs and in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from enhancer.errors import DeviceError

CPUINFO = Path("/proc/cpuinfo")
_MEMORY = ("out of memory", "alloc_failed", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Placement:
    """A device and the precision of the residual; base and sum are float32 everywhere."""

    device: torch.device
    dtype: torch.dtype

    @property
    def accelerated(self) -> bool:
        """Whether it is a device beside the processor, which may run out of memory of its own, or fail."""
        return self.device.type != "cpu"

    @property
    def label(self) -> str:
        """For people and records, e.g. `cpu, bfloat16`."""
        return f"{self.device}, {str(self.dtype).removeprefix('torch.')}"


def place(device: str = "auto", precision: str = "auto") -> Placement:
    """`device` is auto, cpu, cuda or cuda:N; `precision` auto (bfloat16 where the chip has it) or float32."""
    if precision not in ("auto", "float32"):
        raise DeviceError(f"The precision is auto or float32, not {precision!r}.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise DeviceError(f"The device is auto, cpu or cuda, not {device!r}.")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError("The device cuda was asked for, but this machine has no usable NVIDIA GPU.")
        if index and int(index) >= torch.cuda.device_count():
            raise DeviceError(
                f"The device {device} was asked for, but there are {torch.cuda.device_count()} GPUs."
            )
        has_bfloat16 = torch.cuda.get_device_capability(torch.device(device))[0] >= 8
    else:
        device = "cpu"
        has_bfloat16 = cpu_has_bfloat16()
    half = precision == "auto" and has_bfloat16
    return Placement(torch.device(device), torch.bfloat16 if half else torch.float32)


def lacks_memory(error: RuntimeError) -> bool:
    """Whether that is what PyTorch complains of; of the processor's memory it does so in words alone."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(words in text for words in _MEMORY)


def cpu_has_bfloat16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX-512 BF16 or AMX); elsewhere it is only slow."""
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags.split())
