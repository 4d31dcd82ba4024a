"""A producer that has no business in `audio.frames`: it writes records again, in disorder, and writes nonsense."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from typing import Any, Final

from confluent_kafka import OFFSET_END, Producer, TopicPartition

from callscope.clock import monotonic
from callscope.config import Settings
from callscope.kafka import consumer, producer
from callscope.topics import AUDIO_FRAMES
from schemas.v1.audio_pb2 import AudioFrame

HEARD_S: Final = 4.0
"""How long it listens for what it writes again."""

Record = tuple[int, bytes, bytes]
"""Partition, key, value."""


def write_again(settings: Settings, rng: random.Random, *, in_order: bool) -> int:
    """Write records of calls that run once more, a second or more after they were written: each one to three times.

    Args:
        settings: where Kafka is.
        rng: how often, and in which order.
        in_order: each stream's in the order of its media time; else in any order.

    Returns:
        How many were written.
    """
    heard = list(_listen(settings, HEARD_S))
    copies = [record for record in heard for _ in range(rng.randint(1, 3))]
    if not in_order:
        rng.shuffle(copies)
    return _write(settings, copies)


def write_nonsense(settings: Settings, rng: random.Random, running: Collection[str], number: int = 400) -> int:
    """Write records that no gateway writes, under keys of their own and of streams that run.

    Args:
        settings: where Kafka is.
        rng: which.
        running: keys of streams that run.
        number: how many.

    Returns:
        How many were written.
    """
    heard = list(_listen(settings, 1.0))
    strangers = ["", "nobody", "no/leg/", "\x00", "stranger/customer"]
    records = []
    for _ in range(number):
        partition, key, value = rng.choice(heard)
        if rng.random() < 0.3:
            key = rng.choice([*strangers, *running]).encode() + rng.choice([b"", b"\xff"])
        records.append((partition, key, rng.choice(NONSENSE)(value, rng)))
    return _write(settings, records)


def _random_bytes(value: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randint(1, 2_000))


def _nothing(value: bytes, rng: random.Random) -> bytes:
    return b""


def _cut_off(value: bytes, rng: random.Random) -> bytes:
    return value[: rng.randint(1, len(value) - 1)]


def _half_a_sample(value: bytes, rng: random.Random) -> bytes:
    frame = AudioFrame.FromString(value)
    frame.pcm = frame.pcm[:-1]
    return frame.SerializeToString()


def _nameless(value: bytes, rng: random.Random) -> bytes:
    frame = AudioFrame.FromString(value)
    frame.ClearField(rng.choice(("call_id", "leg")))
    return frame.SerializeToString()


def _before_time(value: bytes, rng: random.Random) -> bytes:
    frame = AudioFrame.FromString(value)
    frame.start = -rng.randint(1, 1 << 40)
    return frame.SerializeToString()


NONSENSE: Final = (_random_bytes, _nothing, _cut_off, _half_a_sample, _nameless, _before_time)


def _listen(settings: Settings, seconds: float) -> Iterator[Record]:
    reader: Any = consumer(settings)
    try:
        reader.assign([TopicPartition(AUDIO_FRAMES.name, n, OFFSET_END) for n in range(settings.topics.partitions)])
        until = monotonic() + seconds
        while monotonic() < until:
            for message in reader.consume(500, 0.2):
                if message.error() is None and message.value():
                    yield message.partition(), message.key() or b"", message.value()
    finally:
        reader.close()


def _write(settings: Settings, records: Collection[Record]) -> int:
    """Spread over a second, between those of the gateway."""
    writer: Producer = producer(settings)
    for partition, key, value in records:
        writer.produce(AUDIO_FRAMES.name, value, key, partition)
        writer.poll(1.0 / len(records))
    writer.flush(10.0)
    return len(records)
