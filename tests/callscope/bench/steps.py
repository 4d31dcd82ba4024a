"""Steps of a load test as they could have been measured."""

from __future__ import annotations

from callscope.bench.costs import Cost
from callscope.bench.seen import Spread, Summary
from callscope.bench.step import GENERATOR, Step

NOTHING = Spread.of([])
COSTS = {
    "broker": Cost(100.0, 400.0, 4.0),
    "sink": Cost(40.0, 80.0, 1.0),
    "worker 1": Cost(200.0, 300.0, 20.0),
    "worker 2": Cost(180.0, 290.0, 14.0),
    "gateway": Cost(80.0, 90.0, 1.0),
    GENERATOR: Cost(500.0, 200.0, 0.0),
}


def spread(p50_ms: float, p99_ms: float, count: int = 1_000) -> Spread:
    return Spread(count, p50_ms, p99_ms - 5.0, p99_ms, p99_ms + 30.0)


def step(legs: int, p99_ms: float = 60.0, *, lost: int = 0, duplicated: int = 0) -> Step:
    summary = Summary(
        spread(30.0, p99_ms),
        {"activity": spread(20.0, 50.0), "features": spread(40.0, p99_ms)},
        {"published": spread(8.0, 20.0), "detected": spread(9.0, 21.0), "extracted": NOTHING},
        spread(300.0, 500.0, 20),
        lost,
        ["a level is missing"][:lost],
        duplicated,
        0,
        0.0,
    )
    return Step(legs, 30.0, summary, COSTS, 12, 1.13, 2)
