"""The networks a worker holds: loaded once, found by name."""

from __future__ import annotations

import re
from typing import Protocol

import structlog

import enhancer
from config import Settings
from enhancer import ModelFileError
from pacs_node.enhancement import Enlarger

_log = structlog.get_logger(__name__)


class NoSuchModel(ModelFileError):
    """Nobody configured it and none of that name is shipped: another attempt would end the same."""


class ModelSource(Protocol):
    """Where a worker finds its networks."""

    def get(self, name: str) -> Enlarger: ...


class Models:
    """Loads what is configured; nobody can make a worker load anything else."""

    def __init__(self, settings: Settings) -> None:
        self._device, self._configured = settings.enhancer.device, settings.enhancer.model
        self._allowed = {settings.enhancer.model, *enhancer.shipped_names()}
        self._allowed |= {rule.model for rule in settings.rules if rule.model}
        self._loaded: dict[str, Enlarger] = {}

    @property
    def names(self) -> list[str]:
        """Models that may be asked for by name, the configured one first; files have none."""
        named = sorted(name for name in self._allowed if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name))
        return sorted(named, key=lambda name: name != self._configured)

    def get(self, name: str) -> Enlarger:
        """The model of that name.

        Raises :class:`NoSuchModel`; ModelFileError or DeviceError of `enhancer` for what cannot be had now.
        """
        if name not in self._loaded:
            if name not in self._allowed:
                raise NoSuchModel(f"There is no model {name[:64]!r} here.")
            model = enhancer.load(name, device=self._device)
            _log.info(
                "model loaded", model=model.info.name, version=model.info.version, device=model.info.device
            )
            if model.degraded:
                _log.error("model degraded", model=model.info.name, why=model.degraded)
            self._loaded[name] = model
        return self._loaded[name]
