"""Whether a step was good enough, how many legs come next, and the step as JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from callscope.bench.step import FIRST_LEGS, GRAIN, LIMIT_MS, Step, next_legs
from tests.callscope.bench.steps import NOTHING, step


def climb(limit: int) -> list[int]:
    """The legs tried on a machine that carries so many."""
    tried = []
    steps: list[Step] = []
    while (legs := next_legs(steps)) is not None:
        tried.append(legs)
        steps.append(step(legs, 60.0 if legs <= limit else 2 * LIMIT_MS))
    return tried


def test_a_climb_doubles_and_then_halves() -> None:
    assert climb(95) == [10, 20, 40, 80, 160, 120, 100, 90]


@pytest.mark.parametrize("limit", [*range(10, 400, 37), 1_000])
def test_a_climb_ends_at_the_limit(limit: int) -> None:
    tried = climb(limit)
    assert len(tried) == len(set(tried)) < 16
    assert max(legs for legs in tried if legs <= limit) == limit // GRAIN * GRAIN


def test_a_machine_that_carries_nothing_is_asked_once() -> None:
    assert climb(0) == [FIRST_LEGS]


@pytest.mark.parametrize("bad", [step(20, LIMIT_MS), step(20, lost=1), step(20, duplicated=1)])
def test_slow_lost_and_twice_are_over_the_limit(bad: Step) -> None:
    good = step(10)
    assert good.within
    assert not bad.within


def test_a_step_that_saw_nothing_is_over_the_limit() -> None:
    of_nothing = dataclasses.replace(step(10).seen, latency=NOTHING)
    assert not dataclasses.replace(step(10), seen=of_nothing).within


def test_costs_a_leg_leave_the_generator_out() -> None:
    assert step(10).cpu_ms_per_leg == pytest.approx((100 + 40 + 200 + 180 + 80) / 10)
    assert step(10).memory_mb_per_leg == pytest.approx(4.0)


def test_as_json() -> None:
    told = json.loads(json.dumps(step(20, lost=1).as_json(), allow_nan=False))
    assert (told["legs"], told["seconds"], told["lag_records"], told["cores"]) == (20, 30.0, 12, 2)
    assert (told["count"], told["p50_ms"], told["p95_ms"], told["p99_ms"], told["max_ms"]) == (1_000, 30, 55, 60, 90)
    assert (told["lost"], told["lost_because"], told["within_limit"]) == (1, ["a level is missing"], False)
    assert told["cpu_ms_per_s"]["worker 2"] == 180 and told["memory_mb"]["broker"] == 400
    assert (told["cpu_ms_per_s_and_leg"], told["memory_mb_per_leg"]) == (30, 2)
    assert told["stages"]["published"]["p99_ms"] == 20
    assert told["stages"]["extracted"] == {"count": 0, "p50_ms": None, "p95_ms": None, "p99_ms": None, "max_ms": None}
    assert told["speech_start_after_onset"]["p50_ms"] == 300
