import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError

from callscope.config import Ingest, Settings, load
from callscope.errors import KafkaUnreachable, NotPublished
from callscope.kafka import ensure_topics
from callscope.streams import StreamId
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS
from ingest.delivery import Delivery
from ingest.publisher import IN_FLIGHT_RECORDS, CallHappening, KafkaPublisher
from ingest.session import AudioRecord
from schemas.v1.audio_pb2 import AudioFrame
from schemas.v1.events_pb2 import CallEvent
from tests.ingest.reading import records_of


def nowhere(**options: str) -> Settings:
    """Kafka that does not answer."""
    return load(
        kafka="127.0.0.1:1",
        kafka_options={"log_level": "0", **options},
        ingest=Ingest(publish_timeout_s=0.1),
    )


STREAM = StreamId("call", "leg")


def record(seq: int, stream: StreamId = STREAM) -> AudioRecord:
    return AudioRecord(stream, seq, seq * 320, bytes(640))


@asynccontextmanager
async def publishing(settings: Settings) -> AsyncIterator[KafkaPublisher]:
    publisher = KafkaPublisher(settings)
    running = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_one_stream_cannot_fill_the_queue() -> None:
    async with publishing(nowhere()) as publisher:
        delivery, other = Delivery(), Delivery()
        for seq in range(IN_FLIGHT_RECORDS):
            await publisher.room(delivery)
            await publisher.audio(record(seq), "test", 1, delivery)
        with pytest.raises(NotPublished, match=r"Kafka took no audio for 0\.1 s"):
            await publisher.room(delivery)
        await publisher.room(other)  # the others still have theirs


async def test_a_full_queue_is_waited_for_and_then_told() -> None:
    async with publishing(nowhere(**{"queue.buffering.max.messages": "3"})) as publisher:
        delivery = Delivery()
        for seq in range(3):
            await publisher.audio(record(seq), "test", 1, delivery)
        with pytest.raises(NotPublished, match=r"Kafka took no audio for 0\.1 s"):
            await publisher.audio(record(3), "test", 1, delivery)
        assert delivery.in_flight == 3


async def test_a_record_that_is_given_up_is_told_to_its_stream() -> None:
    settings = nowhere(**{"delivery.timeout.ms": "100", "linger.ms": "2"})
    async with publishing(settings) as publisher:
        delivery = Delivery()
        await publisher.audio(record(0), "test", 1, delivery)
        async with asyncio.timeout(10):
            while delivery.failure is None:  # noqa: ASYNC110  # set by librdkafka's report
                await asyncio.sleep(0.01)
        assert "timed out" in delivery.failure.lower()
        with pytest.raises(NotPublished, match="timed out"):
            await publisher.room(delivery)


async def test_a_producer_that_is_broken_for_good_ends_the_program() -> None:
    publisher = KafkaPublisher(nowhere())
    publisher._on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    running = asyncio.create_task(publisher.run())
    await asyncio.sleep(0.05)
    assert not running.done(), "brokers may come back"
    publisher._on_error(KafkaError(KafkaError._FATAL, "Broker: Producer fenced", True))
    with pytest.raises(KafkaUnreachable, match="Producer fenced"):
        await running


@pytest.mark.integration
async def test_records_reach_kafka_and_their_delivery_is_known(kafka: Settings) -> None:
    ensure_topics(kafka)
    stream = StreamId(f"call-{uuid4()}", "agent")
    async with publishing(kafka) as publisher:
        delivery = Delivery()
        for seq in range(500):
            await publisher.room(delivery)
            await publisher.audio(record(seq, stream), "test", 17, delivery)
        await publisher.event(CallHappening(CallEvent.STREAM_ENDED, stream.call_id, "agent", at=5, reason="end"))
        async with asyncio.timeout(10):
            while delivery.in_flight:  # noqa: ASYNC110  # set by librdkafka's report
                await asyncio.sleep(0.01)
        assert delivery.published == 500 * 320
        assert await publisher.close() == 0
    frames = [AudioFrame.FromString(m.value()) for m in records_of(kafka, AUDIO_FRAMES, stream.call_id)]
    assert [frame.seq for frame in frames] == list(range(500))
    assert all(frame.ledger.arrived_ns == 17 for frame in frames)
    (event,) = [CallEvent.FromString(m.value()) for m in records_of(kafka, CALL_EVENTS, stream.call_id)]
    assert (event.kind, event.leg, event.at, event.reason) == (CallEvent.STREAM_ENDED, "agent", 5, "end")
