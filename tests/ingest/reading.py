"""Read back what the gateway wrote to a real Kafka."""

from __future__ import annotations

from typing import Any

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from callscope import kafka
from callscope.config import Settings
from callscope.topics import Topic


def records_of(settings: Settings, topic: Topic, call_id: str) -> list[Any]:
    """All messages of a call that the topic holds now, in the order of their offsets."""
    consumer = kafka.consumer(settings)
    try:
        partitions = [TopicPartition(topic.name, n, OFFSET_BEGINNING) for n in range(settings.topics.partitions)]
        left = {p.partition: consumer.get_watermark_offsets(p, timeout=10)[1] for p in partitions}
        left = {partition: high for partition, high in left.items() if high}
        consumer.assign(partitions)
        messages = []
        while left:
            message = consumer.poll(10)
            assert message is not None, f"{topic.name} should hold more: {left}"
            assert message.error() is None
            partition, offset, key = message.partition(), message.offset(), message.key()
            assert partition is not None and offset is not None and isinstance(key, bytes)
            if offset + 1 >= left.get(partition, 0):
                left.pop(partition, None)
            if key.decode().partition("/")[0] == call_id:
                messages.append(message)
        return messages
    finally:
        consumer.close()
