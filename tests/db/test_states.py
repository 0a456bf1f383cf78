"""The two tables of legal transitions, walked whole."""

from __future__ import annotations

from itertools import product

import pytest

from db.states import (
    DELIVERY_ARRIVED,
    DELIVERY_OPEN,
    DELIVERY_TRANSITIONS,
    JOB_FINISHED,
    JOB_TRANSITIONS,
    DeliveryState,
    IllegalTransition,
    JobState,
    check_delivery,
    check_job,
)


def test_every_state_has_its_row_in_the_tables():
    assert set(JOB_TRANSITIONS) == set(JobState)
    assert set(DELIVERY_TRANSITIONS) == set(DeliveryState)


def test_job_states_are_those_that_the_outside_relies_on_in_their_order():
    assert [state.value for state in JobState] == (
        ["queued", "running", "held", "delivering", "done", "failed", "skipped", "cancelled", "retracted"]
    )


@pytest.mark.parametrize(("before", "after"), list(product(JobState, JobState)))
def test_a_job_takes_exactly_the_steps_of_the_table(before, after):
    if after in JOB_TRANSITIONS[before]:
        check_job(before, after)
    else:
        with pytest.raises(IllegalTransition, match=f"{before.value} and cannot become {after.value}"):
            check_job(before, after)


@pytest.mark.parametrize(("before", "after"), list(product(DeliveryState, DeliveryState)))
def test_a_delivery_takes_exactly_the_steps_of_the_table(before, after):
    if after in DELIVERY_TRANSITIONS[before]:
        check_delivery(before, after)
    else:
        with pytest.raises(IllegalTransition):
            check_delivery(before, after)


def test_every_job_can_come_to_an_end_and_every_state_can_be_reached():
    assert _reached(JOB_TRANSITIONS, JobState.QUEUED) == set(JobState)
    assert _reached(DELIVERY_TRANSITIONS, DeliveryState.WAITING) == set(DeliveryState)
    for state in JobState:
        assert _reached(JOB_TRANSITIONS, state) & JOB_FINISHED


def test_nothing_leaves_retracted_and_committed():
    assert not JOB_TRANSITIONS[JobState.RETRACTED]
    assert not DELIVERY_TRANSITIONS[DeliveryState.COMMITTED]


def test_open_and_arrived_deliveries_are_different_ones():
    assert not DELIVERY_OPEN & DELIVERY_ARRIVED


def _reached(table, start):
    seen, todo = {start}, [start]
    while todo:
        new = table[todo.pop()] - seen
        seen |= new
        todo += new
    return seen
