"""Clocks that jump, and the time between records."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from processors.stages.arrival_clock import LONGEST_STEP_NS, ArrivalClock

S = 1_000_000_000
HOUR = 3_600 * S
NOW = 1_800_000_000 * S


@given(st.lists(st.integers(0, 10 * S), max_size=30))
def test_without_jumps_it_goes_as_the_stamps_do(steps: list[int]) -> None:
    clock, at = ArrivalClock(), NOW
    assert clock.heard(at) == 0
    for step in steps:
        at += step
        assert clock.heard(at) == at - NOW


def test_a_jump_of_an_hour_counts_for_seconds_and_one_back_for_nothing() -> None:
    clock = ArrivalClock()
    clock.heard(NOW)
    assert clock.heard(NOW + HOUR) == LONGEST_STEP_NS
    assert clock.heard(NOW + HOUR + S) == LONGEST_STEP_NS + S
    assert clock.heard(NOW) == LONGEST_STEP_NS + S


def test_two_gateways_an_hour_apart_do_not_make_it_run() -> None:
    clock = ArrivalClock()
    for at in range(0, 60 * S, S // 50):
        clock.heard(NOW + at)
        clock.heard(NOW + HOUR + at)
    assert clock.now_ns < 60 * S + LONGEST_STEP_NS
