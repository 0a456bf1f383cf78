"""The enhancer: images as float arrays in, enhanced images as float arrays out.

    model = enhancer.load("srgan", device="auto")
    sr = model.enhance(lr, scale=4)

It knows nothing of DICOM, HTTP or the database, and needs numpy, torch, pillow, safetensors, tqdm and
scikit-image alone.
"""

from __future__ import annotations

from enhancer.consistency import Consistency
from enhancer.domain import Domain
from enhancer.errors import (
    DataError,
    DeviceError,
    DeviceLostError,
    DeviceMemoryError,
    EnhancerError,
    ModelFileError,
    ModelInputError,
    ModelOutputError,
    RecipeError,
    TrainingError,
)
from enhancer.model import Course, IdentityModel, Model, ModelInfo, load
from enhancer.modelfile import shipped_names

__all__ = [
    "Consistency",
    "Course",
    "DataError",
    "DeviceError",
    "DeviceLostError",
    "DeviceMemoryError",
    "Domain",
    "EnhancerError",
    "IdentityModel",
    "Model",
    "ModelFileError",
    "ModelInfo",
    "ModelInputError",
    "ModelOutputError",
    "RecipeError",
    "TrainingError",
    "load",
    "shipped_names",
]
