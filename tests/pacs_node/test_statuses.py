from __future__ import annotations

import itertools

import pytest
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from pacs_node import statuses
from pacs_node.statuses import Verdict


def test_no_status_stands_in_two_rows():
    for one, other in itertools.combinations(statuses.TABLE, 2):
        assert one.last < other.first or other.last < one.first, (one.name, other.name)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, Verdict.STORED),
        (0xB000, Verdict.WARNING),
        (0xB006, Verdict.WARNING),
        (0xB007, Verdict.WARNING),
        (0x0111, Verdict.WARNING),
        (0xA700, Verdict.RETRY),
        (0xA702, Verdict.RETRY),
        (0x0213, Verdict.RETRY),
        (0xA900, Verdict.FAIL),
        (0xC000, Verdict.FAIL),
        (0xCFFF, Verdict.FAIL),
        (0x0122, Verdict.FAIL),
        (0x0124, Verdict.ALERT),
        (0xFE00, Verdict.RETRY),
        (0x1234, Verdict.RETRY),
    ],
    ids=lambda value: f"{value:04X}" if isinstance(value, int) else value.name,
)
def test_each_answer_has_its_meaning(status, verdict):
    assert statuses.row(status).verdict is verdict


def test_only_success_and_warnings_count_as_arrived():
    assert [v for v in Verdict if v.arrived] == [Verdict.STORED, Verdict.WARNING]


def test_every_status_of_the_storage_service_has_a_row():
    for status in STORAGE_SERVICE_CLASS_STATUS:
        assert statuses.row(status).name != "Unknown status", f"{status:04X}"


def test_a_description_names_status_meaning_and_the_words_of_the_peer():
    assert statuses.describe(0xA700, "disk is full") == "0xA700 Out of resources: disk is full"
    assert statuses.describe(0x0000) == "0x0000 Success"
