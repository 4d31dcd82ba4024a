"""Lets streams outlive their worker: marks written before a commit, read where partitions are taken over.

A *mark* (`processors.stages.marks`) says from which record on a stream has to be read again, and the few numbers that
its audio does not tell. A round, before every commit:

1. the streams are asked what holds of them now;
2. when Kafka has acknowledged all results of the records worked on so far, the marks that have moved are written;
3. when Kafka has acknowledged these, the commit may move up to the first record that any stream still needs.

So whatever is committed, everything before it is delivered, and whoever goes on from there finds marks that fit. It
reads them, reads on from the commit, and passes over what the marks say is not needed.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Protocol

from faust.types import TP

from callscope.clock import monotonic
from callscope.streams import StreamId
from callscope.topics import partition_of
from processors import mark_wire, telemetry
from processors.keeping import Keeper
from processors.mark_reader import Marks
from processors.record_reader import Polled

POLL_S = 0.01
"""How often delivery is looked at while a round waits for it."""

PutMark = Callable[[str, int, bytes, Callable[[], None]], Awaitable[None]]
"""`Outbox.put_mark`."""


class Progress(Protocol):
    """How far a worker is in its partitions."""

    def given_to(self, tp: TP) -> int | None:
        """Offset behind the records that are worked on, or were; None: none yet."""

    def finished_to(self, tp: TP) -> int | None:
        """Offset behind those of which all results are delivered; None: none yet."""


class Recovery:
    """The marks of one worker.

    Args:
        group: its consumer group.
        keepers: the topics that it reads, and who follows the streams on them.
        partitions: of every topic.
        put: produces a mark.
        read: reads those of other workers, of some partitions; may block.
        taken_over: called when partitions have been taken over, before their records are worked on.
    """

    def __init__(
        self,
        group: str,
        keepers: Mapping[str, Keeper],
        partitions: int,
        put: PutMark,
        read: Callable[[Collection[int]], Marks],
        taken_over: Callable[[], None],
    ) -> None:
        self._group = group
        self._keepers = keepers
        self._partitions = partitions
        self._put = put
        self._read = read
        self._taken_over = taken_over
        self._epoch = 0
        self._floors: dict[TP, int] = {}
        self._written: dict[TP, dict[StreamId, bytes]] = defaultdict(dict)
        """Running streams' marks as Kafka has them."""
        self._unwritten: dict[TP, dict[StreamId, tuple[bytes, bool]]] = defaultdict(dict)
        """Marks that are not on their way yet, and whether their stream has ended."""
        self._under_way: Counter[TP] = Counter()
        """Marks that Kafka has not acknowledged."""
        self._unneeded: dict[TP, tuple[int, dict[bytes, int]]] = {}
        """By key: up to which offset its records need not be read; and the highest of these offsets."""

    def floor(self, tp: TP) -> int | None:
        """Offset up to which a partition may be committed; None: nothing of it yet."""
        return self._floors.get(tp)

    def drop(self, tps: Iterable[TP]) -> None:
        """Partitions are given up: forget their streams, without a word."""
        gone = set(tps)
        numbers = {tp.partition for tp in gone}

        def belongs(stream: StreamId) -> bool:
            return partition_of(stream.call_id, self._partitions) in numbers

        self._epoch += 1
        for keeper in self._keepers.values():
            keeper.drop(belongs)
        for tp in gone:
            self._floors.pop(tp, None)
            self._written.pop(tp, None)
            self._unwritten.pop(tp, None)
            self._under_way.pop(tp, None)
            self._unneeded.pop(tp, None)

    async def take_over(self, tps: Collection[TP]) -> None:
        """Partitions are to be read from their commit on: know what others knew of their streams.

        Raises:
            KafkaUnreachable: Kafka did not give the marks.
        """
        self.drop(tps)
        epoch, began = self._epoch, monotonic()
        numbers = sorted({tp.partition for tp in tps})
        found = await asyncio.to_thread(self._read, numbers)
        if epoch != self._epoch:  # others have them by now
            return
        running = 0
        unneeded: dict[TP, dict[bytes, int]] = defaultdict(dict)
        for topic, keeper in self._keepers.items():
            marks = found.get(topic, {}).values()
            for mark in marks:
                tp = self._tp(topic, mark.stream)
                unneeded[tp][str(mark.stream).encode()] = mark.offset
                if not mark.ended:
                    running += 1
                    self._written[tp][mark.stream] = mark_wire.encode(self._group, topic, mark)
            keeper.resume(marks)
        self._unneeded.update({tp: (max(offsets.values()), offsets) for tp, offsets in unneeded.items()})
        telemetry.partitions_taken_over(len(tps), running, monotonic() - began)
        self._taken_over()

    def needed(self, tp: TP, records: list[Polled]) -> list[Polled]:
        """Of the records that follow, those that are to be worked on."""
        if tp not in self._unneeded:
            return records
        highest, unneeded = self._unneeded[tp]
        if records[-1].offset >= highest:
            del self._unneeded[tp]
        return [record for record in records if record.offset >= unneeded.get(record.key or b"", 0)]

    async def write(self, tps: Collection[TP], progress: Progress, timeout_s: float) -> None:
        """A round. What cannot be written in time is left to the next one.

        Args:
            tps: the partitions that are worked on.
            progress: how far.
            timeout_s: how long it may take until results and marks are delivered.

        Raises:
            RuntimeError: Kafka did not take a record.
        """
        epoch, deadline = self._epoch, monotonic() + timeout_s
        floors = {tp: offset for tp in tps if (offset := progress.finished_to(tp)) is not None}
        given = {tp: progress.given_to(tp) or 0 for tp in floors}
        self._ask(floors)
        while monotonic() < deadline and not all(  # noqa: ASYNC110  # counts fall in a C callback
            _reached(progress, tp, given[tp]) for tp in floors
        ):
            await asyncio.sleep(POLL_S)
        if epoch != self._epoch:
            return
        for tp in [tp for tp in floors if not _reached(progress, tp, given[tp])]:
            telemetry.marks_late()
            del floors[tp]
        await self._send(floors)
        while monotonic() < deadline and any(self._under_way[tp] for tp in floors):  # noqa: ASYNC110  # likewise
            await asyncio.sleep(POLL_S)
        if epoch == self._epoch:
            self._floors.update({tp: offset for tp, offset in floors.items() if not self._under_way[tp]})

    def _ask(self, floors: dict[TP, int]) -> None:
        """Note the marks that have moved, and lower the floors to what streams need."""
        for topic, keeper in self._keepers.items():
            for stream, needs, mark in keeper.kept():
                tp = self._tp(topic, stream)
                if needs is not None and tp in floors and needs < floors[tp]:
                    floors[tp] = needs
                if mark is None:
                    continue
                value = mark_wire.encode(self._group, topic, mark)
                if mark.ended or self._written[tp].get(stream) != value:
                    self._unwritten[tp][stream] = value, mark.ended

    async def _send(self, tps: Iterable[TP]) -> None:
        """Produce the marks of some partitions."""
        for tp in tps:
            for stream, (value, ended) in self._unwritten.pop(tp, {}).items():
                self._under_way[tp] += 1
                delivered = partial(self._delivered, self._epoch, tp, stream, None if ended else value)
                await self._put(mark_wire.key(self._group, tp.topic, stream), tp.partition, value, delivered)

    def _delivered(self, epoch: int, tp: TP, stream: StreamId, value: bytes | None) -> None:
        telemetry.marks_written(1)
        if epoch != self._epoch:
            return
        self._under_way[tp] -= 1
        if value is None:
            self._written[tp].pop(stream, None)
        else:
            self._written[tp][stream] = value

    def _tp(self, topic: str, stream: StreamId) -> TP:
        return TP(topic, partition_of(stream.call_id, self._partitions))


def _reached(progress: Progress, tp: TP, offset: int) -> bool:
    return (progress.finished_to(tp) or 0) >= offset
