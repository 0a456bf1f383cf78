"""What the network meets on its device: too little memory, a failure, values that are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import enhancer
from enhancer import plausible
from enhancer.consistency import consistency
from enhancer.device import Placement, lacks_memory
from enhancer.model import NetworkModel
from enhancer.modelfile import read_model
from enhancer.resample import enlarged
from tests.enhancer.troubled import Accelerator, broken, constant, on_accelerator, room_for, troubled


@pytest.mark.parametrize("room", [140 * 140, 110 * 110, 90 * 90])
def test_what_finds_no_room_is_cut_smaller_and_the_result_is_the_same(small_model_file, radiograph, room):
    image = np.tile(radiograph, (2, 2))
    whole = on_accelerator(small_model_file, tile=1000).enhance(image, 4)
    model = on_accelerator(small_model_file, tile=1000)
    with troubled(model, room_for(room)) as tried:
        cut = model.enhance(image, 4)
    assert len(tried) > 2
    assert np.abs(cut - enlarged(image, 4)).max() > 1e-3, "the network must have a say"
    assert np.abs(cut - whole).max() < 2e-6
    assert model.course.device == "cuda:0, float32"
    assert "Too little memory on" in model.course.setbacks[0]
    model.enhance(radiograph, 4)
    assert model.course.setbacks == (), "the next image is tried whole again"


def test_where_there_is_no_room_at_all_the_processor_does_it(small_model_file, radiograph):
    expected = enhancer.load(small_model_file, "cpu", precision="float32").enhance(radiograph, 4)
    model = on_accelerator(small_model_file)
    with troubled(model, room_for(0)):
        assert np.abs(model.enhance(radiograph, 4) - expected).max() < 2e-6
    assert model.course.device == "cpu, float32"
    assert "the processor did the whole image" in model.course.setbacks[-1]
    assert np.abs(model.enhance(radiograph, 4) - expected).max() < 2e-6
    assert model.course == enhancer.Course("cuda:0, float32"), "the device is tried again with the next"


def test_a_processor_without_memory_cuts_smaller_too_and_says_in_the_end_that_it_has_none(
    small_model_file, radiograph
):
    placement = Placement(torch.device("cpu"), torch.float32)
    model = NetworkModel(read_model(small_model_file), placement)

    def trouble(x: torch.Tensor) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    with troubled(model, trouble) as tried, pytest.raises(enhancer.DeviceMemoryError, match="on cpu"):
        model.enhance(radiograph, 2)
    assert len(tried) > 1


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUDA error: unspecified launch failure"),
    ],
)
def test_a_device_that_fails_is_lost_and_nothing_more_is_asked_of_it(small_model_file, radiograph, error):
    model = on_accelerator(small_model_file, tile=20)

    def trouble(x: torch.Tensor) -> None:
        raise error

    with troubled(model, trouble) as tried, pytest.raises(enhancer.DeviceLostError) as lost:
        model.enhance(radiograph, 2)
    assert len(tried) == 1
    assert str(error).partition("\n")[0] in str(lost.value)
    assert "Compile" not in str(lost.value)


def test_what_is_wrong_in_our_own_program_is_no_lost_device(small_model_file, radiograph):
    model = enhancer.load(small_model_file, "cpu")

    def trouble(x: torch.Tensor) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    assert isinstance(model, NetworkModel)
    with troubled(model, trouble), pytest.raises(RuntimeError, match="mat1"):
        model.enhance(radiograph, 2)


def test_words_of_pytorch_for_want_of_memory_are_known():
    assert lacks_memory(torch.OutOfMemoryError("x"))
    assert lacks_memory(RuntimeError("CUDA error: out of memory"))
    assert lacks_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"))
    assert not lacks_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


@pytest.mark.parametrize(("device", "falls_back"), [("auto", True), ("cuda", False)])
def test_a_device_that_fails_at_the_first_try_is_left_alone_only_where_any_will_do(
    small_model_file, radiograph, monkeypatch, device, falls_back
):
    accelerator = Accelerator(torch.device("cpu"), torch.float32)
    own = Placement(torch.device("cpu"), torch.float32)
    monkeypatch.setattr(enhancer.model, "place", lambda name, _: own if name == "cpu" else accelerator)
    seat = enhancer.model.Seat.residual

    def residual(self, x, scale):
        if self.placement.accelerated:
            raise enhancer.DeviceLostError("The device cuda:0 failed: CUDA error: no kernel image")
        return seat(self, x, scale)

    monkeypatch.setattr(enhancer.model.Seat, "residual", residual)
    if not falls_back:
        with pytest.raises(enhancer.DeviceError, match="no kernel image"):
            enhancer.load(small_model_file, device)
        return
    model = enhancer.load(small_model_file, device)
    assert model.info.device == "cpu, float32"
    assert "the processor works instead" in model.degraded
    assert model.enhance(radiograph, 2).shape == (122, 166)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("clipped", [False, True])
def test_values_that_are_no_numbers_never_leave_the_model(small_model_file, radiograph, value, clipped):
    """A clipped source's result is held within its plateaus: that must not turn infinity into a number."""
    image = np.clip(radiograph, 0.3, 0.6) if clipped else radiograph
    model = broken(small_model_file, constant(value))
    with pytest.raises(enhancer.ModelOutputError, match="not finite"):
        model.enhance(image, 2)


def test_what_a_working_model_gives_is_a_picture_of_its_source(radiograph):
    model = enhancer.load("srgan", "cpu")
    for image in (radiograph * 100 - 7, np.full((30, 30), 0.4, np.float32)):
        sr = model.enhance(image.astype(np.float32), 2)
        plausible.check(sr, image.astype(np.float32), consistency(sr, image, 2), "srgan")


@pytest.mark.parametrize(
    ("nonsense", "why"),
    [
        (lambda sr: np.full_like(sr, sr.mean()), "is not its source"),
        (np.zeros_like, "is not its source"),
        (lambda sr: sr[::-1, ::-1].copy(), "is not its source"),
        (lambda sr: sr.max() - sr, "is not its source"),
        (lambda sr: sr + 4 * sr.std() * _checkers(sr), "scatter"),
        (lambda sr: sr + 20 * np.ptp(sr) * _dot(sr), "far beyond"),
    ],
)
@pytest.mark.parametrize("gain", [1.0, 3000.0])
def test_what_is_no_picture_of_its_source_is_refused_whatever_its_unit(radiograph, nonsense, why, gain):
    lr = (radiograph * gain).astype(np.float32)
    sr = nonsense(enlarged(lr, 2)).astype(np.float32)
    with pytest.raises(enhancer.ModelOutputError, match=why):
        plausible.check(sr, lr, consistency(sr, lr, 2), "broken")


def _checkers(sr):
    rows, columns = np.indices(sr.shape)
    return np.where((rows + columns) % 2, 1.0, -1.0)


def _dot(sr):
    dot = np.zeros_like(sr)
    dot[10:12, 10:12] = [[0.2, -0.2], [-0.2, 0.2]]
    return dot
