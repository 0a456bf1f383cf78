"""Grey written in colour is worked with as one channel, exactly; what is coloured is skipped and says why."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from db.states import JobState
from pacs_node import codecs, decode, preview
from pacs_node.errors import Outcome, Reason, Refused
from tests import dicom_variants as variants
from tests.derived_checks import check_derived, errors, new_errors
from tests.pacs_node.clinic import open_clinic
from tests.pacs_node.test_derive import derived_from, through_files

NATIVE = codecs.EXPLICIT_VR_LITTLE_ENDIAN


def grey() -> np.ndarray:
    return variants.chest_values(8, 48, 64)


def tinted() -> np.ndarray:
    return np.stack([grey(), grey(), grey() // 2], axis=2)


def doubled(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize(
    "syntax",
    [
        codecs.EXPLICIT_VR_LITTLE_ENDIAN,
        codecs.IMPLICIT_VR_LITTLE_ENDIAN,
        codecs.EXPLICIT_VR_BIG_ENDIAN,
        codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ],
)
def test_grey_in_three_equal_channels_comes_out_exactly(syntax, bits, planar):
    values = variants.chest_values(bits, 48, 64)
    ds = variants.encoded(variants.in_colour(doubled(values), bits=bits, planar=planar), syntax)

    image = decode.decode(ds, syntax)

    np.testing.assert_array_equal(image.values, values)
    fmt = image.format
    assert (fmt.photometric, fmt.bits_stored, fmt.signed) == ("MONOCHROME2", bits, False)


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422"])
def test_the_luminance_of_uncompressed_chrominance_is_the_grey(photometric):
    colours = np.full((48, 64, 3), 128, "u1")
    colours[..., 0] = grey()

    image = decode.decode(variants.in_colour(colours, photometric), NATIVE)

    np.testing.assert_array_equal(image.values, grey())


@pytest.mark.parametrize(
    ("syntax", "photometric", "stream", "off"),
    [
        (codecs.JPEG_BASELINE, "YBR_FULL_422", lambda c: imagecodecs.jpeg8_encode(c, level=98), 8),
        (codecs.JPEG_BASELINE, "RGB", lambda c: imagecodecs.jpeg8_encode(c, level=98), 8),  # wrongly said
        (
            codecs.JPEG_BASELINE, "RGB",
            lambda c: imagecodecs.jpeg8_encode(c, level=98, colorspace="RGB", outcolorspace="RGB"), 8,
        ),
        (codecs.JPEG_LS_LOSSLESS, "RGB", imagecodecs.jpegls_encode, 0),
        (
            codecs.JPEG_2000_LOSSLESS, "YBR_RCT",
            lambda c: imagecodecs.jpeg2k_encode(c, codecformat="J2K", reversible=True, level=0), 0,
        ),
        (codecs.HTJ2K_LOSSLESS, "YBR_RCT", imagecodecs.htj2k_encode, 0),
    ],
)  # fmt: skip
def test_grey_in_compressed_colour_is_found_whatever_its_channels_are_called(
    syntax, photometric, stream, off
):
    ds = variants.in_colour(doubled(grey()), photometric)
    ds.PixelData = encapsulate([bytes(stream(doubled(grey())))])
    ds.file_meta.TransferSyntaxUID = UID(syntax)

    image = decode.decode(ds, syntax)

    assert np.abs(image.values.astype(int) - grey()).max() <= off


def test_grey_in_run_lengths_of_three_planes_is_found():
    ds = variants.in_colour(doubled(grey()))
    ds.compress(UID(codecs.RLE_LOSSLESS), generate_instance_uid=False)

    np.testing.assert_array_equal(decode.decode(ds, codecs.RLE_LOSSLESS).values, grey())


def test_channels_that_differ_by_rounding_are_grey_as_their_luminance():
    colours = doubled(grey()).astype(int)
    colours[..., 0] += 3
    colours = np.clip(colours, 0, 255).astype("u1")

    values = decode.decode(variants.in_colour(colours), NATIVE).values

    assert np.abs(values.astype(int) - grey()).max() <= 1


@pytest.mark.parametrize("entry_bits", [8, 16])
@pytest.mark.parametrize("syntax", [NATIVE, codecs.EXPLICIT_VR_BIG_ENDIAN, codecs.IMPLICIT_VR_LITTLE_ENDIAN])
def test_a_grey_palette_gives_its_levels(syntax, entry_bits):
    levels = np.linspace(255, 0, 256).astype("u1")  # a palette may turn the contrast round
    ds = variants.with_palette(grey(), levels, levels, levels, entry_bits=entry_bits)

    image = decode.decode(variants.encoded(ds, syntax), syntax)

    np.testing.assert_array_equal(image.values, levels[grey()])
    assert (image.format.bits_allocated, image.format.photometric) == (8, "MONOCHROME2")


def test_a_palette_of_sixteen_bits_that_uses_them_keeps_them():
    levels = (np.arange(256) ** 2).astype("u2")
    ds = variants.with_palette(grey(), levels, levels, levels, entry_bits=16)

    image = decode.decode(ds, NATIVE)

    np.testing.assert_array_equal(image.values, levels[grey()])
    assert image.format.bits_stored == 16


def coloured_palette() -> Dataset:
    ramp = np.arange(256, dtype="u1")
    return variants.with_palette(grey(), ramp, ramp, ramp[::-1], entry_bits=8)


@pytest.mark.parametrize("make", [lambda: variants.in_colour(tinted()), coloured_palette])
def test_real_colour_is_skipped_with_the_reason(make):
    with pytest.raises(Refused, match="in colour") as refused:
        decode.decode(make(), NATIVE)

    assert refused.value.refusal.reason is Reason.COLOUR
    assert refused.value.refusal.outcome is Outcome.SKIP


def test_a_palette_with_colours_that_no_pixel_uses_is_grey():
    ramp = np.arange(256, dtype="u1")
    red = ramp.copy()
    red[200:] = 255
    values = np.minimum(grey(), 199)

    image = decode.decode(variants.with_palette(values, red, ramp, ramp, entry_bits=8), NATIVE)

    np.testing.assert_array_equal(image.values, values)


def palette_of_grey() -> Dataset:
    ramp = np.arange(256, dtype="u1")
    ds = variants.with_palette(grey(), ramp, ramp, ramp, entry_bits=16)
    ds.WindowCenter, ds.WindowWidth = "10", "10"  # meant nothing in colour
    ds.ICCProfile = b"\0" * 128
    return ds


SOURCES = {
    "rgb": lambda: variants.in_colour(doubled(grey())),
    "rgb-planes": lambda: variants.in_colour(doubled(grey()), planar=1),
    "palette": palette_of_grey,
}


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_derived_of_it_is_monochrome2_and_sound(name, require_peer, tmp_path):
    validator = require_peer("dciodvfy")
    path = variants.written(SOURCES[name](), tmp_path / "source.dcm")

    source, derived = through_files(path, tmp_path / "derived.dcm")

    check_derived(source, derived, 2)
    assert (derived.PhotometricInterpretation, derived.SamplesPerPixel) == ("MONOCHROME2", 1)
    assert "PlanarConfiguration" not in derived
    assert "RedPaletteColorLookupTableData" not in derived
    assert "the colours that its grey was written in" in derived.DerivationDescription
    assert not errors(validator, tmp_path / "derived.dcm") or (
        new_errors(validator, path, tmp_path / "derived.dcm") == []
    )
    # black is black and white is white, as it was in colour
    values = np.array([[0, 128, 255]], "u1")
    assert preview.windowed(derived, values).tolist() == [[0, 128, 255]]
    assert preview.windowed(source, values).tolist() == [[0, 128, 255]]


def test_a_derived_object_that_still_claims_colour_is_found():
    source = variants.in_colour(doubled(grey()))
    derived = derived_from(source)
    derived.PhotometricInterpretation, derived.SamplesPerPixel = "RGB", 3

    with pytest.raises(AssertionError, match="photometric"):
        check_derived(source, derived, 2)


def test_a_job_on_grey_in_colour_is_done_and_one_on_colour_skipped(tmp_path):
    with open_clinic(tmp_path) as clinic:
        done = clinic.serve(variants.in_colour(doubled(grey())), kind="upload")
        skipped = clinic.serve(variants.in_colour(tinted()), kind="upload")

        assert done.state is JobState.DONE
        assert clinic.result(done).PhotometricInterpretation == "MONOCHROME2"
        assert (skipped.state, skipped.reason_code) == (JobState.SKIPPED, "colour")


def test_the_ratio_of_lossy_colour_counts_three_samples(tmp_path):
    ds = variants.in_colour(doubled(grey()), "YBR_FULL_422")
    stream = bytes(imagecodecs.jpeg8_encode(doubled(grey()), level=90))
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = UID(codecs.JPEG_BASELINE)
    path = variants.written(ds, tmp_path / "source.dcm")

    source, derived = through_files(path, tmp_path / "derived.dcm")

    check_derived(source, derived, 2)
    assert derived.LossyImageCompression == "01"
    expected = 3 * grey().size / len(stream)
    assert abs(float(derived.LossyImageCompressionRatio) - expected) < 0.02 * expected
