"""Model files: safetensors with our metadata, read without running anything, known by their SHA-256."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from enhancer.bound import Bound, read_bounds
from enhancer.domain import Domain
from enhancer.errors import ModelFileError
from enhancer.networks.generator import Generator

SHIPPED = Path(__file__).parent / "weights"
DIGESTS = SHIPPED / "digests.json"
LIMIT = 64 * 2**20
"""Largest model file that is read, bytes."""


@dataclass(frozen=True)
class ModelFile:
    """A model file's identity and content."""

    path: Path
    digest: str
    """SHA-256 of the file, hexadecimal."""
    name: str
    version: str
    scales: tuple[int, ...]
    metadata: dict[str, str]
    domain: Domain
    bounds: dict[int, Bound]
    """The error bound of each scale that has one."""
    generator: Generator

    @property
    def card(self) -> Path | None:
        """The model card beside the file, if there is one."""
        card = self.path.with_suffix(".md")
        return card if card.is_file() else None


def shipped_names() -> list[str]:
    """Names of the models that come with the package, sorted."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def locate(name_or_path: str | Path) -> Path:
    """The file of a shipped model's name, or the path itself; ModelFileError when there is neither."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".safetensors") or "/" in text:
        path = Path(name_or_path)
        if not path.is_file():
            raise ModelFileError(f"There is no model file at {path}.")
        return path
    if text not in shipped_names():
        names = ", ".join(shipped_names()) or "none"
        raise ModelFileError(
            f"There is no model named {text!r}; shipped are: {names}. A path ends in .safetensors."
        )
    return SHIPPED / f"{text}.safetensors"


@dataclass(frozen=True)
class Label:
    """What a model file says of itself: all but its weights."""

    digest: str
    name: str
    version: str
    scales: tuple[int, ...]
    domain: Domain
    card: str | None
    """The text of the model card beside the file, if there is one that can be read."""


def read_label(path: Path) -> Label:
    """Reads a model file's label without making a network of it; ModelFileError as :func:`read_model`."""
    _, digest, metadata = _opened(path)
    try:
        scales = tuple(int(scale) for scale in metadata["scales"].split(","))
        name, version = metadata["name"], metadata["version"]
    except (KeyError, ValueError) as error:
        raise ModelFileError(f"{path} does not say which model it is.") from error
    try:
        card = path.with_suffix(".md").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        card = None
    return Label(digest, name, version, scales, _domain(metadata), card)


def read_model(path: Path) -> ModelFile:
    """Reads and checks a model file; a shipped one must have the digest that was committed with it."""
    content, digest, metadata = _opened(path)
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is not a whole safetensors file: {error}") from error
    generator, scales = _generator(metadata, path)
    try:
        generator.load_state_dict({key: value.float() for key, value in tensors.items()})
    except (RuntimeError, AttributeError) as error:
        raise ModelFileError(f"{path} does not hold the weights that its header announces.") from error
    if not all(bool(torch.isfinite(value).all()) for value in generator.state_dict().values()):
        raise ModelFileError(f"{path} holds weights that are not numbers.")
    return ModelFile(
        path=path,
        digest=digest,
        name=metadata["name"],
        version=metadata["version"],
        scales=scales,
        metadata=metadata,
        domain=_domain(metadata),
        bounds=read_bounds(metadata["bounds"]) if "bounds" in metadata else {},
        generator=generator.eval().requires_grad_(False),
    )


def _opened(path: Path) -> tuple[bytes, str, dict[str, str]]:
    """Content, SHA-256 and metadata of a model file."""
    try:
        if path.stat().st_size > LIMIT:
            raise ModelFileError(f"{path} is larger than {LIMIT // 2**20} MiB: not one of our model files.")
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}.") from error
    digest = hashlib.sha256(content).hexdigest()
    if path.parent.resolve() == SHIPPED.resolve():
        expected = committed_digests().get(path.stem)
        if digest != expected:
            raise ModelFileError(f"{path.name} is not the file that was shipped (its SHA-256 differs).")
    return content, digest, _metadata(content, path)


def _domain(metadata: dict[str, str]) -> Domain:
    return Domain.from_json(metadata["domain"]) if "domain" in metadata else Domain()


def write_model(
    path: Path, generator: Generator, *, name: str, version: str, channels: int, blocks: int, **more: str
) -> str:
    """Writes a generator's weights as float16 with our metadata; returns the file's SHA-256."""
    tensors = {
        key: value.detach().to("cpu", torch.float16).contiguous()
        for key, value in generator.state_dict().items()
    }
    metadata = {
        "architecture": Generator.architecture,
        "name": name,
        "version": version,
        "scales": ",".join(str(scale) for scale in generator.scales),
        "channels": str(channels),
        "blocks": str(blocks),
        **more,
    }
    content = safetensors.torch.save(tensors, metadata)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def write_digest(table: Path, name: str, content: bytes) -> str:
    """Notes a model file's SHA-256 in the table beside it, and returns it."""
    digests = json.loads(table.read_text(encoding="ascii")) if table.is_file() else {}
    digests[name] = hashlib.sha256(content).hexdigest()
    table.write_text(json.dumps(digests, indent=2, sort_keys=True) + "\n", encoding="ascii")
    return str(digests[name])


def committed_digests() -> dict[str, str]:
    """The SHA-256 of each shipped model, by name."""
    try:
        digests: dict[str, str] = json.loads(DIGESTS.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"{DIGESTS.name}, the table of the shipped models' digests, is missing."
        ) from error
    return digests


def _metadata(content: bytes, path: Path) -> dict[str, str]:
    wrong = ModelFileError(f"{path} is not a model file of ours (no safetensors header with our metadata).")
    if len(content) < 8:
        raise wrong
    (length,) = struct.unpack("<Q", content[:8])
    if length > len(content) - 8:
        raise wrong
    try:
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    except (ValueError, KeyError, TypeError) as error:
        raise wrong from error
    needed = {"architecture", "name", "version", "scales", "channels", "blocks"}
    if not isinstance(metadata, dict) or not needed <= metadata.keys():
        raise wrong
    return {str(key): str(value) for key, value in metadata.items()}


def _generator(metadata: dict[str, str], path: Path) -> tuple[Generator, tuple[int, ...]]:
    if metadata["architecture"] != Generator.architecture:
        raise ModelFileError(
            f"{path} holds the architecture {metadata['architecture']!r}, which is unknown here."
        )
    try:
        channels, blocks = int(metadata["channels"]), int(metadata["blocks"])
        scales = tuple(int(scale) for scale in metadata["scales"].split(","))
    except ValueError as error:
        raise ModelFileError(f"{path}: its header holds a size that is no number.") from error
    if not (4 <= channels <= 512 and 1 <= blocks <= 128 and set(scales) <= {2, 4}):
        raise ModelFileError(f"{path}: its header announces a network of an impossible size.")
    return Generator(channels, blocks, scales), scales
