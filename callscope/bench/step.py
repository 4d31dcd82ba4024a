"""One step of a load test, and how the next one follows from those before it; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from callscope.bench.costs import Cost
from callscope.bench.seen import Spread, Summary

LIMIT_MS: Final = 100.0
"""A step is within the limit while 99 % of its results were quicker."""
FIRST_LEGS: Final = 10
GRAIN: Final = 10
"""The limit is found to so many legs."""
GENERATOR: Final = "generator"


@dataclass(frozen=True, slots=True)
class Step:
    """What so many legs came to.

    Attributes:
        legs: how many at once.
        seconds: how long.
        seen: by the subscribers.
        costs: process → what it used.
        lag_records: most records of `audio.frames` that the workers had not committed at any look, with those that
            they keep for whoever takes over.
        busy_cores: of the machine's cores, how many were busy in the mean, with everything.
        cores: the machine's.
    """

    legs: int
    seconds: float
    seen: Summary
    costs: dict[str, Cost]
    lag_records: int
    busy_cores: float
    cores: int

    @property
    def within(self) -> bool:
        """Whether it was quick enough and nothing was lost or came twice."""
        return self.seen.latency.p99_ms < LIMIT_MS and not self.seen.lost and not self.seen.duplicated

    @property
    def cpu_ms_per_leg(self) -> float:
        """CPU time of everything but the generator, milliseconds per second and leg."""
        return sum(cost.cpu_ms_per_s for name, cost in self.costs.items() if name != GENERATOR) / self.legs

    @property
    def memory_mb_per_leg(self) -> float:
        """By how much everything but the generator has grown over the step, megabytes a leg."""
        return sum(cost.grown_mb for name, cost in self.costs.items() if name != GENERATOR) / self.legs

    def as_json(self) -> dict[str, Any]:
        """The step as `callscope bench --json` writes it."""
        latency = self.seen.latency

        def spread(of: Spread) -> dict[str, float | int | None]:
            return {
                "count": of.count,
                **{name: getattr(of, name) if of.count else None for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms")},
            }

        return {
            "legs": self.legs,
            "seconds": self.seconds,
            **spread(latency),
            "lost": self.seen.lost,
            "lost_because": self.seen.lost_because,
            "duplicated": self.seen.duplicated,
            "shed": self.seen.shed,
            "unpublished_s": self.seen.unpublished_s,
            "within_limit": self.within,
            "by_type": {name: spread(of) for name, of in self.seen.by_type.items()},
            "stages": {name: spread(of) for name, of in self.seen.stages.items()},
            "speech_start_after_onset": spread(self.seen.onset),
            "cpu_ms_per_s": {name: cost.cpu_ms_per_s for name, cost in self.costs.items()},
            "cpu_ms_per_s_and_leg": round(self.cpu_ms_per_leg, 2),
            "memory_mb": {name: cost.memory_mb for name, cost in self.costs.items()},
            "memory_mb_per_leg": round(self.memory_mb_per_leg, 2),
            "lag_records": self.lag_records,
            "busy_cores": self.busy_cores,
            "cores": self.cores,
        }


def next_legs(steps: Sequence[Step]) -> int | None:
    """How many legs to try next: twice as many while it goes well, then halfway between what did and what did not.

    Args:
        steps: those before, at least one within the limit unless the first was not.

    Returns:
        None when the limit is known to `GRAIN` legs.
    """
    if not steps:
        return FIRST_LEGS
    most = max((step.legs for step in steps if step.within), default=0)
    too_many = min((step.legs for step in steps if not step.within and step.legs > most), default=None)
    if too_many is None:
        return most * 2
    halfway = (most + too_many) // 2 // GRAIN * GRAIN
    return halfway if most < halfway < too_many else None
