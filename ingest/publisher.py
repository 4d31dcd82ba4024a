"""From records to Kafka: keys, partitions, headers, back-pressure, and what has been delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError, KafkaException, Message

from callscope import kafka
from callscope.clock import monotonic, wall_ns
from callscope.config import Settings
from callscope.errors import ConfigError, KafkaUnreachable, NotPublished
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS, partition_of
from ingest import telemetry
from ingest.delivery import Delivery, Receipt
from ingest.session import AudioRecord
from ingest.spool.lane import Item, Lane
from ingest.spool.spool import Spool
from schemas.v1.audio_pb2 import AudioFrame
from schemas.v1.events_pb2 import CallEvent
from schemas.v1.ledger_pb2 import Ledger

IN_FLIGHT_RECORDS: Final = 200
"""How many records of one stream may be under way (4 s of 20 ms records, 12 s of 60 ms): a file that is uploaded at
full speed cannot fill the queue that live calls share. librdkafka's holds 100,000, so 500 such streams."""
HALF_A_SECOND_RECORDS: Final = 25
_POLL_S: Final = 0.01
_FLUSH_AWAY_S: Final = 0.5
_FLUSH_S: Final = 5.0  # with the closing of connections less than what a supervisor waits before it kills
_HEADERS: Final[dict[str, list[tuple[str, str | bytes | None]]]] = {
    topic.name: [("schema", topic.value)] for topic in (AUDIO_FRAMES, CALL_EVENTS)
}
_NOT_TRIED: Final = (KafkaError._FATAL, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)


