"""Body part and view are read from codes first and from words where codes are missing."""

from __future__ import annotations

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from pacs_node import anatomy


def header(**attributes):
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def code(meaning, value="X"):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "99X", meaning
    return Sequence([item])


@pytest.mark.parametrize(
    ("ds", "expected"),
    [
        (header(BodyPartExamined="CHEST"), True),
        (header(BodyPartExamined="THORAX"), True),
        (header(BodyPartExamined="HIP", StudyDescription="Chest"), False),
        (header(BodyPartExamined="", StudyDescription="THORAX"), True),
        (header(BodyPartExamined="UNKNOWN", ProtocolName="Thorax p.a."), True),
        (header(AnatomicRegionSequence=code("Thorax", "51185008")), True),
        (header(AnatomicRegionSequence=code("Chest")), True),
        (header(AnatomicRegionSequence=code("Knee")), False),
        (header(SeriesDescription="Knee AP", StudyDescription="Chest and knee"), False),
        (header(AcquisitionDeviceProcessingDescription="[CHEST,GENERAL     ]"), True),
        (header(AcquisitionDeviceProcessingDescription="[LOWER LEG         ]"), False),
        (header(StudyDescription="Radiografia de tórax"), True),
        (header(StudyDescription="Follow-up"), None),
        (header(), None),
    ],
)
def test_the_body_part_comes_from_what_stands_nearest_to_the_image(ds, expected):
    assert anatomy.shows_chest(ds) is expected


@pytest.mark.parametrize(
    ("ds", "expected"),
    [
        (header(ViewPosition="PA"), True),
        (header(ViewPosition="AP"), True),
        (header(ViewPosition="LL"), False),
        (header(ViewPosition="RLD"), False),
        (header(ViewPosition="LLO"), False),
        (header(ViewCodeSequence=code("postero-anterior")), True),
        (header(ViewCodeSequence=code("left lateral")), False),
        (header(SeriesDescription="Chest lateral"), False),
        (header(SeriesDescription="Chest PA and lateral"), None),
        (header(SeriesDescription="W033 Chest PA"), True),
        (header(SeriesDescription="Chest"), None),
        (header(), None),
    ],
)
def test_the_view_comes_from_position_code_or_words(ds, expected):
    assert anatomy.is_frontal(ds) is expected


def test_the_body_part_is_told_in_the_objects_own_words():
    assert anatomy.body_part_words(header(BodyPartExamined="HIP")) == "HIP"
    assert anatomy.body_part_words(header(AnatomicRegionSequence=code("Knee"))) == "Knee"
    assert anatomy.body_part_words(header(BodyPartExamined="UNKNOWN")) == ""
