"""Whether new streams are taken: how far behind workers are, what the spool can keep; pure, time is the caller's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from callscope.config import Admission as AdmissionConfig
from callscope.hysteresis import Hysteresis

OVERDUE_S: Final = 5.0
"""A worker says how it is doing every second; one that says nothing for so long falls behind from then on."""


@dataclass(frozen=True, slots=True)
class _Report:
    lag_ms: float
    heard_s: float


class Admission:
    """Refuses new streams while a worker is too far behind.

    One worker decides for all: which worker a call will come to is Kafka's affair. With none heard of, everything is
    taken: a gateway needs no workers.

    Args:
        config: limits and times.
    """

    def __init__(self, config: AdmissionConfig) -> None:
        self._forget_s = config.forget_s
        self._reports: dict[str, _Report] = {}
        self._spool_trouble: str | None = None
        self._levels = Hysteresis(
            1 if config.enabled else 0,
            config.refuse_lag_ms,
            config.admit_lag_ms,
            config.refuse_after_s,
            config.admit_after_s,
        )

    @property
    def admits(self) -> bool:
        """Whether new streams are taken as far as the workers are concerned."""
        return self._levels.level == 0

    @property
    def refusal(self) -> str | None:
        """Why new streams are not taken, for their senders; None where they are."""
        if not self.admits:
            return "The analysis is overloaded: calls that run go on, new ones are refused. Try again later."
        if self._spool_trouble is not None:
            return f"Kafka is away, {self._spool_trouble}: calls that run go on, new ones are refused. Try again later."
        return None

    def spool(self, trouble: str | None) -> None:
        """Why the spool has no room for new streams; None if it has. It counts whatever the settings say of lag."""
        self._spool_trouble = trouble

    def heard(self, worker: str, lag_ms: float, now_s: float) -> None:
        """A worker said how far behind it is."""
        self._reports[worker] = _Report(lag_ms, now_s)

    def left(self, worker: str) -> None:
        """A worker said that it ends."""
        self._reports.pop(worker, None)

    def lag_ms(self, now_s: float) -> float:
        """Of the worker that is farthest behind; one that says nothing any more is so much farther."""
        self._reports = {w: r for w, r in self._reports.items() if now_s - r.heard_s < self._forget_s}
        return max((r.lag_ms + _overdue_ms(now_s - r.heard_s) for r in self._reports.values()), default=0.0)

    def look(self, now_s: float) -> bool:
        """To be called about every second; returns whether `admits` has changed.

        Args:
            now_s: seconds of a clock that never goes back, the same as for `heard`.
        """
        before = self.admits
        self._levels.observe(self.lag_ms(now_s), now_s)
        return self.admits != before


def _overdue_ms(silence_s: float) -> float:
    return silence_s * 1_000 if silence_s > OVERDUE_S else 0.0
