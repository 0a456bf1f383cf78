"""Headers as devices get them wrong, hundreds of them from a seed: each ends in a sound result or in a typed
reason, and no other way."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, config, dcmread, dcmwrite
from pydicom.dataelem import RawDataElement

from pacs_node import soundness
from pacs_node.errors import Reason, Refused
from tests import dicom_variants as variants
from tests.pacs_node.test_colour import doubled, grey
from tests.pacs_node.test_derive import through_files
from tests.pacs_node.test_soundness import rich

OTHER_VRS = ("LO", "SH", "CS", "DS", "IS", "US", "SS", "UL", "FD", "UN", "OB", "PN", "DA", "UI", "ST", "UT")
ODD_VALUES = (
    b"", b"  ", b"\0\0", b"abc ", b"-1", b"1\\2\\3 ", b"99999999999999999999", b"nan ", b"1e400 ",
    b"12:34:56", b"3.7 ",
)  # fmt: skip
ALLOWED = {
    Reason.MISSING_ATTRIBUTE, Reason.COLOUR, Reason.UNSUPPORTED_BITS, Reason.TRUNCATED, Reason.BAD_GEOMETRY,
    Reason.TOO_LARGE, Reason.MULTI_FRAME, Reason.BROKEN_STREAM, Reason.UNREADABLE,
}  # fmt: skip
SOURCES: dict[str, Callable[[], Dataset]] = {
    "dx": rich,
    "cr": lambda: variants.with_shutter(variants.cr(PixelPaddingValue=0)),
    "sc": variants.secondary_capture,
    "rgb": lambda: variants.in_colour(doubled(grey())),
}


def mistaken(source: Path, rng: random.Random, target: Path) -> None:
    """Write `source` with one to three of its elements gone, in another VR, or with an odd value."""
    ds = dcmread(source)
    tags = [tag for tag in ds.keys() if tag != 0x7FE00010]  # noqa: SIM118 - raw elements
    for tag in rng.sample(tags, rng.randint(1, 3)):
        element = ds.get_item(tag)
        if not isinstance(element, RawDataElement):
            continue
        how = rng.choice(("gone", "vr", "value", "both"))
        if how == "gone":
            del ds[tag]
            continue
        vr = element.VR if how == "value" or element.VR == "SQ" else rng.choice(OTHER_VRS)
        value = element.value if how == "vr" or element.VR == "SQ" else rng.choice(ODD_VALUES)
        ds[tag] = RawDataElement(tag, vr, len(value or b""), value, 0, False, True)
    dcmwrite(target, ds)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.filterwarnings("ignore")  # pydicom tells of every odd value
def test_a_mistaken_header_gives_a_sound_result_or_a_reason(name, tmp_path, monkeypatch):
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.IGNORE)
    monkeypatch.setattr(config.settings, "writing_validation_mode", config.IGNORE)
    plain, odd = variants.written(SOURCES[name](), tmp_path / "plain.dcm"), tmp_path / "odd.dcm"
    rng, reasons, sound = random.Random(f"{name} 1"), set(), 0
    for number in range(60):
        mistaken(plain, rng, odd)
        try:
            source, derived = through_files(odd, tmp_path / "derived.dcm")
        except Refused as refused:
            reasons.add(refused.refusal.reason)
            continue
        found = soundness.check(soundness.Pair.of_datasets(source, derived))
        # A text that is too long, or a class that is none, stays the source's own fault.
        faults = [str(finding) for finding in found if finding.rule.name not in ("values", "sop-class")]
        assert faults == [], number
        sound += 1
    assert sound > 20
    assert reasons
    assert reasons <= ALLOWED
