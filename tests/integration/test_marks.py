"""Marks as they lie in a real Kafka."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource

from callscope.config import Settings
from callscope.kafka import client_options, ensure_topics, producer
from callscope.streams import StreamId
from callscope.topics import AUDIO_FRAMES, WORKER_MARKS
from processors import mark_wire
from processors.mark_reader import read_marks
from processors.stages.marks import ExtractMark, StreamMark

pytestmark = pytest.mark.integration


def test_of_a_streams_marks_the_one_that_knows_most_counts(kafka: Settings) -> None:
    ensure_topics(kafka)
    group = f"group-{uuid.uuid4().hex[:8]}"
    stream, other = StreamId("a", "customer"), StreamId("b", "customer")
    writer = producer(kafka)

    def put(of: str, mark: StreamMark, partition: int) -> None:
        value = mark_wire.encode(of, AUDIO_FRAMES.name, mark)
        writer.produce(
            WORKER_MARKS.name, key=mark_wire.key(of, AUDIO_FRAMES.name, mark.stream), value=value, partition=partition
        )

    marks = [StreamMark(stream, at, at + 10, at, extract=ExtractMark(at)) for at in (10, 30, 20)]
    for mark in marks:  # the last one is of a worker that was held up
        put(group, mark, 0)
    put(group, StreamMark(other, 5, 5, 1, ended=True), 1)
    put("others", StreamMark(stream, 99, 99, 1), 0)
    writer.produce(WORKER_MARKS.name, key="x", value=b"\xff", partition=0)
    assert writer.flush(10) == 0
    found = read_marks(kafka, group, [0])
    assert found == {AUDIO_FRAMES.name: {stream: marks[1]}}
    both = read_marks(kafka, group, range(kafka.topics.partitions))
    assert both[AUDIO_FRAMES.name][other].ended
    assert read_marks(kafka, "nobody", [0, 1]) == {}


def test_the_topic_is_compacted_and_kept_as_long_as_the_audio(kafka: Settings) -> None:
    ensure_topics(kafka)
    admin = AdminClient(client_options(kafka))
    resource = ConfigResource(ConfigResource.Type.TOPIC, WORKER_MARKS.name)
    config = admin.describe_configs([resource])[resource].result()
    assert set(config["cleanup.policy"].value.split(",")) == {"compact", "delete"}
    assert int(config["retention.ms"].value) == AUDIO_FRAMES.retention_ms
