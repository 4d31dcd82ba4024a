"""Faust on record batches: one event per topic and fetch, carrying all of that fetch's records, partition by partition.

Faust hands every single record through a queue, an event and an interval tree; at thousands of 20 ms frames a second
that is most of its cost. This transport keeps Faust's consumer group, rebalancing, commits and agents, and makes these
changes:

- records are read by librdkafka (`processors.record_reader`), from where Faust says; aiokafka is the member of the
  group that commits, and fetches nothing;
- what a fetch brought of a topic becomes one message whose value is a `Fetch`, with a `Batch` for each partition, so
  that an agent works on all its streams together;
- what is finished of a partition is read off its batches in the order of their delivery: up to the first one that an
  agent has not finished, or whose results Kafka has not acknowledged. Holes in the offsets need no bookkeeping;
- committed is what is finished, or of it what nobody who takes the partition over needs (`processors.recovery`);
- the next fetch is taken when the agents have finished the last one, so queues cannot grow;
- topics are read with `RecordBatches`, a schema that leaves keys and values alone.

Registered in the entry-point group `faust.transports`; a broker URL `callscope://host:port` selects it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka.structs import TopicPartition
from faust.serializers.schemas import Schema
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage, Message
from mode.utils.futures import notify

from callscope.clock import monotonic
from processors.record_reader import Polled, RecordReader
from processors.recovery import Recovery

FLOW_CHECK_S = 0.2
"""How long a rebalance may go unnoticed while agents work."""
HAND_OVER_TIMEOUT_S = 5.0
"""How long a worker waits, before it gives partitions up, for Kafka to acknowledge results. What is not by then is
computed again by the next worker."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """How a worker asks for records.

    Attributes:
        max_wait_ms: how long the broker holds a fetch for which it has too little.
        min_bytes: what is enough. 1 answers at once, with few records at a time. More paces the fetches: under load
            the gateway's ticks bring so much at once, and when it is quiet a record waits up to `max_wait_ms`.
    """

    max_wait_ms: int = 20
    min_bytes: int = 1 << 24


@dataclass(eq=False, slots=True)
class Batch:
    """The records of one fetch of one partition.

    Attributes:
        tp: topic and partition.
        records: in offset order; of those that came, the ones to be worked on.
        first_offset: of the oldest one that came.
        last_offset: of the newest one.
        last_ms: its timestamp.
        undelivered: results of these records which Kafka has not acknowledged yet.
    """

    tp: TP
    records: list[Polled]
    first_offset: int = 0
    last_offset: int = 0
    last_ms: int = 0
    undelivered: int = field(default=0)


@dataclass(eq=False, slots=True)
class Fetch:
    """What one fetch brought of one topic.

    Attributes:
        batches: partition → its records; at least one.
    """

    batches: dict[int, Batch]
    _begun: bool = False
    _given_up: bool = False

    def begin(self) -> bool:
        """To be asked by an agent that takes it up; False: it is not to be worked on, and its records come again."""
        self._begun = not self._given_up
        return self._begun

    def give_up(self) -> bool:
        """Take it back from an agent that has not begun; returns whether it had not."""
        self._given_up = not self._begun
        return self._given_up

    def batch_of(self, partition: int) -> Batch:
        """The batch of a partition; where it brought none of that one, any: whoever waits for all waits for it."""
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
    """Faust's consumer thread: a member of the group that commits, and reads nothing."""

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Faust's own, after telling aiokafka not to fetch any of them."""
        self._ensure_consumer().pause(*(TopicPartition(*tp) for tp in assigned))
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_thread_stop(self) -> None:
        """Faust's own, and leave the group: one that has a name in it stays a member until it has been silent too long.

        A worker that is told to end hands its partitions over at once, to whom they are then given; a worker that dies
        keeps them for as long as it may come back under its name.
        """
        if self._consumer is not None:
            self._consumer._coordinator._group_instance_id = None
        await super().on_thread_stop()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's watchdog looks at fetches that aiokafka does not make here."""