class Confirmation(Receipt):
    """Waits for one event: `told` becomes None when Kafka has it, or why it will not."""

    def __init__(self) -> None:
        self.told: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def acknowledged_to(self, seq: int, end: int) -> None:
        """See `Receipt.acknowledged_to`."""
        if not self.told.done():
            self.told.set_result(None)

    def lost(self, reason: str) -> None:
        """See `Receipt.lost`."""
        if not self.told.done():
            self.told.set_result(reason)


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

    @property
    def trouble(self) -> str | None:
        """What is wrong with Kafka or the spool, in a sentence; None if nothing is."""

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

    Records of a partition go one behind the other: to librdkafka or, while Kafka acknowledges nothing of it, to the
    spool, which hands them to librdkafka when it does again (`ingest/spool/lane.py`).

    Args:
        settings: where Kafka is, how many partitions a topic has, how long to wait for it, how large the spool may be.
        spool_root: the spool's folder for this Kafka cluster; None: no spool.
        tell: told when Kafka is away or back, and why the spool has no room for new streams, or None.
    """

    def __init__(
        self,
        settings: Settings,
        spool_root: Path | None = None,
        tell: Callable[[bool, str | None], None] = lambda *_: None,
    ) -> None:
        self._partitions = settings.topics.partitions
        self._timeout_s = settings.ingest.publish_timeout_s
        self._fatal: str | None = None
        self._lanes = [Lane() for _ in range(self._partitions)]
        self._spool: Spool | None = None
        options: dict[str, Any] = {}
        if spool_root is not None:
            self._spool = Spool(
                settings.ingest.spool, spool_root, self._lanes, self._hand_over_kept, self._timeout_s, tell
            )
            # librdkafka must not give up what the spool goes on behind.
            options = {"delivery.timeout.ms": 0, **settings.kafka_options}
        self._producer = kafka.producer(settings, error_cb=self._on_error, logger=telemetry.KAFKA_CLIENT, **options)

    async def open(self) -> None:
        """Take over what an earlier gateway left in the spool; `run` delivers it.

        Raises:
            ConfigError: the spool's folder cannot be used.
        """
        if self._spool is not None:
            try:
                await asyncio.to_thread(self._spool.open)
            except OSError as error:
                raise ConfigError(
                    f"The spool, which keeps audio while Kafka is away, cannot be read: {error}. Make its folder "
                    "readable and writable, name another with CALLSCOPE_INGEST__SPOOL__DATA_DIR, or do without it: "
                    "CALLSCOPE_INGEST__SPOOL__MAX_BYTES=0."
                ) from error

    async def run(self) -> None:
        """Take delivery reports, for ever.

        Raises:
            KafkaUnreachable: the producer broke for good (a fatal error of librdkafka); start anew.
        """
        while self._fatal is None:
            self._producer.poll(0)
            telemetry.queue(len(self._producer))
            if self._spool is not None:
                self._spool.tick(monotonic())
            await asyncio.sleep(_POLL_S)
        raise KafkaUnreachable(f"The Kafka producer cannot go on: {self._fatal}")

    async def close(self) -> int:
        """Wait for what is under way, at most 5 s; what is left is written to the spool.

        Returns:
            How many records are neither known to have been delivered nor in the spool.
        """
        waits_s = _FLUSH_S if self._fatal is None and self.trouble is None else _FLUSH_AWAY_S
        left = int(await asyncio.to_thread(self._producer.flush, waits_s))
        return left if self._spool is None else await self._spool.close()

    @property
    def queued(self) -> int:
        """See `Publisher.queued`."""
        waiting = self._spool.records if self._spool is not None and self._spool.is_used else 0
        return len(self._producer) + waiting

    @property
    def trouble(self) -> str | None:
        """See `Publisher.trouble`."""
        return None if self._spool is None else self._spool.trouble

    def has_room(self, delivery: Delivery) -> bool:
        """See `Publisher.has_room`."""
        if self._spool is not None and self._spool.is_used and not self._spool.has_room(delivery):
            return False
        return delivery.in_flight < IN_FLIGHT_RECORDS - HALF_A_SECOND_RECORDS

    async def room(self, delivery: Delivery) -> None:
        """See `Publisher.room`."""
        delivery.check()
        if self._spool is not None and self._spool.is_used:
            await self._spool.room(delivery)
        if delivery.in_flight < IN_FLIGHT_RECORDS:
            return
        telemetry.backpressure()
        deadline = monotonic() + self._timeout_s
        while delivery.in_flight >= IN_FLIGHT_RECORDS:
            if monotonic() > deadline:
                raise self._too_slow()
            await asyncio.sleep(_POLL_S)
            delivery.check()

    async def audio(self, record: AudioRecord, source: str, arrived_ns: int, delivery: Delivery) -> None:
        """See `Publisher.audio`."""

        def value(published_ns: int) -> bytes:
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
                ledger=Ledger(arrived_ns=arrived_ns, published_ns=published_ns),
            ).SerializeToString()

        item = Item(
            AUDIO_FRAMES.name, str(record.stream), b"", 0, record.seq, record.end, len(record.pcm) // 2, delivery
        )
        partition = delivery.partition
        if partition is None:
            partition = delivery.partition = partition_of(record.stream.call_id, self._partitions)
        await self._produce(partition, item, value)
        delivery.handed_over()

    async def event(self, happening: CallHappening) -> None:
        """See `Publisher.event`."""
        await self._send_event(happening, None)

    async def confirmed_event(self, happening: CallHappening) -> None:
        """See `Publisher.confirmed_event`."""
        confirmation = Confirmation()
        await self._send_event(happening, confirmation)
        try:
            async with asyncio.timeout(self._timeout_s):
                refusal = await confirmation.told
        except TimeoutError:
            raise NotPublished(f"Kafka did not confirm an event within {self._timeout_s:g} s.") from None
        if refusal is not None:
            raise NotPublished(f"Kafka did not take an event: {refusal}")

    async def _send_event(self, happening: CallHappening, receipt: Receipt | None) -> None:
        def value(_: int) -> bytes:
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

        item = Item(CALL_EVENTS.name, happening.call_id, b"", receipt=receipt)
        await self._produce(partition_of(happening.call_id, self._partitions), item, value)

    async def _produce(self, partition: int, item: Item, value: Callable[[int], bytes]) -> None:
        """Send a record on its way.

        Args:
            partition: where it belongs.
            item: the record, without its value.
            value: makes that, given when the record was handed to the Kafka client; 0 where it is not, but spooled.
        """
        lane = self._lanes[partition]
        deadline: float | None = None
        while True:
            if self._spool is not None and not lane.direct:
                item.value = value(0)
                self._spool.keep(lane, item)
                return
            item.value = value(wall_ns())
            try:
                if self._hand_over(partition, item):
                    return
            except KafkaException as error:
                raise NotPublished(f"Kafka refused a record: {error.args[0].str()}") from error
            # librdkafka's queue is full: wait, and with us the socket
            if deadline is None:
                telemetry.backpressure()
                deadline = monotonic() + self._timeout_s
            elif monotonic() > deadline:
                raise self._too_slow() from None
            await asyncio.sleep(_POLL_S)

    def _hand_over(self, partition: int, item: Item) -> bool:
        """Give a record to librdkafka; False where its queue is full.

        Raises:
            KafkaException: it refused the record.
        """
        lane = self._lanes[partition]
        try:
            self._producer.produce(
                item.topic,
                key=item.key,
                value=item.value,
                partition=partition,
                timestamp=wall_ns() // 1_000_000,  # or librdkafka takes the time of day, which may jump
                headers=_HEADERS[item.topic],
                on_delivery=partial(self._on_report, lane, item),
            )
        except BufferError:
            return False
        lane.handed_over(item, monotonic())
        return True

    def _hand_over_kept(self, partition: int, item: Item) -> bool:
        """As `_hand_over`, for the spool: nobody waits who could be told of a refusal, but by the record's receipt."""
        try:
            return self._hand_over(partition, item)
        except KafkaException as error:
            lane = self._lanes[partition]
            lane.handed_over(item, monotonic())
            self._on_report(lane, item, error.args[0], None)
            return True

    def _too_slow(self) -> NotPublished:
        return NotPublished(
            f"Kafka took no audio for {self._timeout_s:g} s. What was acknowledged is safe; send the rest later."
        )

    def _on_report(self, lane: Lane, item: Item, error: KafkaError | None, _: Message | None) -> None:
        if error is not None and self._spool is not None and (self._fatal is not None or error.code() in _NOT_TRIED):
            return  # the producer ends, and it will be another's turn: what is left under way goes to the spool
        lane.settled(item)
        receipt = item.receipt
        if error is not None:
            telemetry.delivery_failed(item.topic, item.key, error.str())
        if receipt is None:
            return
        if item.is_spooled:
            receipt.unspooled(item.samples)
        if error is None:
            receipt.acknowledged_to(item.seq, item.end)
        else:
            receipt.lost(error.str())

    def _on_error(self, error: KafkaError) -> None:
        telemetry.kafka_trouble()
        if error.fatal():
            self._fatal = error.str()
