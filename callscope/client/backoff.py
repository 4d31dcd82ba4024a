"""How long to wait before trying again: exponentially longer, with jitter, so that many do not come back at once."""

from __future__ import annotations

import random


class Backoff:
    """Pauses between attempts.

    Args:
        first_s: the first pause, at most.
        longest_s: no pause is longer.
    """

    def __init__(self, first_s: float = 0.25, longest_s: float = 15.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._attempt = 0

    def next_s(self) -> float:
        """The next pause: between half of it and all of it, doubled each time."""
        longest = min(self._longest_s, self._first_s * 2.0 ** min(self._attempt, 30))
        self._attempt += 1
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  # spreads load, keeps no secret

    def reset(self) -> None:
        """It worked: the next pause is a first one again."""
        self._attempt = 0
