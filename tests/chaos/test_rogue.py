from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from callscope.topics import AUDIO_FRAMES, partition_of
from chaos.rogue import NONSENSE, Record
from processors import wire
from processors.intake import decode_record
from schemas.v1.audio_pb2 import AudioFrame

PARTITIONS = 8
FRAME = AudioFrame(call_id="line00-001", leg="agent", seq=7, start=6_720, pcm=bytes(range(240)) * 8, source="websocket")
GOOD = Record(partition_of("line00-001", PARTITIONS), b"line00-001/agent", FRAME.SerializeToString())
Nonsense = Callable[[Record, random.Random], Record]


def read(record: Record) -> None:
    decode_record(AUDIO_FRAMES.name, record.partition, record.key, record.value, PARTITIONS)


def test_what_it_begins_with_is_a_record() -> None:
    read(GOOD)


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_is_none_or_lies_far_from_its_streams_audio(nonsense: Nonsense) -> None:
    """But for records that happen to be cut off between two fields: these are records, of audio that was heard."""
    rng = random.Random(1)
    refused = 0
    for _ in range(50):
        record = nonsense(GOOD, rng)
        assert record != GOOD
        try:
            read(record)
        except wire.Undecodable:
            refused += 1
        else:
            start = AudioFrame.FromString(record.value).start
            assert start in (0, FRAME.start) or start > FRAME.start + (1 << 31)
    assert refused in (0, 50) or refused > 25
