from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator

from faust.types import TP

from callscope.streams import StreamId
from callscope.topics import AUDIO_FRAMES, partition_of
from processors import mark_wire
from processors.keeping import Kept
from processors.mark_reader import Marks
from processors.record_reader import Polled
from processors.recovery import Recovery
from processors.stages.marks import ExtractMark, StreamMark

STREAM, OTHER = StreamId("a", "customer"), StreamId("b", "customer")
TOPIC = AUDIO_FRAMES.name
ONE = TP(TOPIC, 0)


def mark(stream: StreamId, offset: int, *, ended: bool = False) -> StreamMark:
    return StreamMark(stream, offset, offset + 10, 1, ended, extract=None if ended else ExtractMark())


class Streams:
    """A keeper whose streams the test makes."""

    def __init__(self) -> None:
        self.now: list[Kept] = []
        self.resumed: list[StreamMark] = []

    def kept(self) -> Iterator[Kept]:
        return iter(self.now)

    def resume(self, marks: Iterable[StreamMark]) -> None:
        self.resumed += marks

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        self.now = [kept for kept in self.now if not belongs(kept.stream)]


class Kafka:
    """Marks as they were produced, acknowledged when the test says so; and how far a worker is."""

    def __init__(self) -> None:
        self.produced: list[tuple[str, int]] = []
        self.unacknowledged: list[Callable[[], None]] = []
        self.acknowledges = True
        self.given, self.finished = 100, 100
        self.left: Marks = {}

    async def put(self, key: str, partition: int, value: bytes, delivered: Callable[[], None]) -> None:
        found = mark_wire.decode(value, "group")
        assert found is not None
        self.produced.append((key, found[1].offset))
        if self.acknowledges:
            delivered()
        else:
            self.unacknowledged.append(delivered)

    def read(self, partitions: Collection[int]) -> Marks:
        assert list(partitions) == [0]
        return self.left

    def given_to(self, tp: TP) -> int:
        return self.given

    def finished_to(self, tp: TP) -> int:
        return self.finished


def made() -> tuple[Recovery, Streams, Kafka]:
    streams, kafka = Streams(), Kafka()
    return Recovery("group", {TOPIC: streams}, 1, kafka.put, kafka.read, lambda: None), streams, kafka


async def write(recovery: Recovery, kafka: Kafka) -> int | None:
    await recovery.write([ONE], kafka, 0.05)
    return recovery.floor(ONE)


async def test_without_streams_all_that_is_finished_may_be_committed() -> None:
    recovery, _, kafka = made()
    assert recovery.floor(ONE) is None
    assert await write(recovery, kafka) == 100


async def test_a_commit_goes_no_further_than_any_stream_needs() -> None:
    recovery, streams, kafka = made()
    streams.now = [Kept(STREAM, 40, mark(STREAM, 40)), Kept(OTHER, None, mark(OTHER, 7)), Kept(OTHER, 60, None)]
    assert await write(recovery, kafka) == 40


async def test_marks_wait_for_the_results_and_the_commit_waits_for_the_marks() -> None:
    recovery, streams, kafka = made()
    streams.now = [Kept(STREAM, 40, mark(STREAM, 40))]
    kafka.finished = 90
    assert (await write(recovery, kafka), kafka.produced) == (None, [])
    kafka.finished, kafka.acknowledges = 100, False
    assert await write(recovery, kafka) is None
    assert len(kafka.produced) == 1
    streams.now = []
    assert await write(recovery, kafka) is None, "the first one is still under way"
    kafka.unacknowledged.pop()()
    assert await write(recovery, kafka) == 100


async def test_a_mark_that_has_not_moved_is_not_written_again() -> None:
    recovery, streams, kafka = made()
    streams.now = [Kept(STREAM, 40, mark(STREAM, 40))]
    await write(recovery, kafka)
    await write(recovery, kafka)
    assert kafka.produced == [(f"group {TOPIC} a/customer", 40)]
    streams.now = [Kept(STREAM, 50, mark(STREAM, 50))]
    assert await write(recovery, kafka) == 50
    assert len(kafka.produced) == 2


async def test_who_takes_over_knows_the_streams_and_passes_over_what_they_do_not_need() -> None:
    recovery, streams, kafka = made()
    kafka.left = {TOPIC: {STREAM: mark(STREAM, 40), OTHER: mark(OTHER, 30, ended=True)}}
    await recovery.take_over([ONE])
    assert {known.stream for known in streams.resumed} == {STREAM, OTHER}
    keys = (b"a/customer", b"b/customer", b"c/customer")
    records = [Polled(offset, key, b"", 0) for offset in (29, 30, 39, 40) for key in keys]
    needed = recovery.needed(ONE, records)
    assert [r.offset for r in needed if r.key == keys[0]] == [40]
    assert [r.offset for r in needed if r.key == keys[1]] == [30, 39, 40]
    assert [r.offset for r in needed if r.key == keys[2]] == [29, 30, 39, 40]
    later = [Polled(41, key, b"", 0) for key in keys]
    assert recovery.needed(ONE, later) == later
    streams.now = [Kept(STREAM, 40, mark(STREAM, 40))]
    await write(recovery, kafka)
    assert kafka.produced == [], "Kafka has it already"


async def test_a_round_that_a_rebalance_overtakes_moves_no_commit() -> None:
    recovery, streams, kafka = made()
    streams.now = [Kept(STREAM, 40, mark(STREAM, 40))]
    kafka.finished = 90
    writing = asyncio.create_task(recovery.write([ONE], kafka, 5.0))
    await asyncio.sleep(0.03)
    recovery.drop([ONE])
    kafka.finished = 100
    await writing
    assert (recovery.floor(ONE), kafka.produced) == (None, [])


def test_these_are_all_of_one_partition() -> None:
    assert {partition_of(stream.call_id, 1) for stream in (STREAM, OTHER)} == {0}
