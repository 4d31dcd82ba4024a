"""Gathers the batches of several partitions into one, so that a model runs on many streams at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from processors.records import Envelope
from processors.transport import Batch


class Gathering:
    """Batches that wait for company.

    They wait until there are enough records, until one has waited long enough, or until no more are coming: nothing
    ever waits for records that are not there yet. A batch that waits counts as undelivered, so that it is not committed
    before its results are.

    Args:
        max_records: enough.
        max_wait_s: long enough.
        clock: seconds on a clock that never jumps.
    """

    def __init__(self, max_records: int, max_wait_s: float, clock: Callable[[], float]) -> None:
        self._max_records = max_records
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._waiting: list[Batch] = []
        self._since = 0.0

    def add(self, batch: Batch, *, more_coming: bool) -> list[Batch]:
        """Take in a batch.

        Args:
            batch: the next one.
            more_coming: whether another can be had at once.

        Returns:
            The batches whose time has come, in order: all that waited, or none. `done` is to be told when their results
            have been sent.
        """
        if not self._waiting:
            self._since = self._clock()
        batch.undelivered += 1
        self._waiting.append(batch)
        enough = sum(len(waiting.records) for waiting in self._waiting) >= self._max_records
        if more_coming and not enough and self._clock() - self._since < self._max_wait_s:
            return []
        ready, self._waiting = self._waiting, []
        return ready

    def done(self, batches: Collection[Batch]) -> None:
        """The results of batches have been handed to the producer, which counts them from here on."""
        for batch in batches:
            batch.undelivered -= 1

    def drop(self) -> None:
        """Forget what waits: its partitions are given up, and whoever has them next reads it again."""
        self._waiting = []


def shares(
    arrived: Sequence[tuple[Batch, Sequence[Envelope]]], results: Sequence[Envelope]
) -> list[tuple[Batch, list[Envelope]]]:
    """Which results count for which batch: a stream's for the first one that holds anything of it."""
    origin = {envelope.record.stream: batch for batch, envelopes in reversed(arrived) for envelope in envelopes}
    return [(batch, [result for result in results if origin[result.record.stream] is batch]) for batch, _ in arrived]
