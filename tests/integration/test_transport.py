"""The record-batch transport against a real broker: what is delivered, and what is committed."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial

import faust
import pytest
from confluent_kafka import TopicPartition
from faust.types import TP

from callscope.config import Settings
from callscope.kafka import consumer, ensure_topics, producer
from callscope.topics import Topic
from processors.record_reader import Polled, RecordReader
from processors.transport import Batch, Fetch, RecordBatches, Transport

pytestmark = pytest.mark.integration

PARTITIONS = 8


@pytest.fixture
def topic(kafka: Settings) -> Topic:
    made = Topic(f"transport-{uuid.uuid4().hex[:8]}", "stream", "none", "test", 3_600_000)
    ensure_topics(kafka, (made,))
    return made


def produce(kafka: Settings, topic: Topic, first: int, count: int) -> None:
    writer = producer(kafka)
    for number in range(first, first + count):
        writer.produce(topic.name, value=str(number), partition=number % PARTITIONS)
    assert writer.flush(10) == 0


def committed(kafka: Settings, topic: Topic, group: str) -> dict[int, int]:
    asked = consumer(kafka, **{"group.id": group})
    try:
        found = asked.committed([TopicPartition(topic.name, n) for n in range(PARTITIONS)], timeout=10)
        return {partition.partition: max(partition.offset, 0) for partition in found}
    finally:
        asked.close()


@asynccontextmanager
async def worker(
    kafka: Settings, topic: Topic, group: str, work: Callable[[Batch], None], *others: Topic
) -> AsyncIterator[faust.App]:
    app = faust.App(
        group,
        broker=f"callscope://{kafka.kafka}",
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=0.2,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        table_standby_replicas=1,
        datadir=tempfile.gettempdir(),
    )

    async def agent(fetches: AsyncIterator[Fetch]) -> None:
        async for fetch in fetches:
            for batch in fetch.batches.values():
                work(batch)

    for read in (topic, *others):
        app.agent(app.topic(read.name, schema=RecordBatches()), name=f"work-{read.name}")(agent)

    await app.start()
    try:
        yield app
    finally:
        await app.stop()


def number(record: Polled) -> int:
    assert record.value is not None
    return int(record.value)


def collect_into(seen: list[int]) -> Callable[[Batch], None]:
    return lambda batch: seen.extend(number(record) for record in batch.records)


def reached(seen: list[int], count: int) -> bool:
    return len(seen) >= count


async def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # polls a broker
            await asyncio.sleep(0.05)


async def test_every_record_is_delivered_once_in_order_and_committed(kafka: Settings, topic: Topic) -> None:
    seen: dict[int, list[int]] = {n: [] for n in range(PARTITIONS)}
    group = f"{topic.name}-group"

    def work(batch: Batch) -> None:
        seen[batch.tp.partition] += [number(record) for record in batch.records]

    produce(kafka, topic, 0, 400)
    async with worker(kafka, topic, group, work):
        await until(lambda: sum(map(len, seen.values())) == 400)
        produce(kafka, topic, 400, 400)
        await until(lambda: sum(map(len, seen.values())) == 800)
    for partition, numbers in seen.items():
        assert numbers == list(range(partition, 800, PARTITIONS))
    assert committed(kafka, topic, group) == dict.fromkeys(range(PARTITIONS), 100)


async def test_a_restarted_worker_goes_on_where_it_stopped(kafka: Settings, topic: Topic) -> None:
    group = f"{topic.name}-group"
    runs: list[list[int]] = [[], []]
    for run in (0, 1):
        seen = runs[run]
        produce(kafka, topic, 80 * run, 80)
        async with worker(kafka, topic, group, collect_into(seen)):
            await until(partial(reached, seen, 80))
    assert sorted(runs[0]) == list(range(80))
    assert sorted(runs[1]) == list(range(80, 160))


async def test_nothing_is_committed_past_a_batch_whose_results_are_not_delivered(kafka: Settings, topic: Topic) -> None:
    group = f"{topic.name}-group"
    held: list[Batch] = []
    seen: Counter[int] = Counter()

    def work(batch: Batch) -> None:
        seen[batch.tp.partition] += len(batch.records)
        if batch.tp.partition == 3 and not held:
            batch.undelivered = 1
            held.append(batch)

    produce(kafka, topic, 0, 80)
    async with worker(kafka, topic, group, work):
        await until(lambda: sum(seen.values()) == 80)
        produce(kafka, topic, 80, 80)
        await until(lambda: sum(seen.values()) == 160)
        await until(lambda: committed(kafka, topic, group)[4] == 20)
        assert committed(kafka, topic, group)[3] == 0
        held[0].undelivered = 0
        await until(lambda: committed(kafka, topic, group)[3] == 20)


async def test_a_second_worker_takes_partitions_over_and_nothing_is_lost(kafka: Settings, topic: Topic) -> None:
    group = f"{topic.name}-group"
    seen: list[Counter[int]] = [Counter(), Counter()]

    def work(name: int) -> Callable[[Batch], None]:
        return lambda batch: seen[name].update(number(record) for record in batch.records)

    produce(kafka, topic, 0, 160)
    async with worker(kafka, topic, group, work(0)):
        await until(lambda: len(seen[0]) == 160)
        async with worker(kafka, topic, group, work(1)):
            produced = 160
            while not seen[1] and produced < 16_000:
                produce(kafka, topic, produced, 80)
                produced += 80
                await asyncio.sleep(0.1)
            await until(lambda: len(seen[0] | seen[1]) == produced)
    assert seen[1], "the second worker got no partition"
    ends = {n: produced // PARTITIONS for n in range(PARTITIONS)}
    assert committed(kafka, topic, group) == ends


class Takings:
    """A recovery that notes in which order partitions are taken over and their records given out."""

    def __init__(self) -> None:
        self.seen: list[str | int] = []

    async def take_over(self, partitions: Collection[TP]) -> None:
        if partitions:
            self.seen.append("begin")

    def needed(self, partition: TP, records: list[Polled]) -> list[Polled]:
        self.seen += map(number, records)
        return records

    def floor(self, partition: TP) -> None:
        return None

    async def write(self, *_: object) -> None:
        return None


async def test_a_fetch_that_was_waited_for_across_a_seek_is_read_again_by_streams_that_begin_again(
    kafka: Settings, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    takings = Takings()
    monkeypatch.setattr(Transport, "recovery", takings)
    waited_for = RecordReader.ready
    seeks: list[int] = []

    async def ready(reader: RecordReader, timeout_s: float) -> dict[TP, list[Polled]]:
        found = await waited_for(reader, timeout_s)
        if found and not seeks:
            seeks.append(1)
            await app.consumer.perform_seek()
        return found

    monkeypatch.setattr(RecordReader, "ready", ready)
    worked_on: list[int] = []
    async with worker(kafka, topic, f"{topic.name}-group", collect_into(worked_on)) as app:
        await until(lambda: "begin" in takings.seen)
        produce(kafka, topic, 0, 1)
        await until(lambda: reached(worked_on, 1))
        produce(kafka, topic, PARTITIONS, 1)
        await until(lambda: PARTITIONS in worked_on)
    assert seeks
    assert worked_on == [0, PARTITIONS]
    assert takings.seen[-3:] == ["begin", 0, PARTITIONS]


async def test_a_calls_partitions_of_all_topics_are_in_one_worker(kafka: Settings) -> None:
    """Faust's own assignor does that; aiokafka's round robin would part two topics of five partitions."""
    five = kafka.model_copy(update={"topics": kafka.topics.model_copy(update={"partitions": 5})})
    names = [f"transport-{uuid.uuid4().hex[:8]}-{n}" for n in range(2)]
    first, second = (Topic(name, "stream", "none", "test", 3_600_000) for name in names)
    ensure_topics(five, (first, second))
    seen: dict[str, set[tuple[str, int]]] = {"one": set(), "two": set()}
    writer = producer(kafka)

    def note(name: str) -> Callable[[Batch], None]:
        return lambda batch: seen[name].add((batch.tp.topic, batch.tp.partition))

    async with (
        worker(kafka, first, f"{names[0]}-group", note("one"), second),
        worker(kafka, first, f"{names[0]}-group", note("two"), second),
    ):
        async with asyncio.timeout(30):
            while not (all(seen.values()) and len(seen["one"] | seen["two"]) == 10 and not seen["one"] & seen["two"]):
                for partitions in seen.values():
                    partitions.clear()
                for name in names:
                    for number in range(5):
                        writer.produce(name, value=b"", partition=number)
                assert writer.flush(10) == 0
                await asyncio.sleep(1.0)
    for partitions in seen.values():
        assert {n for name, n in partitions if name == names[0]} == {n for name, n in partitions if name == names[1]}
