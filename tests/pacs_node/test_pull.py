"""Searches as they are understood, and answers of archives that keep to nothing."""

from __future__ import annotations

import pytest

from pacs_node.multipart import MultipartError, Parts, boundary_of
from pacs_node.pull import MODALITIES, QueryError, SeriesFound, StudyFound, of_modality, parse, wanted


def test_a_search_names_attributes_and_modalities():
    query = parse({"patient": " 4711 ", "date": "20240101-20240131", "modality": "dx, cr"})
    assert query.matches == {"PatientID": "4711", "StudyDate": "20240101-20240131"}
    assert query.modalities == ("DX", "CR")
    assert parse({"accession": "A1"}).modalities == MODALITIES


@pytest.mark.parametrize("date", ["20240101", "20240101-", "-20240131", "20240101-20240101"])
def test_dates_that_are_understood(date):
    assert parse({"date": date}).matches == {"StudyDate": date}


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"patient": ""},
        {"patient": "*"},
        {"name": "*^*"},
        {"modality": "CR"},
        {"sex": "F"},
        {"patient": "a\\b"},
        {"patient": "x" * 65},
        {"patient": "a\x00"},
        {"study": "1.2.x"},
        {"patient": "1", "modality": "C/R"},
        {"date": "2024"},
        {"date": "20240132"},
        {"date": "20240201-20240101"},
        {"date": "-"},
        {"date": "2024010120240102"},
    ],
)
def test_searches_that_are_refused_repeat_nothing_of_themselves(terms):
    with pytest.raises(QueryError) as refused:
        parse(terms)
    assert not any(value and len(value) > 1 and value in str(refused.value) for value in terms.values())


def test_only_series_that_were_asked_for_are_fetched_and_those_that_do_not_say():
    series = [SeriesFound("1", "CR"), SeriesFound("2", "PR"), SeriesFound("3", ""), SeriesFound("4", "dx")]
    assert wanted(series, MODALITIES) == ["1", "3", "4"]


def test_an_archive_that_ignores_the_modality_is_corrected():
    assert of_modality(StudyFound("1", {"ModalitiesInStudy": ["CT", "DX"]}), MODALITIES)
    assert of_modality(StudyFound("1", {}), MODALITIES)
    assert not of_modality(StudyFound("1", {"ModalitiesInStudy": ["CT"]}), MODALITIES)


BODY = (
    b"preamble\r\n--b\r\nContent-Type: application/dicom\r\n\r\none\r\n--almost--b\r\n\r\n"
    b"--b\r\nContent-Type: application/dicom\r\nX: y\r\n\r\n\r\n--b\r\n\r\nthree\r\n--b--\r\nepilogue"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_multipart_answer_is_read_in_pieces_of_any_size(size):
    chunks = (BODY[at : at + size] for at in range(0, len(BODY), size))
    parts = [b"".join(body) for body in Parts(chunks, b"b")]
    assert parts == [b"one\r\n--almost--b\r\n", b"", b"three"]


@pytest.mark.parametrize("end", [0, 9, 20, 60, len(BODY) - 14])
def test_a_multipart_answer_that_is_cut_off_is_no_answer(end):
    with pytest.raises(MultipartError):
        [b"".join(body) for body in Parts(iter([BODY[:end]]), b"b")]


def test_a_part_is_not_held_in_memory():
    longest = 0

    def chunks():
        yield b"--b\r\n\r\n"
        for _ in range(1000):
            yield bytes(65536)
        yield b"\r\n--b--"

    for body in Parts(chunks(), b"b"):
        for piece in body:
            longest = max(longest, len(piece))
    assert 0 < longest <= 2 * 65536


def test_boundaries():
    assert boundary_of('multipart/related; type="application/dicom"; boundary="a b"') == b"a b"
    assert boundary_of("application/dicom") is None
    with pytest.raises(MultipartError):
        boundary_of("multipart/related")
