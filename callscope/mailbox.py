"""The bounded queue of one client's results: under pressure the oldest interim one goes first, no final one is lost."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """First in, first out, with two ranks.

    Interim and final items lie in two queues, each with its place in the common order, so that making room costs
    the same however full it is.

    Attributes:
        dropped: items that had to go since the last `take_dropped()`.
        overflowed: a final item found no room and no interim one to give way. It is lost: end the connection.
    """

    def __init__(self, limit: int) -> None:
        """Makes an empty one.

        Args:
            limit: items it holds at most.
        """
        self._limit = limit
        self._interim: deque[tuple[int, T]] = deque()
        self._final: deque[tuple[int, T]] = deque()
        self._place = 0
        self.dropped = 0
        self.overflowed = False

    def __len__(self) -> int:
        return len(self._interim) + len(self._final)

    def put(self, item: T, *, final: bool) -> int:
        """Takes an item in.

        Returns:
            how many items had to go for that: 0 or 1; the new one itself, where it is interim and all others are final.
        """
        gone = 0
        if len(self) >= self._limit:
            if self._interim:
                self._interim.popleft()
            elif final:
                self.overflowed = True
                return 0
            self.dropped += 1
            gone = 1
            if not final and len(self) >= self._limit:
                return gone
        (self._final if final else self._interim).append((self._place, item))
        self._place += 1
        return gone

    def take(self) -> T:
        """The oldest item.

        Raises:
            IndexError: there is none.
        """
        if self._interim and (not self._final or self._interim[0][0] < self._final[0][0]):
            return self._interim.popleft()[1]
        return self._final.popleft()[1]

    def take_dropped(self) -> int:
        """How many items had to go since this was last asked."""
        dropped, self.dropped = self.dropped, 0
        return dropped
