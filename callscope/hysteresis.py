"""Levels that rise while a figure stays high, and fall while it stays low; pure: the caller says what time it is."""

from __future__ import annotations

import math


class Hysteresis:
    """A level from 0 up, one step at a time.

    It rises when every figure of some time was high. It falls when the running mean was low for some time: single high
    figures, which a busy machine always has, do not keep it up. A high figure soon after a fall says that it fell too
    early: then it rises again at once, so that trying whether things are better costs little where they are not.

    Attributes:
        level: now.
    """

    def __init__(
        self, levels: int, high: float, low: float, rise_s: float, fall_s: float, smoothing_s: float = 0.0
    ) -> None:
        """Starts at level 0.

        Args:
            levels: the highest level.
            high: above it for `rise_s`, or at all in the `fall_s` after a fall, the level rises by one.
            low: the running mean not above it for `fall_s`, the level falls by one; at most `high`.
            rise_s: seconds.
            fall_s: seconds.
            smoothing_s: time constant of the running mean; 0: the last figure alone.
        """
        assert low <= high
        self.level = 0
        self._levels = levels
        self._high, self._low = high, low
        self._rise_s, self._fall_s = rise_s, fall_s
        self._smoothing_s = smoothing_s
        self._mean = 0.0
        self._last = (0.0, 0.0)
        self._high_since: float | None = None
        self._low_since: float | None = None
        self._fell_at = -math.inf

    def observe(self, value: float, now_s: float) -> int:
        """Take a figure in; it holds until the next one.

        Args:
            value: the figure.
            now_s: seconds of a clock that never goes back.

        Returns:
            The level from now on.
        """
        self._high_since = self._since(self._high_since, value > self._high, now_s)
        self._low_since = self._since(self._low_since, self._running_mean(value, now_s) <= self._low, now_s)
        if self._high_since is not None and now_s - self._high_since >= self._rise_wait_s(now_s):
            if self.level < self._levels:
                self.level += 1
                self._high_since = now_s
            self._low_since = None
        elif self._low_since is not None and now_s - self._low_since >= self._fall_s and self.level > 0:
            self.level -= 1
            self._low_since = self._fell_at = now_s
        return self.level

    def _rise_wait_s(self, now_s: float) -> float:
        return 0.0 if now_s - self._fell_at <= self._fall_s else self._rise_s

    def _running_mean(self, value: float, now_s: float) -> float:
        if self._smoothing_s == 0:
            return value
        before, since_s = self._last
        self._mean += (before - self._mean) * -math.expm1(-max(0.0, now_s - since_s) / self._smoothing_s)
        self._last = value, now_s
        return self._mean

    @staticmethod
    def _since(since_s: float | None, holds: bool, now_s: float) -> float | None:
        if not holds:
            return None
        return now_s if since_s is None else since_s
