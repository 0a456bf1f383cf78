"""Which passwords may be chosen."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db import people
from db.passwords import LONGEST, Weakness, weakness

GOOD = (
    "correct horse battery",
    "another long one",
    "a lamp behind the film",
    "kQ7-vrUw2_xA",
    "žluťoučký kůň",
    "0917 4482 6630 1",
    "dragon monkey football summer",
    "面 白い パスワード です よ ね",
)


@pytest.mark.parametrize("password", GOOD)
def test_a_long_one_that_nobody_thinks_of_first_is_taken_whatever_it_is_made_of(password):
    assert weakness(password, "anna", shortest=12) is None


@pytest.mark.parametrize(
    ("password", "found"),
    [
        ("kQ7-vrUw2_x", Weakness.SHORT),
        ("x" * (LONGEST + 1), Weakness.LONG),
        ("I am ANNA of old", Weakness.NAME),
        ("ａｎｎａ of the old", Weakness.NAME),
        ("my CXR-SR and me", Weakness.PRODUCT),
        ("cxr_sr and me too", Weakness.PRODUCT),
        ("aaaaaaaaaaaa", Weakness.PATTERN),
        ("121212121212", Weakness.PATTERN),
        ("xk7q!xk7q!xk7q!", Weakness.PATTERN),
        ("123456789012", Weakness.PATTERN),
        ("abcdefghijkl", Weakness.PATTERN),
        ("QWERTYuiop123", Weakness.PATTERN),
        ("987654321cba", Weakness.PATTERN),
        ("Password1234", Weakness.COMMON),
        ("P@ssw0rd2026!", Weakness.COMMON),
        ("!!Welcome-Hospital!!", Weakness.COMMON),
        ("iloveyou-2019", Weakness.COMMON),
        ("Radiologie2026!", Weakness.COMMON),
        ("2026-11-23!!", Weakness.COMMON),
    ],
)
def test_what_is_short_or_guessed_first_is_refused_with_the_reason(password, found):
    assert weakness(password, "anna", shortest=12) is found


def test_the_sentence_says_the_number_that_is_configured():
    assert "at least 14 " in Weakness.SHORT.said(14)
    assert str(LONGEST) in Weakness.LONG.said(14)


def test_a_configured_length_below_the_floor_does_not_count():
    assert weakness("kQ7-vrU", "anna", shortest=1) is Weakness.SHORT


def test_what_the_node_makes_itself_is_never_refused():
    assert all(weakness(people.generated_password(), "anna", shortest=12) is None for _ in range(200))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.text(max_size=20))
def test_any_text_has_an_answer(password, name):
    found = weakness(password, name)
    assert found is None or found.said(8)
