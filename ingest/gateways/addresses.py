"""How many connections each address has, from the moment they are made."""

from __future__ import annotations

from collections import defaultdict


class Addresses:
    """Counts connections by address.

    Args:
        limit: how many one may have. Some more are heard, so that they can be told so; twice as many are not.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: defaultdict[str, int] = defaultdict(int)

    def arrive(self, address: str) -> bool:
        """A connection was made; whether to hear it. `leave` must follow in any case."""
        self._counts[address] += 1
        return self._counts[address] <= 2 * self._limit

    def leave(self, address: str) -> None:
        """A connection is gone."""
        self._counts[address] -= 1
        if self._counts[address] <= 0:
            del self._counts[address]

    def has_too_many(self, address: str) -> bool:
        """Whether it has more than it may, those included that have arrived."""
        return self._counts.get(address, 0) > self._limit
