"""Stored values become shades as the standard says: compared with pydicom's pipeline and dcmtk's pictures."""

from __future__ import annotations

import subprocess
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence

from pacs_node import lookup, preview, stored
from tests import dicom_variants as variants
from tests.derived_checks import check_derived
from tests.pacs_node.test_derive import derived_from

VALUES = np.arange(0, 4096, 8, dtype="u2").reshape(-1, 8)


def table(entries: np.ndarray, first: int = 0, bits: int = 12, *, as_words: bool = False) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) & 0xFFFF, first, bits])
    item.LUTExplanation, item.ModalityLUTType = "NORMAL", "US"
    if as_words:
        item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    else:
        item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return Sequence([item])


def image(**attributes: Any) -> Dataset:
    return variants.cr(variants.chest_values(12), **attributes)


RISING = np.linspace(0, 4095, 4096).round()
CURVED = np.round(4095 * (np.arange(4096) / 4095) ** 0.5)
NO_WINDOW = {"WindowCenter": None, "WindowWidth": None}
CASES = {
    "window": lambda: image(WindowCenter="1800", WindowWidth="1500"),
    "several-windows": lambda: image(WindowCenter=["1800", "700"], WindowWidth=["1500", "90"]),
    "exact-window": lambda: image(WindowCenter="1800", WindowWidth="1500", VOILUTFunction="LINEAR_EXACT"),
    "sigmoid": lambda: image(WindowCenter="1800", WindowWidth="1500", VOILUTFunction="SIGMOID"),
    "rescaled": lambda: image(
        RescaleSlope="0.5", RescaleIntercept="-300", WindowCenter="800", WindowWidth="900"
    ),
    "falling-rescale": lambda: image(
        RescaleSlope="-1", RescaleIntercept="4095", WindowCenter="1800", WindowWidth="1500"
    ),
    "modality-table": lambda: image(
        ModalityLUTSequence=table(CURVED), WindowCenter="2000", WindowWidth="2500"
    ),
    "falling-modality-table": lambda: image(
        ModalityLUTSequence=table(CURVED[::-1], as_words=True), WindowCenter="2000", WindowWidth="2500"
    ),
    "voi-table": lambda: image(VOILUTSequence=table(CURVED, as_words=True), **NO_WINDOW),
    "short-voi-table": lambda: image(VOILUTSequence=table(CURVED[:1000] * 2, first=800), **NO_WINDOW),
    "falling-voi-table": lambda: image(VOILUTSequence=table(CURVED[::-1]), **NO_WINDOW),
    "both-tables": lambda: image(
        ModalityLUTSequence=table(CURVED), VOILUTSequence=table(RISING[::-1]), **NO_WINDOW
    ),
}
DARK_WHERE_HIGH = {"falling-rescale", "falling-modality-table", "falling-voi-table", "both-tables"}


# pydicom 3.0.2 knows no modality table of 12 bits and turns a window round where the rescale falls; dcmtk can
@pytest.mark.parametrize("name", [name for name in CASES if name not in DARK_WHERE_HIGH | {"modality-table"}])
def test_shades_are_those_of_pydicom(name):
    ds = CASES[name]()

    shades = lookup.shades(ds, lookup.modality_values(ds, VALUES))

    expected = apply_voi_lut(apply_modality_lut(VALUES, ds), ds, prefer_lut=False)
    low, high = (0, 4095) if "VOILUTSequence" in ds else _output_range(ds)
    assert np.abs(shades - (expected - low) / (high - low)).max() < 0.002


def _output_range(ds: Dataset) -> tuple[float, float]:
    """The range that pydicom spreads a window over: what the bits hold, rescaled."""
    ends = [
        v * float(ds.get("RescaleSlope") or 1) + float(ds.get("RescaleIntercept") or 0) for v in (0, 4095)
    ]
    return min(ends), max(ends)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("name", [name for name in CASES if "exact" not in name])  # dcmtk 3.6.7 knows it not
def test_a_preview_is_the_picture_that_dcmtk_makes(name, photometric, require_peer, tmp_path):
    program = require_peer("dcm2pnm")
    ds = CASES[name]()
    ds.PhotometricInterpretation = photometric
    path = variants.written(ds, tmp_path / "image.dcm")
    which = ["+Wl", "1"] if "VOILUTSequence" in ds else ["+Wi", "1"]
    how = ["+Wfs"] if name == "sigmoid" else []

    subprocess.run(
        [program, "+op", *which, *how, path, tmp_path / "picture.pgm"], check=True, capture_output=True
    )

    expected = np.asarray(Image.open(tmp_path / "picture.pgm").convert("L")).astype(int)
    shown = preview.windowed(ds, ds.pixel_array).astype(int)
    assert np.abs(shown - expected).max() <= 2


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("name", CASES)
def test_the_network_sees_bright_what_a_preview_shows_bright(name, photometric):
    ds = CASES[name]()
    ds.PhotometricInterpretation = photometric

    assert stored.high_is_dark(ds) is ((name in DARK_WHERE_HIGH) != (photometric == "MONOCHROME1"))
    shown = preview.windowed(ds, np.array([[500, 3500]], "u2")).astype(int)
    assert bool(shown[0, 0] > shown[0, 1]) is stored.high_is_dark(ds)


@pytest.mark.parametrize("name", CASES)
def test_tables_and_windows_travel_unchanged(name):
    ds = CASES[name]()
    if "ModalityLUTSequence" in ds:
        del ds.ModalityLUTSequence[0].LUTExplanation

    derived = derived_from(ds)

    check_derived(ds, derived, 2)
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        assert (keyword in derived) is (keyword in ds)
    lower = ds.pixel_array.astype(float).mean()
    assert abs(derived.pixel_array.astype(float).mean() - lower) < 2


@pytest.mark.parametrize(
    "broken",
    [
        {"VOILUTSequence": Sequence()},
        {"VOILUTSequence": Sequence([Dataset()])},
        {"VOILUTSequence": table(np.array([1])), **NO_WINDOW},
        {"VOILUTSequence": table(RISING, bits=0), **NO_WINDOW},
        {"WindowCenter": "100", "WindowWidth": "0"},
        {"WindowCenter": "", "WindowWidth": ""},
        {"RescaleSlope": "0"},
    ],
)
def test_what_cannot_be_used_is_passed_over_and_the_range_is_shown(broken):
    shown = preview.windowed(image(**(NO_WINDOW | broken)), variants.chest_values(12))

    assert np.ptp(shown) > 200


def test_a_table_for_signed_values_may_begin_below_zero():
    ds = variants.cr(variants.chest_values(12, signed=True), **NO_WINDOW)
    for vr_is_wrong in (False, True):
        first = -2048 + (65536 if vr_is_wrong else 0)
        ds.VOILUTSequence = table(RISING, first=first)
        values = np.array([[-2048, 0, 2047]], "i2")

        shades = lookup.shades(ds, lookup.modality_values(ds, values))

        assert np.abs(shades - [[0, 0.5, 1]]).max() < 0.001
