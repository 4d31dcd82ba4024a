"""When a detector's memory is renewed: at a silence, by a fresh one that has heard the same audio beside it before.

What a detector says then depends on the audio since its present memory was fresh, and on nothing before: a drift
cannot go on for ever, and whoever has that audio can rebuild the memory, to the bit.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Birth(NamedTuple):
    """From where a detector's memory can be rebuilt.

    Attributes:
        age_hops: hops it has heard since it was fresh.
        primed: whether, fresh, it was shown the end of the audio before.
        floor_dbfs: the noise floor, where that is all it remembers; None elsewhere.
    """

    age_hops: int
    primed: bool = False
    floor_dbfs: float | None = None


class Step(Enum):
    """What a detector does after a hop."""

    GO_ON = 0
    BEGIN = 1
    """Let a fresh memory hear what follows beside the present one."""
    TAKE_OVER = 2
    """The fresh memory takes the present one's place."""


class Renewal:
    """Counts hops, that is media time.

    Attributes:
        age_hops: of the present memory.

    Args:
        after: hops after which a memory is renewed at the next silence.
        anyway_after: and after which it is without waiting for any.
        silent: how many silent hops in a row are a silence; far fewer than `warm_up`.
        warm_up: hops that a fresh memory hears before it takes over; at most `after`.
    """

    def __init__(self, after: int, anyway_after: int, silent: int, warm_up: int) -> None:
        self._after = after
        self._anyway_after = anyway_after
        self._silent = silent
        self._warm_up = warm_up
        self.begin()

    def begin(self) -> None:
        """The present memory is fresh, and alone."""
        self.age_hops = 0
        self._young_hops: int | None = None
        self._silent_hops = 0

    def heard(self, *, silent: bool) -> Step:
        """Take in that all memories have heard a hop.

        Args:
            silent: what the present one said of it.
        """
        self.age_hops += 1
        self._silent_hops = self._silent_hops + 1 if silent else 0
        if self._young_hops is not None:
            self._young_hops += 1
            if self._young_hops >= self._warm_up:
                self.age_hops, self._young_hops = self._young_hops, None
                return Step.TAKE_OVER
        elif self.age_hops >= (self._after if self._silent_hops >= self._silent else self._anyway_after):
            self._young_hops = 0
            return Step.BEGIN
        return Step.GO_ON
