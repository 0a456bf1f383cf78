"""How values are said on pages."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from db.models import JobEvent, Patient
from db.states import DeliveryState, JobState
from webui.pages import words


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("DOE^JANE", "DOE, JANE"),
        ("Müller^Karin^^Dr^", "Müller, Karin, Dr"),
        ("Yamada^Tarou=山田^太郎", "Yamada, Tarou"),
        ("=山田^太郎", "山田, 太郎"),
        ("", ""),
        ("^^^", ""),
    ],
)
def test_a_person_name_is_written_as_people_write_it(name: str, said: str) -> None:
    assert words.person(name) == said


def test_an_identity_escapes_what_came_from_outside() -> None:
    patient = Patient(patient_id="<b>1", birth_date="19500102", sex="F")
    assert words.identity(patient) == (
        '&lt;b&gt;1, born <time datetime="1950-01-02" data-form="day">Jan 2, 1950</time>, female'
    )


@pytest.mark.parametrize("value", ["", "1950", "19501399", "unknown!"])
def test_a_date_that_is_none_is_shown_as_it_is(value: str) -> None:
    assert words.dicom_date(value) == value


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (15_000_000, "15 MB"), (2e15, "2,000 TB")],
)
def test_sizes_have_a_fitting_unit(value: float, said: str) -> None:
    assert words.size(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0.012, "12 ms"), (6.31, "6.3 s"), (42.4, "42 s"), (600, "10 min")]
)
def test_durations_are_short(value: float, said: str) -> None:
    assert words.seconds(value) == said


@pytest.mark.parametrize(
    ("code", "said"), [(0, "0x0000"), (0xA700, "0xA700"), (0x0122, "0x0122"), (200, "200"), (503, "503")]
)
def test_statuses_are_written_as_their_standard_does(code: int, said: str) -> None:
    assert words.status(code) == said


def test_every_state_of_a_delivery_has_the_sign_of_a_job_state() -> None:
    assert set(words.TONES) == set(DeliveryState)


@pytest.mark.parametrize("state", JobState)
def test_every_state_of_a_job_stands_in_a_timeline(state: JobState) -> None:
    event = JobEvent(kind="state", after=state.value, at=datetime.now(UTC), actor="worker-1", message="why")
    [line] = words.timeline([event])
    assert (line.words, line.tone, line.message) == (state.value, state.value, "why · by worker-1")


def test_what_is_no_transition_stands_in_a_timeline_too() -> None:
    [line] = words.timeline([JobEvent(kind="something-new", at=datetime.now(UTC))])
    assert line.words == "something new"
