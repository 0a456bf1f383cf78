"""Decoding gives the stored values of every transfer syntax exactly, and a typed reason for what is not
ours."""

from __future__ import annotations

import numpy as np
import pytest

from pacs_node import codecs, decode
from pacs_node.errors import Outcome, Reason, Refused
from tests import dicom_variants as variants

LOSSLESS = [uid for uid, codec in codecs.CODECS.items() if not codec.lossy and not codec.may_be_lossy]
LOSSY = [uid for uid, codec in codecs.CODECS.items() if codec.lossy or codec.may_be_lossy]
JPEG_FAMILY = {codecs.JPEG_LOSSLESS, codecs.JPEG_LOSSLESS_SV1}


def names(uid):
    return codecs.CODECS[uid].name if uid in codecs.CODECS else str(uid)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
@pytest.mark.parametrize("uid", LOSSLESS, ids=names)
def test_every_lossless_syntax_gives_the_stored_values_exactly(uid, bits, photometric):
    values = variants.chest_values(bits)
    ds = variants.encoded(variants.cr(values, bits=bits, photometric=photometric), uid)

    image = decode.decode(ds, uid)

    assert image.values.dtype == values.dtype
    assert image.format.photometric == photometric
    np.testing.assert_array_equal(image.values, values)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("uid", LOSSLESS, ids=names)
def test_signed_values_keep_their_sign_in_every_lossless_syntax(uid, bits):
    values = variants.chest_values(bits, signed=True)
    ds = variants.encoded(variants.cr(values, bits=bits), uid)

    image = decode.decode(ds, uid)

    assert image.values.dtype == values.dtype
    assert image.values.min() < 0
    np.testing.assert_array_equal(image.values, values)


@pytest.mark.parametrize("uid", LOSSY, ids=names)
def test_every_lossy_syntax_gives_values_near_the_stored_ones(uid):
    bits = 8 if uid == codecs.JPEG_BASELINE else 12
    values = variants.chest_values(bits)
    ds = variants.encoded(variants.cr(values, bits=bits), uid)

    image = decode.decode(ds, uid)

    difference = np.abs(image.values.astype(int) - values)
    assert image.values.dtype == values.dtype
    assert np.median(difference) <= (1 << bits) / 64


def test_twelve_bits_in_jpeg_extended_are_read():
    values = variants.chest_values(12)
    ds = variants.encoded(variants.cr(values), codecs.JPEG_EXTENDED, quality=100)

    image = decode.decode(ds, codecs.JPEG_EXTENDED)

    assert image.values.max() > 255
    assert np.abs(image.values.astype(int) - values).max() <= 60


def test_overlay_bits_above_the_stored_ones_are_removed():
    values = variants.chest_values(12)
    ds = variants.with_overlay_in_pixels(variants.cr(values))

    np.testing.assert_array_equal(decode.decode(ds, codecs.EXPLICIT_VR_LITTLE_ENDIAN).values, values)


def test_values_that_stand_above_bit_zero_are_brought_down():
    values = variants.chest_values(12)
    ds = variants.cr(values)
    ds.HighBit = 15
    ds.PixelData = (values << 4).astype("<u2").tobytes()

    np.testing.assert_array_equal(decode.decode(ds, codecs.EXPLICIT_VR_LITTLE_ENDIAN).values, values)


def test_eight_bits_in_swapped_words_of_big_endian_are_read():
    values = variants.chest_values(8, rows=9, columns=7)
    ds = variants.cr(values, bits=8)
    ds.PixelData = np.frombuffer(ds.PixelData, "u2").byteswap().tobytes()
    ds["PixelData"].VR = "OW"

    np.testing.assert_array_equal(decode.decode(ds, codecs.EXPLICIT_VR_BIG_ENDIAN).values, values)


def test_padding_is_a_range_of_stored_values():
    ds = variants.cr(PixelPaddingValue=4000, PixelPaddingRangeLimit=3990)

    assert decode.decode(ds, codecs.EXPLICIT_VR_LITTLE_ENDIAN).padding == (3990, 4000)


