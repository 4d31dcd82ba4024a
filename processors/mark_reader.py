"""Reads what other workers have left in worker.marks of the partitions that a worker takes over."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from callscope import clock, kafka
from callscope.config import Settings
from callscope.errors import KafkaUnreachable
from callscope.streams import StreamId
from callscope.topics import WORKER_MARKS
from processors import mark_wire, telemetry, wire
from processors.stages.marks import StreamMark

Marks = dict[str, dict[StreamId, StreamMark]]
"""By topic and stream."""

_BATCH: Final = 1_000
_ASK_S: Final = 10.0
_READ_S: Final = 60.0


def read_marks(settings: Settings, group: str, partitions: Collection[int]) -> Marks:
    """The marks that workers of a group have left; blocks until all are read.

    Of a stream's marks the one that knows most counts: a worker that was held up, and does not know yet that others
    have gone on, may write older ones after theirs.

    Args:
        settings: where Kafka is.
        group: the consumer group.
        partitions: of which.

    Raises:
        KafkaUnreachable: Kafka did not give them.
    """
    reader: Consumer = kafka.consumer(settings, **{"enable.partition.eof": True})
    deadline = clock.monotonic() + _READ_S
    found: Marks = {}
    try:
        reader.assign([TopicPartition(WORKER_MARKS.name, number, 0) for number in partitions])
        left = set(partitions)
        while left:
            if clock.monotonic() > deadline:
                raise _unreachable(settings, f"they were not read within {_READ_S:.0f} s")
            for message in reader.consume(_BATCH, timeout=0.1 if left else 0):
                error = message.error()
                if error is None:
                    _take(found, group, message.partition() or 0, message.offset() or 0, message.value())
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition() or 0)
                elif error.fatal():
                    raise _unreachable(settings, error.str())
                else:
                    telemetry.worker_kafka_trouble(error.str())
    except KafkaException as error:
        raise _unreachable(settings, error.args[0].str()) from error
    finally:
        reader.close()
    return found


def _take(found: Marks, group: str, partition: int, offset: int, value: bytes | None) -> None:
    try:
        read = mark_wire.decode(value or b"", group)
    except wire.Undecodable as error:
        telemetry.mark_unreadable(partition, offset, str(error))
        return
    if read is None:
        return
    topic, mark = read
    of_topic = found.setdefault(topic, {})
    known = of_topic.get(mark.stream)
    if known is None or (mark.read_to, mark.offset) >= (known.read_to, known.offset):
        of_topic[mark.stream] = mark


def _unreachable(settings: Settings, reason: str) -> KafkaUnreachable:
    return KafkaUnreachable(
        f"What other workers knew of running streams cannot be read from {WORKER_MARKS.name} at {settings.kafka}: "
        f"{reason}. Nothing is worked on without knowing it."
    )
