from __future__ import annotations

import json
import struct
from importlib.resources import files

import numpy as np
import pydicom
import pytest
import safetensors.torch
import torch

import enhancer
from enhancer import modelfile
from enhancer.device import cpu_has_bfloat16, place
from enhancer.networks.generator import enlarge, reduce
from enhancer.normalise import affine_of
from enhancer.resample import enlarged, reduced


@pytest.mark.parametrize("scale", [2, 4])
def test_a_result_has_scale_times_the_size_and_is_float32(small_model_file, radiograph, scale):
    sr = enhancer.load(small_model_file, "cpu").enhance(radiograph, scale)
    assert sr.shape == (61 * scale, 83 * scale)
    assert sr.dtype == np.float32


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("tile", [16, 23, 40])
def test_the_result_does_not_depend_on_the_tiling(small_model_file, radiograph, scale, tile):
    whole = enhancer.load(small_model_file, "cpu", precision="float32", tile=1000).enhance(radiograph, scale)
    tiled = enhancer.load(small_model_file, "cpu", precision="float32", tile=tile).enhance(radiograph, scale)
    assert np.abs(whole - enlarged(radiograph, scale)).max() > 1e-3, "the network must have a say"
    assert np.abs(tiled - whole).max() < 2e-6


def test_the_shipped_models_result_does_not_depend_on_the_tiling(radiograph):
    whole, tiled = (
        enhancer.load("srresnet", "cpu", precision="float32", tile=tile).enhance(radiograph, 4)
        for tile in (100, 31)
    )
    assert np.abs(tiled - whole).max() < 5e-6


@pytest.mark.parametrize(("gain", "offset"), [(0.01, 0.4), (17.0, -3.0), (-1.0, 1.0), (-0.2, 0.7)])
def test_the_result_follows_any_affine_change_of_the_input(small_model_file, radiograph, gain, offset):
    model = enhancer.load(small_model_file, "cpu", precision="float32")
    changed = (radiograph * np.float32(gain) + np.float32(offset)).astype(np.float32)
    expected = model.enhance(radiograph, 4) * gain + offset
    assert np.abs(model.enhance(changed, 4) - expected).max() < 1e-3 * abs(gain)


def test_an_inverted_radiograph_gives_the_inverted_result_of_the_shipped_model(radiograph):
    image = radiograph[:32, :32]
    for precision, limit in (("float32", 1e-5), ("auto", 5e-3)):
        model = enhancer.load("srgan", "cpu", precision=precision)
        assert np.abs(model.enhance(1 - image, 4) - (1 - model.enhance(image, 4))).max() < limit


def test_half_precision_carries_only_the_residual(small_model_file, radiograph):
    exact = enhancer.load(small_model_file, "cpu", precision="float32").enhance(radiograph, 4)
    network = enhancer.load(small_model_file, "cpu")
    network._seat.network.lower(torch.bfloat16)  # type: ignore[attr-defined]
    half = network.enhance(radiograph, 4)
    residual = np.abs(exact - enlarged(radiograph, 4)).max()
    assert 0 < np.abs(half - exact).max() < 0.05 * residual


def test_a_flat_image_stays_nearly_flat(small_model_file):
    sr = enhancer.load("srresnet", "cpu").enhance(np.full((20, 20), 0.3, np.float32), 4)
    assert np.ptp(sr) < 0.05
    assert np.isfinite(sr).all()


def test_a_single_row_of_pixels_is_enlarged(small_model_file):
    line = np.linspace(0, 1, 30, dtype=np.float32)[None]
    assert enhancer.load(small_model_file, "cpu").enhance(line, 2).shape == (2, 60)


def test_progress_rises_to_one(small_model_file, radiograph):
    seen: list[float] = []
    enhancer.load(small_model_file, "cpu", tile=32).enhance(radiograph, 2, progress=seen.append)
    assert len(seen) == 6
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 3), np.float32), np.zeros((0, 4), np.float32), np.full((4, 4), np.nan, np.float32)],
)
def test_an_image_that_is_none_is_refused(image):
    with pytest.raises(enhancer.ModelInputError):
        enhancer.IdentityModel().enhance(image, 2)


def test_an_unknown_scale_is_refused(small_model_file, radiograph):
    with pytest.raises(enhancer.ModelInputError, match="x2, x4, not x3"):
        enhancer.load(small_model_file, "cpu").enhance(radiograph, 3)


def test_a_result_that_is_not_finite_is_an_error(small_model_file, radiograph):
    model = enhancer.load(small_model_file, "cpu")
    model._seat.network.neck.weight.fill_(float("inf"))  # type: ignore[attr-defined]
    with pytest.raises(enhancer.ModelOutputError):
        model.enhance(radiograph, 2)


def test_the_identity_model_returns_its_input_bit_for_bit(radiograph):
    sr = enhancer.IdentityModel().enhance(radiograph, 1)
    assert np.array_equal(sr, radiograph)
    assert sr is not radiograph


