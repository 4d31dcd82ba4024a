"""Reading the topics in tests: every record of one call, decoded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, Message, TopicPartition

from callscope.clock import monotonic
from callscope.config import Settings
from callscope.kafka import consumer
from callscope.topics import Topic, partition_of
from schemas.v1 import activity_pb2, audio_pb2, events_pb2, features_pb2, insight_pb2

MESSAGES: dict[str, Any] = {
    message.DESCRIPTOR.full_name: message
    for module in (activity_pb2, audio_pb2, events_pb2, features_pb2, insight_pb2)
    for message in vars(module).values()
    if hasattr(message, "DESCRIPTOR") and hasattr(message, "FromString")
}


@dataclass(frozen=True)
class Stored:
    """A record as it lies in Kafka, and what it says."""

    raw: Message
    message: Any


def read_call(settings: Settings, topic: Topic, call_id: str) -> list[Stored]:
    """Every record of a call that a topic holds now, in order."""
    kind = MESSAGES[topic.value]
    reader = consumer(settings, **{"enable.partition.eof": True})
    partition = TopicPartition(topic.name, partition_of(call_id, settings.topics.partitions), 0)
    found: list[Stored] = []
    try:
        reader.assign([partition])
        while True:
            raw = reader.poll(10.0)
            assert raw is not None, f"no answer from {settings.kafka}"
            error = raw.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                return found
            if (raw.key() or b"").decode().partition("/")[0] == call_id:  # others may be no messages
                found.append(Stored(raw, kind.FromString(raw.value())))
    finally:
        reader.close()


async def read_when(
    settings: Settings, topic: Topic, call_id: str, complete: Callable[[list[Stored]], bool], timeout_s: float = 60.0
) -> list[Stored]:
    """`read_call` once `complete` says that all is there.

    Raises:
        AssertionError: it was not in time.
    """
    deadline = monotonic() + timeout_s
    while True:
        found = await asyncio.to_thread(read_call, settings, topic, call_id)
        if complete(found):
            return found
        assert monotonic() < deadline, f"{topic.name}: only {len(found)} records of {call_id} after {timeout_s} s"
        await asyncio.sleep(0.2)
