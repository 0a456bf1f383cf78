"""Errors of the enhancer, typed by what the caller should do; each carries a sentence for its reader."""

from __future__ import annotations


class EnhancerError(Exception):
    """Base of every error that this room raises on purpose."""


class ModelFileError(EnhancerError):
    """The model file is missing, damaged, or not one of ours: choose another model."""


class ModelInputError(EnhancerError):
    """The image or the scale is not one that the model takes: refuse the input."""


class ModelOutputError(EnhancerError):
    """The network returned values that are not numbers: give up on this image and tell an administrator."""


class DeviceError(EnhancerError):
    """The device that was asked for is not there: tell an administrator."""


class DataError(EnhancerError):
    """A folder of training or evaluation images is missing, empty or unreadable."""


class RecipeError(EnhancerError):
    """A training configuration is wrong: the sentence names the file and the key."""


class TrainingError(EnhancerError):
    """Training cannot start or go on: the sentence says why."""
