"""From records to Kafka: keys, partitions, headers, back-pressure, and what has been delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError, KafkaException, Message

from callscope import kafka, telemetry
from callscope.clock import monotonic, wall_ns
from callscope.config import Settings
from callscope.errors import KafkaUnreachable, NotPublished
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS, Topic, partition_of
from ingest.delivery import Delivery
from ingest.session import AudioRecord
from schemas.v1.audio_pb2 import AudioFrame
from schemas.v1.events_pb2 import CallEvent
from schemas.v1.ledger_pb2 import Ledger

IN_FLIGHT_RECORDS: Final = 200
"""How many records of one stream may be under way (4 s of 20 ms records, 12 s of 60 ms): a file that is uploaded at
full speed cannot fill the queue that live calls share. librdkafka's holds 100,000, so 500 such streams."""
HALF_A_SECOND_RECORDS: Final = 25
_POLL_S: Final = 0.01
_FLUSH_S: Final = 5.0  # with the closing of connections less than what a supervisor waits before it kills


@dataclass(frozen=True, slots=True)
class CallHappening:
    """What becomes one record of `call.events`.

    Attributes:
        kind: a `CallEvent.Kind`.
        call_id: the call.
        leg: the leg; empty where it is about the whole call.
        at: media time on the leg, samples.
        duration: of a gap, samples.
        source: the transport.
        encoding: as it came in.
        rate_hz: as it came in.
        metadata: what the source said of the call.
        reason: why it ended, or why audio is missing.
        allowed: of a consent: whether analysis is allowed from `at` on.
        purposes: of a consent: what it is about; empty for all.
    """

    kind: CallEvent.Kind.ValueType
    call_id: str
    leg: str = ""
    at: int = 0
    duration: int = 0
    source: str = ""
    encoding: str = ""
    rate_hz: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    allowed: bool = False
    purposes: tuple[str, ...] = ()


class Publisher(Protocol):
    """Where the intake puts its records."""

    async def room(self, delivery: Delivery) -> None:
        """Return when the stream may send another record.

        Raises:
            NotPublished: a record of it was lost, or there was no room in time.
        """

    @property
    def queued(self) -> int:
        """Records handed over and not yet delivered, of all streams."""

    def has_room(self, delivery: Delivery) -> bool:
        """Whether the stream may send half a second of records without waiting."""

    async def audio(self, record: AudioRecord, source: str, arrived_ns: int, delivery: Delivery) -> None:
        """Send a record; `delivery` learns what becomes of it.

        Args:
            record: the record.
            source: the transport it came in by.
            arrived_ns: when its last byte arrived, nanoseconds since the epoch.
            delivery: its stream's.

        Raises:
            NotPublished: Kafka did not take it in time.
        """

    async def event(self, happening: CallHappening) -> None:
        """Send an event of a call.

        Raises:
            NotPublished: Kafka did not take it in time.
        """

    async def confirmed_event(self, happening: CallHappening) -> None:
        """Send an event of a call, and return when it is safe in Kafka.

        Raises:
            NotPublished: Kafka did not take or confirm it in time.
        """


