"""Levels that rise while a figure stays high, and fall while it stays low; pure: the caller says what time it is."""

from __future__ import annotations


class Hysteresis:
    """A level from 0 up, one step at a time.

    A figure between the two thresholds holds the level, and both waits begin anew.

    Attributes:
        level: now.
    """

    def __init__(self, levels: int, high: float, low: float, rise_s: float, fall_s: float) -> None:
        """Starts at level 0.

        Args:
            levels: the highest level.
            high: above it for `rise_s`, the level rises by one.
            low: not above it for `fall_s`, the level falls by one; at most `high`.
            rise_s: seconds.
            fall_s: seconds.
        """
        assert low <= high
        self.level = 0
        self._levels = levels
        self._high, self._low = high, low
        self._rise_s, self._fall_s = rise_s, fall_s
        self._high_since: float | None = None
        self._low_since: float | None = None

    def observe(self, value: float, now_s: float) -> int:
        """Take a figure in.

        Args:
            value: the figure.
            now_s: seconds of a clock that never goes back.

        Returns:
            The level from now on.
        """
        if value > self._high:
            self._low_since = None
            if self._high_since is None:
                self._high_since = now_s
            if now_s - self._high_since >= self._rise_s and self.level < self._levels:
                self.level += 1
                self._high_since = now_s
        elif value <= self._low:
            self._high_since = None
            if self._low_since is None:
                self._low_since = now_s
            if now_s - self._low_since >= self._fall_s and self.level > 0:
                self.level -= 1
                self._low_since = now_s
        else:
            self._high_since = self._low_since = None
        return self.level
