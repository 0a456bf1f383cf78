"""Results that ask for more care than others."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from enhancer import Consistency, Domain
from pacs_node.caveats import caveats

GOOD = Consistency(0.001, 0.004, 0.006)
TRAINED = Domain()


def header(**attributes):
    ds = Dataset()
    for keyword, value in {
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "ImagerPixelSpacing": [1.5, 1.5],
    }.items():
        setattr(ds, keyword, value)
    for keyword, value in attributes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def codes(ds, *, rows=256, columns=300, domain: Domain | None = TRAINED, told=GOOD):
    return [caveat.code for caveat in caveats(ds, rows, columns, domain, told)]


def test_a_frontal_chest_of_the_trained_kind_has_none():
    assert codes(header()) == []


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"ViewPosition": "LL"}, "view"),
        ({"BodyPartExamined": "HAND"}, "view"),
        ({"ViewPosition": None}, "view-unknown"),
        ({"BodyPartExamined": None}, "view-unknown"),
        ({"ImagerPixelSpacing": [0.143, 0.143]}, "fine"),
        ({"ImagerPixelSpacing": [9, 9]}, "coarse"),
        ({"ImagerPixelSpacing": None}, "spacing-unknown"),
        ({"ImagerPixelSpacing": [0, 0]}, "spacing-unknown"),
        ({"LossyImageCompression": "01"}, "lossy"),
    ],
)
def test_what_the_model_has_not_learnt_from_is_named(attributes, code):
    assert codes(header(**attributes)) == [code]


def test_a_tiny_image_is_named():
    assert codes(header(), rows=40) == ["small"]


def test_a_result_that_does_not_give_its_source_back_is_named_with_both_figures():
    poor = Consistency(0.004, 0.05, 0.2)
    (found,) = caveats(header(), 256, 256, Domain(p999=0.03), poor)
    assert found.code == "consistency"
    assert "5 %" in found.sentence
    assert "3 %" in found.sentence


def test_a_model_that_learns_nothing_has_no_domain_to_leave():
    assert codes(header(ImagerPixelSpacing=[0.1, 0.1]), rows=10, domain=None) == []
    assert codes(header(ViewPosition="LL"), domain=None) == ["view"]
