"""A topic's partition in memory, and workers of one stage that read it: killed and taken over at any record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from callscope.streams import StreamId
from processors import mark_wire, wire
from processors.keeping import Keeper
from processors.records import Envelope
from processors.stages.marks import StreamMark

GROUP = "group"
Step = Callable[[Sequence[Envelope]], list[Envelope]]


class Partition:
    """Records with offsets, as bytes."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.values: list[bytes] = []

    def append(self, envelopes: Iterable[Envelope]) -> None:
        """Those that belong on this topic."""
        self.values += [wire.encode(e) for e in envelopes if wire.topic_of(e.record).name == self.topic]

    def read(self, begin: int, end: int) -> list[Envelope]:
        return [wire.decode(self.topic, self.values[offset], offset) for offset in range(begin, end)]


class Worker:
    """One that has everything delivered at once, and commits as often as it is told.

    Args:
        partition: what it reads.
        step: what it does.
        keeper: who follows its streams.
        marks: what Kafka holds of worker.marks, by key.
        committed: where to begin.
    """

    def __init__(
        self, partition: Partition, step: Step, keeper: Keeper, marks: dict[str, bytes], committed: int
    ) -> None:
        self._partition = partition
        self._step = step
        self._keeper = keeper
        self._marks = marks
        self.at = self.committed = committed
        known = [found[1] for value in marks.values() if (found := mark_wire.decode(value, GROUP)) is not None]
        keeper.resume(known)
        self._unneeded = {mark.stream: mark.offset for mark in known}

    def work(self, end: int) -> list[Envelope]:
        """Up to an offset; returns what comes of it."""
        records = [
            envelope
            for envelope in self._partition.read(self.at, end)
            if envelope.offset >= self._unneeded.get(envelope.record.stream, 0)
        ]
        self.at = end
        return self._step(records)

    def commit(self) -> None:
        floor = self.at
        for stream, needs, mark in self._keeper.kept():
            if needs is not None:
                floor = min(floor, needs)
            if mark is not None:
                self._write(stream, mark)
        assert floor >= self.committed, "commits never go back"
        self.committed = floor

    def _write(self, stream: StreamId, mark: StreamMark) -> None:
        value = mark_wire.encode(GROUP, self._partition.topic, mark)
        found = mark_wire.decode(value, GROUP)
        assert found == (self._partition.topic, mark), "nothing is lost on the wire"
        self._marks[mark_wire.key(GROUP, self._partition.topic, stream)] = value


def without_ledger(envelopes: Iterable[Envelope]) -> set[str]:
    """Results as they count, once, whenever they were found: topic, stream and a hash of it."""
    return {
        f"{wire.topic_of(e.record).name} {e.record.stream} {sha256(wire.encode(Envelope(e.record))).hexdigest()[:12]}"
        for e in envelopes
    }
