"""The follower where there is nothing to read from."""

import asyncio
from uuid import uuid4

import pytest

from callscope import following
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


def produce(settings: Settings, key: bytes, value: bytes) -> None:
    producer = kafka_client.producer(settings)
    producer.produce(VOICE_ACTIVITY.name, key=key, value=value, partition=0)
    assert producer.flush(10) == 0