class KafkaPublisher:
    """Publishes with one idempotent producer. `run` must be running, or nothing is ever known to be delivered.

    librdkafka sends on its own threads. Its reports are taken on the event loop every 10 ms, so that nothing here needs
    a lock and no thread contends for the interpreter.

    Args:
        settings: where Kafka is, how many partitions a topic has, and how long to wait for it.
    """

    def __init__(self, settings: Settings) -> None:
        self._partitions = settings.topics.partitions
        self._timeout_s = settings.ingest.publish_timeout_s
        self._fatal: str | None = None
        self._producer = kafka.producer(settings, error_cb=self._on_error, logger=telemetry.KAFKA_CLIENT)

    async def run(self) -> None:
        """Take delivery reports, for ever.

        Raises:
            KafkaUnreachable: the producer broke for good (a fatal error of librdkafka); start anew.
        """
        while self._fatal is None:
            self._producer.poll(0)
            telemetry.ingest_queue(len(self._producer))
            await asyncio.sleep(_POLL_S)
        raise KafkaUnreachable(f"The Kafka producer cannot go on: {self._fatal}")

    async def close(self) -> int:
        """Wait for what is under way, at most 5 s.

        Returns:
            How many records are not known to have been delivered.
        """
        return int(await asyncio.to_thread(self._producer.flush, _FLUSH_S))

    @property
    def queued(self) -> int:
        """See `Publisher.queued`."""
        return len(self._producer)

    def has_room(self, delivery: Delivery) -> bool:
        """See `Publisher.has_room`."""
        return delivery.in_flight < IN_FLIGHT_RECORDS - HALF_A_SECOND_RECORDS

    async def room(self, delivery: Delivery) -> None:
        """See `Publisher.room`."""
        delivery.check()
        if delivery.in_flight < IN_FLIGHT_RECORDS:
            return
        telemetry.ingest_backpressure()
        deadline = monotonic() + self._timeout_s
        while delivery.in_flight >= IN_FLIGHT_RECORDS:
            if monotonic() > deadline:
                raise self._too_slow()
            await asyncio.sleep(_POLL_S)
            delivery.check()

    async def audio(self, record: AudioRecord, source: str, arrived_ns: int, delivery: Delivery) -> None:
        """See `Publisher.audio`."""

        def value() -> bytes:
            return AudioFrame(
                call_id=record.stream.call_id,
                leg=record.stream.leg,
                seq=record.seq,
                start=record.start,
                pcm=record.pcm,
                gap_before=record.gap_before,
                last=record.last,
                capture_ns=record.captured_ns,
                source=source,
                ledger=Ledger(arrived_ns=arrived_ns, published_ns=wall_ns()),
            ).SerializeToString()

        await self._produce(
            AUDIO_FRAMES, record.stream.call_id, str(record.stream), value, partial(self._on_audio, record, delivery)
        )
        delivery.handed_over()

    async def event(self, happening: CallHappening) -> None:
        """See `Publisher.event`."""
        await self._send_event(happening, _on_event)

    async def confirmed_event(self, happening: CallHappening) -> None:
        """See `Publisher.confirmed_event`."""
        confirmed: asyncio.Future[KafkaError | None] = asyncio.get_running_loop().create_future()

        def report(error: KafkaError | None, message: Any) -> None:
            _on_event(error, message)
            if not confirmed.done():
                confirmed.set_result(error)

        await self._send_event(happening, report)
        try:
            async with asyncio.timeout(self._timeout_s):
                error = await confirmed
        except TimeoutError:
            raise NotPublished(f"Kafka did not confirm an event within {self._timeout_s:g} s.") from None
        if error is not None:
            raise NotPublished(f"Kafka did not take an event: {error.str()}")

    async def _send_event(self, happening: CallHappening, report: Callable[..., None]) -> None:
        def value() -> bytes:
            return CallEvent(
                call_id=happening.call_id,
                leg=happening.leg,
                kind=happening.kind,
                at=happening.at,
                duration=happening.duration,
                time_ns=wall_ns(),
                source=happening.source,
                encoding=happening.encoding,
                rate_hz=happening.rate_hz,
                metadata=happening.metadata,
                reason=happening.reason,
                allowed=happening.allowed,
                purposes=happening.purposes,
            ).SerializeToString()

        await self._produce(CALL_EVENTS, happening.call_id, happening.call_id, value, report)

    async def _produce(
        self, topic: Topic, call_id: str, key: str, value: Callable[[], bytes], report: Callable[..., None]
    ) -> None:
        deadline: float | None = None
        while True:
            try:
                self._producer.produce(
                    topic.name,
                    key=key,
                    value=value(),
                    partition=partition_of(call_id, self._partitions),
                    headers=[("schema", topic.value)],
                    on_delivery=report,
                )
            except BufferError:  # librdkafka's queue is full: wait, and with us the socket
                if deadline is None:
                    telemetry.ingest_backpressure()
                    deadline = monotonic() + self._timeout_s
                elif monotonic() > deadline:
                    raise self._too_slow() from None
                await asyncio.sleep(_POLL_S)
            except KafkaException as error:
                raise NotPublished(f"Kafka refused a record: {error.args[0].str()}") from error
            else:
                return

    def _too_slow(self) -> NotPublished:
        return NotPublished(
            f"Kafka took no audio for {self._timeout_s:g} s. What was acknowledged is safe; send the rest later."
        )

    def _on_audio(self, record: AudioRecord, delivery: Delivery, error: KafkaError | None, _: Message) -> None:
        if error is None:
            delivery.acknowledged(record)
        else:
            telemetry.ingest_delivery_failed(AUDIO_FRAMES.name, str(record.stream), error.str())
            delivery.lost(error.str())

    def _on_error(self, error: KafkaError) -> None:
        telemetry.ingest_kafka_trouble()
        if error.fatal():
            self._fatal = error.str()


def _on_event(error: KafkaError | None, message: Any) -> None:
    if error is not None:
        telemetry.ingest_delivery_failed(CALL_EVENTS.name, (message.key() or b"").decode(), error.str())
