"""The follower where there is nothing to read from."""

import asyncio
import time
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from prometheus_client import REGISTRY

from callscope import clock, following, silence
from callscope import kafka as kafka_client
from callscope.config import Settings
from callscope.errors import KafkaUnreachable
from callscope.following import Follower, KafkaRecord
from callscope.topics import VOICE_ACTIVITY


async def test_no_broker_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_METADATA_TIMEOUT_S", 0.3)
    reading = Follower(Settings(kafka="127.0.0.1:1"), ["voice.activity"], lambda records: None, name="test")
    assert not reading.is_alive()
    with pytest.raises(KafkaUnreachable, match=r"at 127\.0\.0\.1:1"):
        async with asyncio.timeout(10):
            await reading.run()


@pytest.mark.integration
async def test_what_is_written_from_now_on_and_wanted_is_handed_over(kafka: Settings) -> None:
    await asyncio.to_thread(kafka_client.ensure_topics, kafka)
    key = uuid4().hex.encode()
    produce(kafka, key, b"before")
    got: list[KafkaRecord] = []
    follower = Follower(kafka, [VOICE_ACTIVITY.name], got.extend, name="test", wants=key.__eq__)
    reading = asyncio.create_task(follower.run())
    async with asyncio.timeout(20):
        await follower.wait_caught_up()
        for of_key, value in ((key, b"one"), (b"another", b"two"), (key, b"three")):
            produce(kafka, of_key, value)
        while len(got) < 2:  # noqa: ASYNC110  # what is asked knows no event
            await asyncio.sleep(0.01)
    assert [(record.topic, record.key, record.value) for record in got] == [
        (VOICE_ACTIVITY.name, key, b"one"),
        (VOICE_ACTIVITY.name, key, b"three"),
    ]
    assert follower.is_alive()
    follower.stop()
    await reading


class Silent(Consumer):
    """A client that says nothing, though there is something: the trouble that is met in the field."""

    def poll(self, timeout: float = -1) -> Message | None:
        time.sleep(min(timeout, 0.05))
        return None


class Broken(Consumer):
    """A client that fails when it has brought three records."""

    brought = 0

    def poll(self, timeout: float = -1) -> Message | None:
        if self.brought >= 3:
            raise KafkaException(KafkaError(KafkaError._FATAL))
        message = super().poll(timeout)
        self.brought += message is not None
        return message

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        return []


@pytest.mark.integration
@pytest.mark.parametrize("first", [Silent, Broken])
async def test_where_a_client_fails_or_hangs_another_one_goes_on(
    kafka: Settings, monkeypatch: pytest.MonkeyPatch, first: type[Consumer]
) -> None:
    """And nothing is missed or comes twice."""
    await asyncio.to_thread(kafka_client.ensure_topics, kafka)
    monkeypatch.setattr(silence, "LOOK_S", 0.2)
    monkeypatch.setattr(following, "AGAIN_S", (0.05,))
    kinds = iter([first, Consumer])
    monkeypatch.setattr(kafka_client, "Consumer", lambda options: next(kinds)(options))
    key = uuid4().hex.encode()
    got: list[KafkaRecord] = []
    follower = Follower(kafka, [VOICE_ACTIVITY.name], got.extend, name="trouble", wants=key.__eq__)
    before = REGISTRY.get_sample_value("callscope_reading_again_total", {"reader": "trouble"}) or 0.0
    reading = asyncio.create_task(follower.run())
    async with asyncio.timeout(30):
        await follower.wait_caught_up()
        await asyncio.to_thread(produce, kafka, key, *(str(number).encode() for number in range(20)))
        while len(got) < 20:  # noqa: ASYNC110  # what is asked knows no event
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert [record.value for record in got] == [str(number).encode() for number in range(20)]
    assert REGISTRY.get_sample_value("callscope_reading_again_total", {"reader": "trouble"}) == before + 1
    follower.stop()
    await reading


@pytest.mark.integration
async def test_a_result_of_a_worker_whose_clock_is_ahead_is_no_younger_for_it(kafka: Settings) -> None:
    """Or for hours the history would begin there, and get longer and longer."""
    await asyncio.to_thread(kafka_client.ensure_topics, kafka)
    key = uuid4().hex.encode()
    history_ms = 3_000
    produce(kafka, key, b"too old", timestamp_ms=clock.calendar_ns() // 1_000_000 + 3 * 3_600_000)
    await asyncio.sleep(1.5 * history_ms / 1_000)
    produce(kafka, key, b"young")
    got: list[KafkaRecord] = []
    follower = Follower(
        kafka, [VOICE_ACTIVITY.name], got.extend, name="test", history_ms={VOICE_ACTIVITY.name: history_ms}
    )
    reading = asyncio.create_task(follower.run())
    async with asyncio.timeout(20):
        await follower.wait_caught_up()
    assert [record.value for record in got if record.key == key] == [b"young"]
    follower.stop()
    await reading


def produce(settings: Settings, key: bytes, *values: bytes, timestamp_ms: int = 0) -> None:
    """With the timestamp 0, that of the moment."""
    producer = kafka_client.producer(settings)
    for value in values:
        producer.produce(VOICE_ACTIVITY.name, key=key, value=value, partition=0, timestamp=timestamp_ms)
    assert producer.flush(10) == 0
