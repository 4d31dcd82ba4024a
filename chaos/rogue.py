"""A producer that has no business in `audio.frames`: it writes records again, too early, and nonsense."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import OFFSET_END, Producer, TopicPartition

from callscope.clock import monotonic
from callscope.config import Settings
from callscope.kafka import consumer, producer
from callscope.topics import AUDIO_FRAMES, partition_of
from chaos.calls import LEGS, RATE_HZ, Call
from schemas.v1.audio_pb2 import AudioFrame

LISTENS_S: Final = 3.0
"""How long it takes records down before it writes them again."""
FRAME: Final = RATE_HZ // 50
EARLY_FRAMES: Final = (3, 10)
"""How far ahead of its turn a frame is written."""


class Record(NamedTuple):
    """A record of `audio.frames`."""

    partition: int
    key: bytes
    value: bytes


class Rogue:
    """The producer.

    Args:
        settings: where Kafka is.
        rng: decides what it writes.
    """

    def __init__(self, settings: Settings, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng

    def write_again(self, *, in_order: bool) -> None:
        """Write records of the last seconds once more, one to three times; in any order, if not in theirs."""
        copies = [record for record in self._listen(LISTENS_S) for _ in range(self._rng.randint(1, 3))]
        if not in_order:
            self._rng.shuffle(copies)
        self._write(copies)

    def write_early(self, calls: Sequence[Call]) -> None:
        """Write frames that are about to be spoken before the gateway does: they overtake those before them."""
        self._write(
            self._early(call, leg, self._rng.randint(*EARLY_FRAMES))
            for _ in range(20)
            for call in calls
            if call.running and call.left_s > 1.0
            for leg in LEGS
        )

    def write_nonsense(self, number: int) -> None:
        """Write so many records that no gateway writes, under keys of streams that run and of strangers."""
        heard = list(self._listen(1.0))
        self._write([self._rng.choice(NONSENSE)(self._rng.choice(heard), self._rng) for _ in range(number)])

    def _early(self, call: Call, leg: str, frames: int) -> Record:
        start = (int(call.spoken_s * RATE_HZ) // FRAME + frames) * FRAME
        pcm = call.pcm[start : start + FRAME, LEGS.index(leg)].tobytes()
        frame = AudioFrame(call_id=call.call_id, leg=leg, seq=1, start=start, pcm=pcm, source="rogue")
        partition = partition_of(call.call_id, self._settings.topics.partitions)
        return Record(partition, f"{call.call_id}/{leg}".encode(), frame.SerializeToString())

    def _listen(self, seconds: float) -> Iterator[Record]:
        reader: Any = consumer(self._settings)
        partitions = range(self._settings.topics.partitions)
        try:
            reader.assign([TopicPartition(AUDIO_FRAMES.name, n, OFFSET_END) for n in partitions])
            until = monotonic() + seconds
            while monotonic() < until:
                for message in reader.consume(500, 0.2):
                    if message.error() is None and message.value():
                        yield Record(message.partition(), message.key() or b"", message.value())
        finally:
            reader.close()

    def _write(self, records: Iterable[Record]) -> None:
        """One after the other, a few hundred a second, between those of the gateway."""
        writer: Producer = producer(self._settings)
        for record in records:
            writer.produce(AUDIO_FRAMES.name, record.value, record.key, record.partition)
            writer.poll(0.002)
        writer.flush(10.0)


def _random_bytes(record: Record, rng: random.Random) -> Record:
    return record._replace(value=rng.randbytes(rng.randint(1, 2_000)))


def _nothing(record: Record, rng: random.Random) -> Record:
    return record._replace(value=b"")


def _cut_off(record: Record, rng: random.Random) -> Record:
    return record._replace(value=record.value[: rng.randint(1, len(record.value) - 1)])


def _other_key(record: Record, rng: random.Random) -> Record:
    return record._replace(key=rng.choice((b"", b"stranger/customer", b"\xff\x00", record.key[:-1])))


def _other_partition(record: Record, rng: random.Random) -> Record:
    return record._replace(partition=record.partition ^ 1)


def _changed(change: Callable[[AudioFrame, random.Random], None]) -> Callable[[Record, random.Random], Record]:
    def nonsense(record: Record, rng: random.Random) -> Record:
        frame = AudioFrame.FromString(record.value)
        change(frame, rng)
        return record._replace(value=frame.SerializeToString())

    return nonsense


def _half_a_sample(frame: AudioFrame, rng: random.Random) -> None:
    frame.pcm = frame.pcm[:-1] or b"\x00"


def _nameless(frame: AudioFrame, rng: random.Random) -> None:
    frame.ClearField(rng.choice(("call_id", "leg")))


def _far_away(frame: AudioFrame, rng: random.Random) -> None:
    frame.start += rng.randint(1 << 32, 1 << 62)


NONSENSE: Final = (
    _random_bytes,
    _nothing,
    _cut_off,
    _other_key,
    _other_partition,
    _changed(_half_a_sample),
    _changed(_nameless),
    _changed(_far_away),
)