class Consumer(driver.Consumer):  # type: ignore[misc]  # faust has no types
    """Faust's consumer, reading with librdkafka, delivering fetches and committing by their order of delivery."""

    _delivered: dict[TP, deque[tuple[Message, Batch]]]
    """What agents were given of each partition and is not committed, oldest first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._delivered = defaultdict(deque)
        self._finished_to: dict[TP, int] = {}
        """Offset up to which everything is finished and its results acknowledged."""
        self._reader: RecordReader | None = None
        self._followed: frozenset[TP] = frozenset()
        """What the reader follows; empty: it is to be told anew, from `_read_offset` on."""
        self._seeks = 0

    async def on_stop(self) -> None:
        """End the reader with the rest."""
        if self._reader is not None:
            self._reader.close()
        await super().on_stop()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109  # Faust's signature
    ) -> Mapping[TP, list[Fetch]]:
        if not active_partitions or not await self._caught_up():
            return {}
        reader = await self._following(frozenset(active_partitions))
        if reader is None:
            return {}
        seek = self._seeks
        found = await reader.ready(timeout)
        if seek != self._seeks:  # they are read once more, by streams that begin once more
            return {}
        fetches: dict[str, dict[int, Batch]] = {}
        for tp, records in found.items():
            batch = Batch(tp, records, records[0].offset, records[-1].offset, records[-1].timestamp_ms)
            if self.transport.recovery is not None:
                batch.records = self.transport.recovery.needed(tp, records)
            fetches.setdefault(tp.topic, {})[tp.partition] = batch
        return {next(iter(batches.values())).tp: [Fetch(batches)] for batches in fetches.values()}

    async def _following(self, partitions: frozenset[TP]) -> RecordReader | None:
        """The reader, told to follow these; it begins where `_read_offset` says, or goes on where it was.

        None where a rebalance came in between.
        """
        if self._reader is None:
            transport = self.transport
            fetching = transport.fetching
            self._reader = RecordReader(transport.reader_options(), fetching.max_wait_ms, fetching.min_bytes, self.loop)
        if partitions != self._followed:
            seek = self._seeks
            if self.transport.recovery is not None:
                await self.transport.recovery.take_over(partitions - self._followed)
            if not self.flow_active or seek != self._seeks:
                return None
            self._followed = partitions
            self._reader.follow({tp: self._next_offset(tp) for tp in partitions})
        return self._reader

    def _next_offset(self, tp: TP) -> int | None:
        """Behind what agents were given last, or what is committed; None: the beginning."""
        given = self._delivered.get(tp)
        if given:
            return given[-1][1].last_offset + 1
        offset = self._read_offset[tp]
        return None if offset is None else int(offset)

    async def perform_seek(self) -> None:
        """Begin again at what is committed."""
        await super().perform_seek()
        for tp in list(self._delivered):
            self._forget(tp)
        self._followed = frozenset()
        self._seeks += 1

    def _forget(self, tp: TP) -> None:
        """What agents were given of a partition counts no more; what they have not begun, they shall not begin."""
        for message, _ in self._delivered.pop(tp, ()):
            if message.value.give_up():
                self._unacked_messages.discard(message)
        self._finished_to.pop(tp, None)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Hand over what comes. Faust's own makes four tasks a message to give up waiting when a rebalance begins.

        Nothing waits here: queues have room (`_caught_up`), and flow is stopped by this same event loop, so that
        nothing comes between `getmany`'s look at it and the queue.
        """
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                async for _, message in self.getmany(timeout=1.0):
                    await self.callback(message)
                await asyncio.sleep(0)
        except (*self.consumer_stopped_errors, asyncio.CancelledError):
            if not self.transport.app.should_stop:
                raise

    async def _caught_up(self) -> bool:
        """Wait until the agents have finished what they were given; False where a rebalance comes in between.

        While they work, records gather in the client, and the next batches are the larger: few under load, many and
        small when quiet. This is all the flow control there is. Faust's own (`on_buffer_full`) stops fetching from one
        partition after the other, and when it has stopped all of them, sleeps a second.
        """
        while self.flow_active and any(not message.acked for given in self._delivered.values() for message, _ in given):
            # What Faust notifies of every message that an agent has finished. `ack` below is not called where Faust
            # runs its compiled stream iterator, which writes into the consumer by itself.
            self._waiting_for_ack = self.loop.create_future()
            await asyncio.wait([self._waiting_for_ack], timeout=FLOW_CHECK_S)
        return bool(self.flow_active)

    def on_buffer_full(self, tp: TP) -> None:
        """No partition is ever left out of a fetch; see `_caught_up`."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing was left out, so nothing needs taking up again."""

    def _to_message(self, tp: TP, record: Fetch) -> ConsumerMessage:
        first = record.batches[tp.partition]
        message = ConsumerMessage(
            tp.topic,
            tp.partition,
            first.last_offset,
            first.last_ms / 1000.0,
            0,
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
            self._read_offset[batch.tp] = batch.last_offset + 1
        return message

    def ack(self, message: Message) -> bool:
        """An agent has finished a fetch. It can be committed once its results are delivered too."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        self._n_acked += 1
        notify(self._waiting_for_ack)
        return True

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()  # Faust's own list, which only grows where nobody reads it
        self._acked_index[tp].clear()
        finished_to = self.finished_to(tp)
        return finished_to if self.transport.recovery is None else self.transport.recovery.floor(tp)

    def finished_to(self, tp: TP) -> int | None:
        """Offset behind the records of a partition that are worked on, with all results delivered; None: none yet."""
        given = self._delivered[tp]
        while given and given[0][0].acked and given[0][1].undelivered == 0:
            self._finished_to[tp] = given.popleft()[1].last_offset + 1
        return self._finished_to.get(tp)

    def given_to(self, tp: TP) -> int | None:
        """Offset behind the records of a partition that agents were given; None: none yet."""
        given = self._delivered[tp]
        return given[-1][1].last_offset + 1 if given else self._finished_to.get(tp)

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Faust's own, after telling whoever comes after us what they need to know."""
        recovery = self.transport.recovery
        if recovery is not None:
            await recovery.write(list(self._delivered), self, HAND_OVER_TIMEOUT_S)
        return bool(await super().force_commit(topics, start_new_transaction))

    async def wait_empty(self) -> None:
        """Faust's own, for what agents have begun: what was taken from their queues nobody will finish."""
        for given in self._delivered.values():
            while given and not given[-1][0].acked and given[-1][0].value.give_up():
                self._unacked_messages.discard(given.pop()[0])
        await super().wait_empty()

    def progress(self) -> dict[TP, int]:
        """Of each assigned partition, the first offset that no agent has finished."""
        reached = {}
        for tp in self.assignment():
            unfinished = next((batch for message, batch in self._delivered.get(tp, ()) if not message.acked), None)
            if unfinished is not None:
                reached[tp] = unfinished.first_offset
            else:
                reached[tp] = self._next_offset(tp) or 0
        return reached

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
            self._forget(tp)
        self._followed = frozenset()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start afresh: reading begins again at the committed offset."""
        for tp in assigned:
            self._forget(tp)
        await super().on_partitions_assigned(assigned, generation_id)


class Transport(driver.Transport):  # type: ignore[misc]  # faust has no types
    """Faust's aiokafka transport with the consumer above.

    Attributes:
        fetching: how its consumer fetches; set `app.transport.fetching` before the app is started.
        client_options: librdkafka's options for reaching the cluster, if the broker's address is not enough.
        recovery: what is told to, and learnt from, other workers of the group; None: a worker knows nothing but what is
            in the records it has not finished.
    """

    Consumer = Consumer
    fetching = Fetching()
    client_options: Mapping[str, Any] | None = None
    recovery: Recovery | None = None

    def reader_options(self) -> Mapping[str, Any]:
        """How the reader reaches the cluster."""
        if self.client_options is not None:
            return self.client_options
        return {"bootstrap.servers": ",".join(driver.server_list(self.url, self.default_port))}