def test_a_padding_value_written_with_the_wrong_sign_is_understood():
    ds = variants.cr(variants.chest_values(16, signed=True), bits=16)
    ds.add_new("PixelPaddingValue", "US", 63536)

    assert decode.decode(ds, codecs.EXPLICIT_VR_LITTLE_ENDIAN).padding == (-2000, -2000)


@pytest.mark.parametrize(
    ("attributes", "reason", "outcome"),
    [
        ({"NumberOfFrames": 3}, Reason.MULTI_FRAME, Outcome.SKIP),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, Reason.TRUNCATED, Outcome.FAIL),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 4}, Reason.COLOUR, Outcome.SKIP),
        ({"PhotometricInterpretation": "HSV", "SamplesPerPixel": 3}, Reason.COLOUR, Outcome.SKIP),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, Reason.MISSING_ATTRIBUTE, Outcome.FAIL),
        ({"PixelData": None}, Reason.NO_PIXELS, Outcome.SKIP),
        ({"Rows": 0}, Reason.BAD_GEOMETRY, Outcome.FAIL),
        ({"Rows": None}, Reason.MISSING_ATTRIBUTE, Outcome.FAIL),
        ({"Rows": 60000, "Columns": 60000}, Reason.TOO_LARGE, Outcome.FAIL),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, Reason.UNSUPPORTED_BITS, Outcome.SKIP),
        ({"HighBit": 3}, Reason.UNSUPPORTED_BITS, Outcome.SKIP),
        ({"Rows": 97}, Reason.TRUNCATED, Outcome.FAIL),
        ({"PhotometricInterpretation": None}, Reason.MISSING_ATTRIBUTE, Outcome.FAIL),
    ],
)
def test_what_is_not_ours_has_a_typed_reason(attributes, reason, outcome):
    ds = variants.cr(**attributes)

    with pytest.raises(Refused) as refused:
        decode.decode(ds, codecs.EXPLICIT_VR_LITTLE_ENDIAN)

    assert refused.value.refusal.reason is reason
    assert refused.value.refusal.outcome is outcome
    assert refused.value.refusal.sentence.endswith(".")


@pytest.mark.parametrize("uid", [uid for uid in codecs.CODECS if codecs.CODECS[uid].encapsulated], ids=names)
def test_a_cut_code_stream_is_refused_and_not_filled_with_grey(uid):
    ds = variants.encoded(variants.cr(bits=8 if uid == codecs.JPEG_BASELINE else 12), uid)
    from pydicom.encaps import encapsulate, generate_frames

    stream = next(generate_frames(ds.PixelData, number_of_frames=1))
    ds.PixelData = encapsulate([stream[: len(stream) // 2]])

    with pytest.raises(Refused) as refused:
        decode.decode(ds, uid)

    assert refused.value.refusal.reason in (Reason.TRUNCATED, Reason.BROKEN_STREAM)


def test_a_code_stream_of_another_size_than_the_header_says_is_refused():
    ds = variants.encoded(variants.cr(), codecs.JPEG_2000_LOSSLESS)
    ds.Rows, ds.Columns = ds.Columns, ds.Rows

    with pytest.raises(Refused) as refused:
        decode.decode(ds, codecs.JPEG_2000_LOSSLESS)

    assert refused.value.refusal.reason is Reason.BROKEN_STREAM


def test_an_unknown_transfer_syntax_is_refused():
    with pytest.raises(Refused) as refused:
        decode.decode(variants.cr(), "1.2.840.10008.1.2.4.100")

    assert refused.value.refusal.reason is Reason.UNKNOWN_SYNTAX


def test_a_decoder_that_panics_leaves_its_turn_to_the_next(monkeypatch):
    class PanicException(BaseException):  # as those written in Rust raise it
        pass

    def panic(*_):
        raise PanicException

    ds = variants.encoded(variants.cr(), codecs.RLE_LOSSLESS)
    monkeypatch.setitem(decode._DECODERS, "rle", panic)
    assert decode.decode(ds, codecs.RLE_LOSSLESS).values.max() == 4095
    monkeypatch.setitem(decode._DECODERS, codecs.PYDICOM, panic)
    with pytest.raises(Refused, match="could not be decoded"):
        decode.decode(ds, codecs.RLE_LOSSLESS)
