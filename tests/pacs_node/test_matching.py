"""What an entry of a rule means."""

from __future__ import annotations

import pytest
from pydicom.sequence import Sequence

from config import Settings
from config.settings import Rule
from pacs_node.matching import mismatch, problems
from pacs_node.provenance import code
from tests import dicom_variants as variants

CALLER = {
    "CallingAETitle": "ER_1",
    "CalledAETitle": "CXR_SR",
    "CallingAddress": "192.0.2.7",
    "Origin": "dimse",
}


def fits(ds, caller=CALLER, **match):
    return mismatch(match, ds, caller) is None


@pytest.mark.parametrize(
    ("header", "anatomy"),
    [
        ({"BodyPartExamined": "CHEST"}, "CHEST"),
        ({"BodyPartExamined": "THORAX"}, "CHEST"),
        ({"BodyPartExamined": ""}, "CHEST"),  # its study says so
        ({"BodyPartExamined": "", "StudyDescription": "Knie links"}, "KNEE"),
        ({"BodyPartExamined": "", "SeriesDescription": "Hand AP", "StudyDescription": "Chest, hand"}, "HAND"),
        ({"BodyPartExamined": "", "ProtocolName": "Thorax liegend", "StudyDescription": ""}, "CHEST"),
        ({"BodyPartExamined": "TAIL"}, "TAIL"),
        ({"BodyPartExamined": "", "StudyDescription": "Control"}, ""),
    ],
)
def test_anatomy_falls_back_on_the_words_of_series_protocol_and_study(header, anatomy):
    ds = variants.cr(**{"StudyDescription": "Thorax p.a.", "SeriesDescription": "", **header})
    assert fits(ds, Anatomy=anatomy)
    assert not fits(ds, Anatomy="SKULL")


def test_anatomy_falls_back_on_the_region_and_on_the_codes_of_the_procedure():
    ds = variants.cr(BodyPartExamined="", StudyDescription="", SeriesDescription="")
    ds.ProcedureCodeSequence = Sequence([code("399208008", "Plain chest X-ray", "SCT")])
    assert fits(ds, Anatomy="CHEST")
    assert fits(ds, ProcedureCodeSequence="*CHEST*")
    assert fits(ds, ProcedureCodeSequence="399208008")
    ds.AnatomicRegionSequence = Sequence([code("72696002", "Knee region", "SCT")])
    assert fits(ds, Anatomy="KNEE")


@pytest.mark.parametrize(
    ("header", "view"),
    [
        ({"ViewPosition": "PA"}, ("FRONTAL", "PA")),
        ({"ViewPosition": "AP"}, ("FRONTAL", "AP")),
        ({"ViewPosition": "LL"}, ("LATERAL",)),
        ({"ViewPosition": "RLD"}, ("DECUBITUS",)),
        ({"ViewPosition": "", "SeriesDescription": "Chest oblique"}, ("OBLIQUE",)),
        ({"ViewPosition": "", "SeriesDescription": "Chest p.a."}, ("FRONTAL", "PA")),
        ({"ViewPosition": "XYZ"}, ("OTHER",)),
        ({"ViewPosition": "", "SeriesDescription": "Chest", "ProtocolName": ""}, ("",)),
    ],
)
def test_view_falls_back_on_words(header, view):
    ds = variants.cr(**header)
    assert all(fits(ds, View=name) for name in view)
    assert not fits(ds, View="LORDOTIC")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("192.0.2.7", True),
        ("192.0.2.*", True),
        ("192.0.2.0/24", True),
        ("192.0.2.0/29", True),
        ("192.0.2.8/29", False),
        ("198.51.100.0/24", False),
        (("198.51.100.0/24", "192.0.0.0/16"), True),
        ("2001:db8::/32", False),
    ],
)
def test_a_caller_is_known_by_address_pattern_or_network(pattern, expected):
    assert fits(variants.cr(), CallingAddress=pattern) is expected


def test_an_ipv4_caller_is_the_same_on_a_socket_for_both_families():
    caller = {**CALLER, "CallingAddress": "::ffff:192.0.2.7"}
    assert fits(variants.cr(), caller, CallingAddress="192.0.2.0/24")


def test_every_entry_has_to_fit_and_the_first_that_does_not_is_told():
    ds = variants.cr(StationName="ROOM4")
    told = mismatch({"CallingAETitle": "ER*", "StationName": ("ROOM1", ""), "Modality": "DX"}, ds, CALLER)
    assert told is not None
    assert str(told) == "StationName is ROOM4, not ROOM1 or missing or empty"


def test_patient_attributes_are_matched_on_and_never_repeated():
    ds = variants.cr(PatientID="4711")
    assert fits(ds, PatientID="47*")
    told = str(mismatch({"PatientID": "8*"}, ds, CALLER))
    assert "4711" not in told


def test_a_private_attribute_goes_by_its_tag():
    ds = variants.cr()
    ds.add_new((0x0011, 0x0010), "LO", "ACME 1")
    ds.add_new((0x0011, 0x1001), "LO", "Grid 7")
    assert fits(ds, **{"00111001": "grid*"})
    assert not fits(ds, **{"00111001": "none"})
    assert fits(ds, **{"00111002": ""})


def test_brackets_in_patterns_are_plain_characters():
    ds = variants.cr(ProtocolName="[CHEST]")
    assert fits(ds, ProtocolName="[chest]")
    assert not fits(variants.cr(ProtocolName="C"), ProtocolName="[chest]")


def test_a_sequence_or_value_that_cannot_be_read_matches_nothing_and_breaks_nothing():
    assert not fits(variants.cr(), ProcedureCodeSequence="*")
    assert fits(variants.cr(), ProcedureCodeSequence="")


def test_entries_that_can_never_match_are_told():
    rules = [
        Rule(name="a", match={"BodyPart": "CHEST"}),
        Rule(name="b", match={"CallingAddress": ["192.0.2.0/24", "192.0.2.0/99"]}),
        Rule(name="c", match={"Anatomy": "CHEST", "00181030": "*", "StationName": "X", "Origin": "stow"}),
    ]
    told = list(problems(Settings(rules=rules)))
    assert [problem.partition(":")[0] for problem in told] == [
        "rules.0.match.BodyPart",
        "rules.1.match.CallingAddress",
    ]
