"""How often, and after how long, a process that ended by itself is started again."""

from __future__ import annotations

from typing import Final

DELAYS_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Before the first start again, the second one, ...; who ends once more than that is not started any more."""
SOUND_S: Final = 60.0
"""A process that ran for so long is sound: what it ended of is nothing it does at every start."""


class Restarts:
    """The policy for one process."""

    def __init__(self, now_s: float) -> None:
        """It has been started.

        Args:
            now_s: seconds of any clock that only goes on.
        """
        self._started_s = now_s
        self._ends = 0

    @property
    def ends(self) -> int:
        """How often it ended in a row, soon after its start."""
        return self._ends

    def ended(self, now_s: float) -> float | None:
        """It has ended; returns after how many seconds it is to be started again, None: never."""
        if now_s - self._started_s >= SOUND_S:
            self._ends = 0
        self._ends += 1
        return DELAYS_S[self._ends - 1] if self._ends <= len(DELAYS_S) else None

    def started(self, now_s: float) -> None:
        """It has been started again."""
        self._started_s = now_s
