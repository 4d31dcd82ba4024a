"""The reader where its client fails it."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from faust.types import TP
from prometheus_client import REGISTRY

from callscope import kafka as kafka_client
from callscope import silence
from callscope.config import Settings
from processors import record_reader
from processors.record_reader import Polled, RecordReader

pytestmark = pytest.mark.integration


class Deaf(Consumer):
    """A client that brings three records and then nothing, as after a broker's absence."""

    brought = 0

    def poll(self, timeout: float = -1) -> Message | None:
        if self.brought >= 3:
            return None
        message = super().poll(timeout)
        self.brought += message is not None
        return message

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        return []


@pytest.fixture
def topic(kafka: Settings) -> str:
    name = f"read-{uuid4().hex[:8]}"
    admin = AdminClient(kafka_client.client_options(kafka))
    admin.create_topics([NewTopic(name, 2, 1)])[name].result(10)
    return name


def produce(settings: Settings, topic: str, partition: int, count: int) -> None:
    producer = kafka_client.producer(settings)
    for number in range(count):
        producer.produce(topic, value=str(number).encode(), partition=partition)
    assert producer.flush(10) == 0


def again() -> float:
    return REGISTRY.get_sample_value("callscope_reading_again_total", {"reader": "records"}) or 0.0


async def test_another_client_goes_on_where_one_brings_nothing(
    kafka: Settings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is missed or comes twice; a client that has nothing to bring is left alone."""
    monkeypatch.setattr(silence, "LOOK_S", 0.2)
    kinds = iter([Deaf, Consumer])
    monkeypatch.setattr(record_reader, "Consumer", lambda options: next(kinds)(options))
    produce(kafka, topic, 0, 10)
    before = again()
    reader = RecordReader(kafka_client.client_options(kafka), 10, 1, asyncio.get_running_loop())
    try:
        reader.follow({TP(topic, 0): 2, TP(topic, 1): None})
        got: dict[TP, list[Polled]] = {}
        async with asyncio.timeout(30):
            while len(got.get(TP(topic, 0), ())) < 8:
                merge(got, await reader.ready(0.1))
            assert again() == before + 1
            await asyncio.sleep(1.0)  # five looks
            assert again() == before + 1
            produce(kafka, topic, 1, 5)
            while len(got.get(TP(topic, 1), ())) < 5:
                merge(got, await reader.ready(0.1))
        assert [record.offset for record in got[TP(topic, 0)]] == list(range(2, 10))
        assert [record.offset for record in got[TP(topic, 1)]] == list(range(5))
    finally:
        reader.close()


def test_records_that_retention_took_are_not_missed(kafka: Settings, topic: str) -> None:
    """What is gone cannot be read: no client is to blame."""
    options: dict[str, Any] = kafka_client.client_options(kafka)
    produce(kafka, topic, 0, 10)
    admin = AdminClient(options)
    for deleted in admin.delete_records([TopicPartition(topic, 0, 10)]).values():
        deleted.result(10)
    assert kafka_client.unread(options, {(topic, 0): 2, (topic, 1): -2}, 5.0) == {(topic, 0): 0, (topic, 1): 0}
    produce(kafka, topic, 0, 4)
    assert kafka_client.unread(options, {(topic, 0): 2, (topic, 1): 0}, 5.0) == {(topic, 0): 4, (topic, 1): 0}


def merge(got: dict[TP, list[Polled]], found: dict[TP, list[Polled]]) -> None:
    for tp, records in found.items():
        got.setdefault(tp, []).extend(records)
