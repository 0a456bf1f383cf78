from __future__ import annotations

import pytest
from flask import Flask

from webui.dicomweb.media import DICOM, OCTETS, Offer, Wish, choose, parse, wishes
from webui.errors import ApiProblem

JPEG = "1.2.840.10008.1.2.4.50"
OFFERS = (
    Offer("image/jpeg", syntaxes=(JPEG,)),
    Offer("image/jpeg", multipart=False, syntaxes=(JPEG,)),
    Offer(OCTETS, syntaxes=(JPEG,), needs_syntax=True),
)


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("*/*", Wish("*/*")),
        ("*", Wish("*/*")),
        ("Image/JPEG;q=0.5", Wish("image/jpeg", quality=0.5)),
        ('multipart/related; type="application/dicom"', Wish("multipart/related", DICOM)),
        ("multipart/related;type=application/octet-stream;transfer-syntax=*",
         Wish("multipart/related", OCTETS, "*")),
        (f'multipart/related; transfer-syntax="{JPEG}"; type="{OCTETS}"; q=0.1',
         Wish("multipart/related", OCTETS, JPEG, 0.1)),
        ("nonsense", None), ("a/b/c", None), ("image/png;q=high", None), ("", None),
    ],
)  # fmt: skip
def test_an_element_of_accept_is_understood_with_and_without_quotes(text: str, wish: Wish | None) -> None:
    assert parse(text) == wish


def accepted(app: Flask, accept: str | None, query: str = "") -> Offer | int:
    headers = {} if accept is None else {"Accept": accept}
    with app.test_request_context(f"/dicomweb/studies{query}", headers=headers):
        try:
            return choose(OFFERS)
        except ApiProblem as problem:
            return problem.status


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, 0), ("*/*", 0), ("", 0), ("multipart/*", 0), ("image/*", 1), ("image/jpeg", 1),
        ('multipart/related; type="image/*"', 0), ("multipart/related", 0),
        (f'multipart/related; type="image/jpeg"; transfer-syntax={JPEG}', 0),
        (f"multipart/related; type={OCTETS}; transfer-syntax=*", 2),
        (f"multipart/related; type={OCTETS}; transfer-syntax={JPEG}", 2),
        (f"image/jpeg;q=0.3, multipart/related; type={OCTETS}; transfer-syntax=*;q=0.9", 2),
        ('image/png, text/html;q=0.4, image/jpeg;q=0.1', 1),
    ],
)  # fmt: skip
def test_the_best_representation_is_chosen(app: Flask, accept: str | None, expected: int) -> None:
    assert accepted(app, accept) == OFFERS[expected]


@pytest.mark.parametrize(
    "accept",
    [
        "text/html", f"multipart/related; type={OCTETS}", OCTETS, "image/jpeg;q=0", "nonsense",
        'multipart/related; type="image/jpeg"; transfer-syntax=1.2.840.10008.1.2.4.90', ",,,",
    ],
)  # fmt: skip
def test_what_is_not_made_is_406(app: Flask, accept: str) -> None:
    assert accepted(app, accept) == 406


def test_the_query_parameter_stands_before_the_header(app: Flask) -> None:
    assert accepted(app, "text/html", "?accept=image/jpeg") == OFFERS[1]
    assert accepted(app, "image/jpeg", "?accept=text/html") == 406


def test_a_header_of_any_length_is_read_in_time(app: Flask) -> None:
    """Nothing in it makes the patterns try again and again."""
    with app.test_request_context("/", headers={"Accept": '"' * 8000 + ",a/b;" * 1000}):
        assert len(wishes()) <= 64
    with app.test_request_context("/", headers={"Accept": "a/b" + "; x=" * 2500}):
        assert wishes() == [Wish("a/b")]
