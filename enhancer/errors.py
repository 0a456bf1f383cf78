"""Errors of the enhancer, typed by what the caller should do; each carries a sentence for its reader."""

from __future__ import annotations


class EnhancerError(Exception):
    """Base of every error that this room raises on purpose."""


class ModelFileError(EnhancerError):
    """The model file is missing, damaged, or not one of ours: choose another model."""


class ModelInputError(EnhancerError):
    """The image or the scale is not one that the model takes: refuse the input."""


class ModelOutputError(EnhancerError):
    """The network returned no picture of its source (values that are no numbers, or none that fit): never
    use them; if another attempt ends the same, tell an administrator."""


class DeviceError(EnhancerError):
    """The device that was asked for is not there: tell an administrator."""


class DeviceMemoryError(EnhancerError):
    """Not even the smallest part of the image found room in memory: try again later, or elsewhere."""


class DeviceLostError(EnhancerError):
    """The device failed in the middle of its work. What this process asks of it from now on may fail or lie:
    end the process and try again in a new one."""


class DataError(EnhancerError):
    """A folder of training or evaluation images is missing, empty or unreadable."""


class RecipeError(EnhancerError):
    """A training configuration is wrong: the sentence names the file and the key."""


class TrainingError(EnhancerError):
    """Training cannot start or go on: the sentence says why."""
