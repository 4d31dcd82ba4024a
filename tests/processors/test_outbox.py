from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, Producer
from faust.types import TP

from callscope.streams import StreamId
from callscope.topics import partition_of
from processors import wire
from processors.outbox import Outbox
from processors.records import ActivityKind, Envelope, VoiceActivity
from processors.transport import Batch, Fetch

STREAM = StreamId("call-1", "customer")


class RecordingProducer:
    """Keeps what is produced, and reports deliveries when polled; its queue can be full for a while."""

    def __init__(self, full_for: int = 0, error: KafkaError | None = None) -> None:
        self.produced: list[tuple[str, dict[str, Any]]] = []
        self._full_for = full_for
        self._error = error
        self._reports: list[Callable[[KafkaError | None, None], None]] = []
        self.reporting = True

    def produce(self, topic: str, **record: Any) -> None:
        if self._full_for:
            self._full_for -= 1
            raise BufferError
        self._reports.append(record.pop("on_delivery"))
        self.produced.append((topic, record))

    def poll(self, timeout: float) -> int:
        while self.reporting and self._reports:
            self._reports.pop()(self._error, None)
        return 0


def levels(count: int) -> list[Envelope]:
    return [
        Envelope(VoiceActivity(STREAM, ActivityKind.LEVEL, n * 1600, 1600, False, 0.0, -60.0, None, "energy"))
        for n in range(count)
    ]


def outbox_to(producer: RecordingProducer) -> Outbox:
    return Outbox(cast(Producer, producer), 8)


def fetch() -> Fetch:
    partition = partition_of(STREAM.call_id, 8)
    return Fetch({number: Batch(TP("audio.frames", number), [], 0, 0) for number in (partition, partition + 1)})


def undelivered(of: Fetch) -> int:
    return of.batches[partition_of(STREAM.call_id, 8)].undelivered


async def test_a_result_goes_to_its_topic_keyed_by_stream_and_partitioned_by_call() -> None:
    producer = RecordingProducer()
    [envelope] = levels(1)
    await outbox_to(producer).send(fetch(), [envelope])
    [(topic, record)] = producer.produced
    assert topic == "voice.activity"
    assert record["key"] == "call-1/customer"
    assert record["partition"] == partition_of("call-1", 8)
    assert record["headers"] == [("schema", "callscope.v1.VoiceActivity")]
    assert wire.decode(topic, record["value"]).record == envelope.record


async def test_a_batch_counts_its_results_until_they_are_delivered() -> None:
    producer, source = RecordingProducer(), fetch()
    producer.reporting = False
    outbox = outbox_to(producer)
    await outbox.send(source, levels(3))
    assert undelivered(source) == 3
    producer.reporting = True
    await outbox.send(fetch(), levels(1))
    assert undelivered(source) == 0


async def test_a_full_queue_is_waited_for_and_nothing_is_left_out() -> None:
    producer, source = RecordingProducer(full_for=3), fetch()
    await outbox_to(producer).send(source, levels(5))
    assert len(producer.produced) == 5
    assert undelivered(source) == 0


async def test_a_result_that_is_lost_stops_the_worker_and_holds_the_commit_back() -> None:
    producer, source = RecordingProducer(error=KafkaError(KafkaError._MSG_TIMED_OUT)), fetch()
    with pytest.raises(RuntimeError, match="Kafka did not take a result"):
        await outbox_to(producer).send(source, levels(2))
    assert undelivered(source) == 2
