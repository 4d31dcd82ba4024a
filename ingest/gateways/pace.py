"""A rate that is kept by waiting: a token bucket that knows no clock of its own."""

from __future__ import annotations


class Pace:
    """So many units a second, and `burst` of them at once.

    Args:
        per_s: units a second, more than 0.
        burst: units that need no waiting after a time of rest.
    """

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._at: float | None = None

    def delay_s(self, units: float, now: float) -> float:
        """How long to wait before `units` more may be taken; they count as taken.

        Args:
            units: not negative; more than `burst` is waited for, not refused.
            now: seconds on any clock that only goes forward.
        """
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        self._left -= units
        return max(0.0, -self._left / self._per_s)
