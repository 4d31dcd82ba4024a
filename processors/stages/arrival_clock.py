"""How time goes by in a partition, by the arrival stamps of its records, undisturbed by clocks that jump."""

from __future__ import annotations

from typing import Final

LONGEST_STEP_NS: Final = 10_000_000_000


class ArrivalClock:
    """Advances as the newest arrival stamp does, by at most 10 s a record.

    Stamps are of the gateways' wall clocks: these may be set by an hour at once, and two gateways may disagree. A stamp
    far ahead therefore counts for little, and one behind for nothing; each stream's silence is to be measured by this
    clock's time at its records, not by the stamps. After a quiet time of all streams it is slow, which only makes
    somebody wait a little longer.
    """

    def __init__(self) -> None:
        self._newest_ns = 0
        self.now_ns = 0
        """Nanoseconds since the first record."""

    def heard(self, arrived_ns: int) -> int:
        """Take in a record's arrival; returns `now_ns`.

        Args:
            arrived_ns: nanoseconds since the epoch, by the clock of the gateway it came to.
        """
        if arrived_ns > self._newest_ns:
            if self._newest_ns:
                self.now_ns += min(arrived_ns - self._newest_ns, LONGEST_STEP_NS)
            self._newest_ns = arrived_ns
        return self.now_ns