def test_info_says_what_a_record_needs(small_model_file):
    info = enhancer.load(small_model_file, "cpu", precision="float32").info
    assert (info.name, info.version, info.scales, info.device) == ("small", "0", (2, 4), "cpu, float32")
    assert len(info.digest) == 64
    assert info.card is None


@pytest.mark.parametrize("name", ["srgan", "srresnet"])
def test_a_shipped_model_loads_by_name_with_its_card(name):
    info = enhancer.load(name, "cpu").info
    assert info.name == name
    assert info.scales == (2, 4)
    assert info.card is not None
    assert (modelfile.SHIPPED / f"{name}.safetensors").stat().st_size < 16 * 2**20
    assert modelfile.committed_digests()[name] == info.digest


def _broken_files(good: bytes):
    (length,) = struct.unpack("<Q", good[:8])
    header = json.loads(good[8 : 8 + length])
    foreign = safetensors.torch.save({"a": torch.zeros(2)})
    other = dict(header["__metadata__"], architecture="unheard-of")
    lying = dict(header["__metadata__"], channels="32")
    huge = dict(header["__metadata__"], channels="100000")
    tensors = safetensors.torch.load(good)
    not_numbers = dict(tensors, **{"neck.bias": torch.full((16,), float("nan"))})
    return {
        "empty": b"",
        "text": b"this is no model at all, only a line of text",
        "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94.",
        "cut": good[: len(good) // 2],
        "foreign": foreign,
        "other architecture": safetensors.torch.save(tensors, other),
        "other size": safetensors.torch.save(tensors, lying),
        "impossible size": safetensors.torch.save(tensors, huge),
        "not a number": safetensors.torch.save(not_numbers, header["__metadata__"]),
    }


@pytest.mark.parametrize(
    "case",
    [
        "empty",
        "text",
        "pickle",
        "cut",
        "foreign",
        "other architecture",
        "other size",
        "impossible size",
        "not a number",
    ],
)
def test_a_file_that_is_no_model_of_ours_is_refused_with_a_sentence(small_model_file, tmp_path, case):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(_broken_files(small_model_file.read_bytes())[case])
    with pytest.raises(enhancer.ModelFileError, match=r"broken\.safetensors"):
        enhancer.load(path, "cpu")


def test_a_shipped_file_that_was_changed_is_refused(tmp_path, monkeypatch, small_model_file):
    monkeypatch.setattr(modelfile, "SHIPPED", tmp_path)
    monkeypatch.setattr(modelfile, "DIGESTS", tmp_path / "digests.json")
    (tmp_path / "digests.json").write_text(json.dumps({"small": "0" * 64}))
    with pytest.raises(enhancer.ModelFileError, match="SHA-256"):
        enhancer.load("small", "cpu")


def test_an_unknown_name_lists_what_is_shipped():
    with pytest.raises(enhancer.ModelFileError, match="srgan, srresnet"):
        enhancer.load("nothing-of-the-kind")


def test_a_missing_gpu_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(enhancer.DeviceError, match="no usable NVIDIA GPU"):
        place("cuda")
    with pytest.raises(enhancer.DeviceError, match="auto, cpu or cuda"):
        place("tpu")
    assert place("auto").device.type == "cpu"


def test_half_precision_is_chosen_only_where_the_processor_has_it(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags : fpu avx512f avx512_bf16 sse\n")
    assert cpu_has_bfloat16(cpuinfo)
    cpuinfo.write_text("processor : 0\nflags : fpu avx2 sse\n")
    assert not cpu_has_bfloat16(cpuinfo)
    assert not cpu_has_bfloat16(tmp_path / "missing")
    assert place("cpu", "float32").dtype == torch.float32


def test_in_float32_the_shipped_model_agrees_with_float64_to_half_a_step_of_sixteen_bits(radiograph):
    image = radiograph[10:34, 30:54]
    generator = modelfile.read_model(modelfile.locate("srresnet")).generator.double()
    affine = affine_of(image)
    exact = torch.from_numpy(image).double()[None, None]
    with torch.inference_mode():
        expected = enlarge(exact, 4) + generator((exact - affine.offset) / affine.gain, 4) * affine.gain
        expected += enlarge(exact - reduce(expected, 4), 4)
    found = enhancer.load("srresnet", "cpu", precision="float32").enhance(image, 4)
    assert np.abs(found - expected[0, 0].numpy()).max() < 0.5 / 65535


@pytest.mark.parametrize("scale", [2, 4])
def test_a_result_gives_its_source_back(scale):
    sample = pydicom.dcmread(str(files("cxr_sr") / "samples" / "chest_pa_nih_256.dcm"))
    source = reduced(sample.pixel_array.astype(np.float32) / (2**sample.BitsStored - 1), 2)
    sr = enhancer.load("srgan", "cpu").enhance(source, scale)
    left = np.abs(reduced(sr, scale) - source).mean()
    bicubic = np.abs(reduced(enlarged(source, scale), scale) - source).mean()
    assert left < 0.25 * bicubic
