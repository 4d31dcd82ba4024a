"""Which stages leave work out while a worker is behind: infer first, then extract, never detect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from callscope.config import Overload
from callscope.hysteresis import Hysteresis

ORDER: Final = ("infer", "extract")
"""Stages in the order in which they are shed; what is not named here never is."""

SMOOTHING_S: Final = 0.5
"""Time constant of the mean lag that decides when work is taken up again."""


class Shedding:
    """The policy of one worker.

    It is the same whatever stages a worker runs. So where each stage has workers of its own, extract waits twice as
    long before it sheds as infer does, and the order holds there too, if all of them are late.

    Args:
        config: thresholds and times.
        stages: those that run in the worker.
    """

    def __init__(self, config: Overload, stages: Sequence[str]) -> None:
        self._stages = stages
        self._live_ms = config.live_s * 1_000
        self._levels = Hysteresis(
            len(ORDER) if config.shed else 0,
            config.lag_ms,
            config.calm_ms,
            config.rise_s,
            config.fall_s,
            SMOOTHING_S,
        )

    @property
    def level(self) -> int:
        """0: nothing is shed; 1: infer; 2: extract too."""
        return self._levels.level

    @property
    def shed(self) -> tuple[str, ...]:
        """The stages of this worker that leave work out now, in the order in which they began to."""
        return tuple(stage for stage in ORDER[: self.level] if stage in self._stages)

    def lag_ms(self, ages_ms: Iterable[float]) -> float | None:
        """How far behind live audio a worker is that begins to work on records of those ages.

        Old audio says nothing of that: an import or an outage's backlog is worked off in full. And a worker that fell
        so far behind while it shed goes on shedding.

        Args:
            ages_ms: milliseconds.

        Returns:
            The highest age of audio whose results somebody may be waiting for; None if there is none such.
        """
        return max((age for age in ages_ms if age <= self._live_ms), default=None)

    def observe(self, lag_ms: float, now_s: float) -> bool:
        """Take in how far behind the worker is; returns whether `shed` has changed.

        Args:
            lag_ms: milliseconds, from `lag_ms()`.
            now_s: seconds of any clock.
        """
        before = self.shed
        self._levels.observe(lag_ms, now_s)
        return self.shed != before
