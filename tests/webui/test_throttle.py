from __future__ import annotations

from db.logins import Attempt
from webui import throttle
from webui.throttle import LIMITS, WINDOW_SECONDS, Throttle


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_failures_are_forgotten_after_the_window() -> None:
    clock = Clock()
    guard = Throttle(clock=clock)
    for _ in range(LIMITS["name and address"]):
        assert guard.wait("anna", "10.0.0.1") == 0
        guard.failed("anna", "10.0.0.1")
    assert 0 < guard.wait("anna", "10.0.0.1") <= WINDOW_SECONDS
    assert guard.wait("ANNA", "10.0.0.1") > 0, "upper and lower case are one name"
    assert guard.wait("anna", "10.0.0.2") == 0
    clock.now += WINDOW_SECONDS
    assert guard.wait("anna", "10.0.0.1") == 0


def test_many_addresses_trying_one_name_and_one_address_trying_many_names_are_slowed() -> None:
    guard = Throttle(clock=Clock())
    for number in range(LIMITS["name"]):
        guard.failed("anna", f"10.0.0.{number}")
    assert guard.wait("anna", "192.0.2.1") > 0
    for number in range(LIMITS["address"]):
        guard.failed(f"name{number}", "10.1.1.1")
    assert guard.wait("someone new", "10.1.1.1") > 0


def test_a_success_forgives() -> None:
    guard = Throttle(clock=Clock())
    for _ in range(LIMITS["name and address"] - 1):
        guard.failed("anna", "10.0.0.1")
    guard.succeeded("anna", "10.0.0.1")
    guard.failed("anna", "10.0.0.1")
    assert guard.wait("anna", "10.0.0.1") == 0


def test_memory_is_bounded_whatever_names_are_tried(monkeypatch) -> None:
    monkeypatch.setattr(throttle, "MAX_KEYS", 30)
    guard = Throttle(clock=Clock())
    for number in range(200):
        guard.failed(f"name{number}", f"10.0.{number}.1")
    assert len(guard._failures) <= 30


def test_what_the_trail_knows_counts_like_what_this_process_saw() -> None:
    guard = Throttle(clock=Clock())
    tries = [Attempt("anna", "10.0.0.1", age, True) for age in (10, 20, 30, 40, 50)]
    assert guard.wait("anna", "10.0.0.1", tries) == WINDOW_SECONDS - 50
    assert guard.wait("anna", "10.0.0.1", tries[1:]) == 0
    assert guard.wait("anna", "10.0.0.2", tries) == 0
    forgiven = [*tries[:3], Attempt("anna", "10.0.0.1", 35, False), *tries[3:]]
    assert guard.wait("anna", "10.0.0.1", forgiven) == 0, "a login that went well forgives what was before"
    many = [Attempt("anna", f"10.0.0.{n}", float(n), True) for n in range(LIMITS["name"])]
    assert guard.wait("anna", "192.0.2.1", many) == WINDOW_SECONDS - LIMITS["name"] + 1
    others = [Attempt("unknown", "10.0.0.1", 1.0, True)] * LIMITS["address"]
    assert guard.wait("bert", "10.0.0.1", others) == WINDOW_SECONDS - 1
    assert guard.wait("bert", "10.0.0.2", others) == 0


def test_addresses_that_one_subscriber_has_are_one() -> None:
    guard = Throttle(clock=Clock())
    for number in range(LIMITS["name and address"]):
        guard.failed("anna", f"2001:db8:0:1::{number}")
    assert guard.wait("anna", "2001:db8:0:1:ffff::1") > 0
    assert guard.wait("anna", "2001:db8:0:2::1") == 0


def test_an_attempt_that_had_to_wait_is_told_once_a_minute() -> None:
    clock = Clock()
    guard = Throttle(clock=clock)
    assert [guard.worth_telling("anna", "10.0.0.1") for _ in range(3)] == [True, False, False]
    assert guard.worth_telling("anna", "10.0.0.2")
    clock.now += throttle.TOLD_SECONDS
    assert guard.worth_telling("anna", "10.0.0.1")
