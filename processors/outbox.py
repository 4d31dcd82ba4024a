"""Results to Kafka: produced with confluent-kafka, and counted back to the batch they came of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache, partial

from confluent_kafka import KafkaError, Message, Producer

from callscope.clock import monotonic
from callscope.dead_letters import key_of
from callscope.streams import StreamId
from callscope.topics import DEAD_LETTERS, WORKER_MARKS, WORKER_STATUS, Topic, partition_of
from processors import telemetry, wire
from processors.records import Envelope
from processors.transport import Batch, Fetch
from schemas.v1.dead_letter_pb2 import DeadLetter

POLL_INTERVAL_S = 0.02
"""How often delivery reports are looked at when nothing is being sent."""


@cache
def _headers(topic: Topic) -> list[tuple[str, str | bytes | None]]:
    return [("schema", topic.value)]


class Outbox:
    """Produces records and keeps each batch's count of those that Kafka has not acknowledged.

    Attributes:
        partitions: of every topic.

    Args:
        producer: an idempotent confluent-kafka producer; delivery failures after its own retries are final.
        partitions: partitions of every topic.
        unhurried: another that gathers records for longer, for topics that nobody is waiting for; None: there are none.
        unhurried_topics: names of these.
    """

    def __init__(
        self,
        producer: Producer,
        partitions: int,
        unhurried: Producer | None = None,
        unhurried_topics: Collection[str] = (),
    ) -> None:
        self._producer = producer
        self._unhurried = unhurried
        self._unhurried_topics = unhurried_topics if unhurried is not None else ()
        self.partitions = partitions
        self._failure: KafkaError | None = None

    async def send(self, fetch: Fetch, envelopes: Iterable[Envelope], letters: Sequence[DeadLetter] = ()) -> None:
        """Produce what came of a fetch. Waits while the producer's bounded queue is full.

        Args:
            fetch: what it came of; it cannot be committed before all of this is acknowledged.
            envelopes: the results.
            letters: about those of its records that could not be worked on.

        Raises:
            RuntimeError: an earlier record could not be delivered; the worker must end and begin again at its commit.
        """
        await self.put(
            fetch, ((wire.topic_of(sent.record), sent.record.stream, wire.encode(sent)) for sent in envelopes)
        )
        for letter in letters:
            batch = fetch.batch_of(letter.partition)
            batch.undelivered += 1
            await self._produce(
                DEAD_LETTERS,
                key_of(letter),
                letter.SerializeToString(),
                letter.partition % self.partitions,
                partial(self._delivered, batch),
            )

    async def put(self, fetch: Fetch, encoded: Iterable[tuple[Topic, StreamId, bytes]]) -> None:
        """The same for records that are bytes already: topic, stream, value.

        Raises:
            RuntimeError: as for `send`.
        """
        callbacks: dict[int, Callable[..., None]] = {}  # one for all of a partition: one a record costs as much again
        for topic, stream, value in encoded:
            partition = partition_of(stream.call_id, self.partitions)
            batch = fetch.batch_of(partition)
            delivered = callbacks.get(partition)
            if delivered is None:
                delivered = callbacks[partition] = partial(self._delivered, batch)
            batch.undelivered += 1
            await self._produce(topic, str(stream), value, partition, delivered)
        self._poll()

    async def _produce(
        self, topic: Topic, key: str, value: bytes, partition: int, delivered: Callable[..., None]
    ) -> None:
        producer = self._producer
        if topic.name in self._unhurried_topics and self._unhurried is not None:
            producer = self._unhurried
        while True:
            try:
                producer.produce(
                    topic.name,
                    value=value,
                    key=key,
                    partition=partition,
                    headers=_headers(topic),
                    on_delivery=delivered,
                )
                break
            except BufferError:  # back-pressure: the broker is slower than we are
                telemetry.outbox_full()
                await asyncio.sleep(POLL_INTERVAL_S)
                self._poll()

    def announce(self, worker: str, status: bytes) -> None:
        """Produce a record of `worker.status`; it belongs to no batch. With a full queue it is left out: more follow.

        Args:
            worker: its key.
            status: its value.
        """
        partition = partition_of(worker, self.partitions)
        try:
            self._producer.produce(
                WORKER_STATUS.name, value=status, key=worker, partition=partition, headers=_headers(WORKER_STATUS)
            )
        except BufferError:
            telemetry.outbox_full()

    async def put_mark(self, key: str, partition: int, value: bytes, delivered: Callable[[], None]) -> None:
        """Produce a record of `worker.marks`; it belongs to no batch.

        Args:
            key: its key.
            partition: that of the stream's call.
            value: its value.
            delivered: called when Kafka has acknowledged it.

        Raises:
            RuntimeError: as for `send`.
        """

        def report(error: KafkaError | None, _: Message) -> None:
            if error is None:
                delivered()
            else:
                self._failed(error)

        await self._produce(WORKER_MARKS, key, value, partition, report)
        self._poll()

    def _failed(self, error: KafkaError) -> None:
        self._failure = error
        telemetry.result_undeliverable(error.str())

    def _poll(self) -> None:
        for producer in self._producers():
            producer.poll(0)
        if self._failure is not None:
            raise RuntimeError(f"Kafka did not take a result: {self._failure.str()}")

    def _delivered(self, batch: Batch, error: KafkaError | None, _: Message) -> None:
        if error is None:
            batch.undelivered -= 1
        else:
            self._failed(error)

    async def poll_forever(self) -> None:
        """Look at delivery reports; runs beside the agents.

        Raises:
            RuntimeError: a record could not be delivered.
        """
        while True:
            self._poll()
            await asyncio.sleep(POLL_INTERVAL_S)

    async def drain(self, timeout_s: float) -> int:
        """Wait until everything is delivered.

        Returns:
            How many records were not, when the time was up.
        """
        deadline = monotonic() + timeout_s
        left = 0
        for producer in self._producers():
            left += int(await asyncio.to_thread(producer.flush, max(0.0, deadline - monotonic())))
        return left

    def _producers(self) -> list[Producer]:
        return [self._producer] if self._unhurried is None else [self._producer, self._unhurried]
