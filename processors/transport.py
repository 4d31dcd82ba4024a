"""Faust on record batches: one event per topic and fetch, carrying all of that fetch's records, partition by partition.

Faust hands every single record through a queue, an event and an interval tree; at thousands of 20 ms frames a second
that is most of its cost. This transport keeps Faust's consumer group, rebalancing, flow control and agents, and makes
four changes:

- what a fetch brought of a topic becomes one message whose value is a `Fetch`, with a `Batch` for each partition, so
  that an agent works on all its streams together;
- what may be committed of a partition is read off its batches in the order of their delivery: up to the first one that
  an agent has not finished, or whose results Kafka has not acknowledged. Holes in the offsets need no bookkeeping;
- the next fetch is taken when the agents have finished the last one, so queues cannot grow;
- topics are read with `RecordBatches`, a schema that leaves keys and values alone.

Registered in the entry-point group `faust.transports`; a broker URL `callscope://host:port` selects it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from faust.serializers.schemas import Schema
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage, Message
from mode.utils.futures import notify

from callscope.clock import monotonic

MORE_THAN_COMES = 1 << 24
"""Bytes that no fetch of some milliseconds finds, so that the broker holds it to the end of its wait."""
RATE_OVER_S = 0.5
"""Over which span the rate of records is taken."""
FLOW_CHECK_S = 0.2
"""How long a rebalance may go unnoticed while agents work."""
HAND_OVER_TIMEOUT_S = 5.0
"""How long a worker waits, before it gives partitions up, for Kafka to acknowledge results. What is not by then is
computed again by the next worker."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """How a worker asks for records.

    A fetch that is answered as soon as there is a record is *unpaced*; one that the broker holds for `max_wait_ms`
    whatever comes is *paced*: it takes each record up to that long, and costs broker and worker a third. So fetches are
    unpaced while little comes and paced when much does.

    Attributes:
        max_wait_ms: how long the broker holds a fetch for which it has too little.
        paced_from: records a second from which on fetches are paced; 0: always; infinite: never.
    """

    max_wait_ms: int = 10
    paced_from: float = 400.0

    def min_bytes(self, records_per_s: float) -> int:
        """What is enough for the broker to answer, at a rate of records: any, or more than will come."""
        return MORE_THAN_COMES if records_per_s >= self.paced_from else 1


@dataclass(eq=False, slots=True)
class Batch:
    """The records of one fetch of one partition.

    Attributes:
        tp: topic and partition.
        records: aiokafka's consumer records in offset order, at least one.
        undelivered: results of these records which Kafka has not acknowledged yet.
    """

    tp: TP
    records: list[Any]
    undelivered: int = field(default=0)

    @property
    def last_offset(self) -> int:
        """Offset of the newest record."""
        return int(self.records[-1].offset)


@dataclass(eq=False, slots=True)
class Fetch:
    """What one fetch brought of one topic.

    Attributes:
        batches: partition → its records; at least one.
    """

    batches: dict[int, Batch]

    def batch_of(self, partition: int) -> Batch:
        """The batch of a partition; where it brought none of that partition, any: whoever waits for all waits for it."""
        return self.batches.get(partition) or next(iter(self.batches.values()))


class RecordBatches(Schema):  # type: ignore[misc]  # faust has no types
    """Keys and values as they are: a fetch knows what it holds."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        """The key, untouched."""
        return message.key

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        """The fetch, untouched."""
        return message.value


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # faust has no types
    """Faust's consumer thread with short fetches.

    aiokafka has one fetch under way per broker, for those partitions of which it holds no records. Held by the broker
    for the 1.5 s that Faust asks for, a fetch of quiet partitions keeps the busy ones waiting.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = transport.fetching.max_wait_ms
        consumer._fetch_min_bytes = transport.fetching.min_bytes(0.0)
        return consumer

    def enough(self, min_bytes: int) -> None:
        """From the next fetch on, so many bytes are enough for the broker to answer."""
        consumer = self._consumer
        if consumer is not None and consumer._fetcher is not None:
            consumer._fetcher._fetch_min_bytes = min_bytes


