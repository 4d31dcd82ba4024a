"""Clocks: the one of ledgers agrees with the time of day, and does not follow when that is set."""

from __future__ import annotations

import time

import pytest

from callscope import clock


def test_the_ledgers_clock_begins_as_the_time_of_day_and_goes_on() -> None:
    before = clock.wall_ns()
    assert abs(clock.calendar_ns() - before) < 3_600 * 10**9, "unless somebody sets the clock while the tests run"
    assert before <= clock.wall_ns()


def test_it_does_not_jump_when_the_time_of_day_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before, day = clock.wall_ns(), clock.calendar_ns()
    monkeypatch.setattr(time, "time_ns", lambda: day + 86_400 * 10**9)
    assert clock.calendar_ns() >= day + 86_400 * 10**9
    assert 0 <= clock.wall_ns() - before < 60 * 10**9
