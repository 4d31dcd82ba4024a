from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.topics import ALL_TOPICS, partition_of
from schemas.v1 import (
    activity_pb2,
    audio_pb2,
    dead_letter_pb2,
    events_pb2,
    features_pb2,
    insight_pb2,
    marks_pb2,
    status_pb2,
)

MODULES = (
    activity_pb2,
    audio_pb2,
    dead_letter_pb2,
    events_pb2,
    features_pb2,
    insight_pb2,
    marks_pb2,
    status_pb2,
)


# Computed with org.apache.kafka.common.utils.Utils: (murmur2(bytes) & 0x7fffffff) % 8, as its default partitioner does.
@pytest.mark.parametrize(
    ("call_id", "murmur2"), [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536)]
)
def test_the_partition_is_that_of_the_java_client(call_id: str, murmur2: int) -> None:
    assert partition_of(call_id, 8) == (murmur2 & 0x7FFFFFFF) % 8


@given(st.text(min_size=1, max_size=128), st.integers(1, 100))
def test_every_call_has_a_partition(call_id: str, partitions: int) -> None:
    assert 0 <= partition_of(call_id, partitions) < partitions


def test_every_topic_names_a_message_that_exists() -> None:
    known = {m.full_name for module in MODULES for m in module.DESCRIPTOR.message_types_by_name.values()}
    assert {topic.value for topic in ALL_TOPICS} <= known


def test_topic_names_are_unique() -> None:
    assert len({topic.name for topic in ALL_TOPICS}) == len(ALL_TOPICS)