class Consumer(driver.Consumer):  # type: ignore[misc]  # faust has no types
    """Faust's consumer, delivering batches and committing by their order of delivery."""

    _delivered: dict[TP, deque[tuple[Message, Batch]]]
    """What agents were given of each partition and is not committed, oldest first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._delivered = defaultdict(deque)
        self._progress = asyncio.Event()
        self._records = 0
        self._counting_since = monotonic()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109  # Faust's signature
    ) -> Mapping[TP, list[Fetch]]:
        if not await self._caught_up():
            return {}
        fetched = await super()._getmany(active_partitions, timeout)
        self._pace(sum(map(len, fetched.values())))
        fetches: dict[str, dict[int, Batch]] = {}
        for tp, records in fetched.items():
            read = self._read_offset[tp]
            fresh = [record for record in records if read is None or record.offset >= read]
            if fresh:
                fetches.setdefault(tp.topic, {})[tp.partition] = Batch(tp, fresh)
        return {next(iter(batches.values())).tp: [Fetch(batches)] for batches in fetches.values()}

    def _pace(self, records: int) -> None:
        """Pace the fetches, or not, by what has come lately."""
        self._records += records
        span_s = monotonic() - self._counting_since
        if span_s >= RATE_OVER_S:
            self._thread.enough(self.transport.fetching.min_bytes(self._records / span_s))
            self._records, self._counting_since = 0, monotonic()

    async def _caught_up(self) -> bool:
        """Wait until the agents have finished what they were given; False where a rebalance comes in between.

        While they work, records gather in the client, and the next batches are the larger: few under load, many and
        small when quiet. This is all the flow control there is. Faust's own (`on_buffer_full`) stops fetching from one
        partition after the other, and when it has stopped all of them, sleeps a second.
        """
        while self.flow_active and any(not message.acked for given in self._delivered.values() for message, _ in given):
            self._progress.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._progress.wait(), timeout=FLOW_CHECK_S)
        return bool(self.flow_active)

    def on_buffer_full(self, tp: TP) -> None:
        """No partition is ever left out of a fetch; see `_caught_up`."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing was left out, so nothing needs taking up again."""

    def _to_message(self, tp: TP, record: Fetch) -> ConsumerMessage:
        first = record.batches[tp.partition]
        newest = first.records[-1]
        message = ConsumerMessage(
            tp.topic,
            tp.partition,
            first.last_offset,
            newest.timestamp / 1000.0,
            newest.timestamp_type,
            (),
            None,
            record,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )
        for batch in record.batches.values():
            self._delivered[batch.tp].append((message, batch))
            self._read_offset[batch.tp] = batch.last_offset  # Faust itself notes that of the message's partition only
        return message

    def ack(self, message: Message) -> bool:
        """An agent has finished a fetch. It can be committed once its results are delivered too."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        self._progress.set()
        self._n_acked += 1
        notify(self._waiting_for_ack)
        return True

    def _new_offset(self, tp: TP) -> int | None:
        given = self._delivered[tp]
        offset = None
        while given and given[0][0].acked and given[0][1].undelivered == 0:
            offset = given.popleft()[1].last_offset + 1
        return offset

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in list(self._delivered) if topics is None or tp in topics or tp.topic in topics)

    async def commit_and_end_transactions(self) -> None:
        """The last commit before partitions are handed over: first let finished fetches' results be delivered."""
        deadline = monotonic() + HAND_OVER_TIMEOUT_S
        while self._results_under_way() and monotonic() < deadline:  # noqa: ASYNC110  # counts fall in a C callback
            await asyncio.sleep(0.01)
        await super().commit_and_end_transactions()

    def _results_under_way(self) -> bool:
        return any(
            message.acked and batch.undelivered for given in self._delivered.values() for message, batch in given
        )

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Holes in the offsets are of no interest: commits follow the order of delivery."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what was being read of partitions that may go to another worker."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._delivered.pop(tp, None)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start afresh: reading begins again at the committed offset."""
        for tp in assigned:
            self._delivered.pop(tp, None)
        await super().on_partitions_assigned(assigned, generation_id)


class Transport(driver.Transport):  # type: ignore[misc]  # faust has no types
    """Faust's aiokafka transport with the consumer above.

    Attributes:
        fetching: how its consumer fetches; set `app.transport.fetching` before the app is started.
    """

    Consumer = Consumer
    fetching = Fetching()
