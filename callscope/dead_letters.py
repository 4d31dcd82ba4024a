"""Records that could not be worked on: letters that say which, why and where.

A worker writes its letters with the results of the same fetch (`processors.outbox`), so that none is lost with it. The
sink, which commits nothing, uses a `LetterBox`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from confluent_kafka import OFFSET_END, Consumer, KafkaException, Producer, TopicPartition
from google.protobuf.message import DecodeError

from callscope import kafka, telemetry
from callscope.clock import monotonic, wall_ns
from callscope.config import Settings
from callscope.errors import KafkaUnreachable
from callscope.topics import DEAD_LETTERS
from schemas.v1.dead_letter_pb2 import DeadLetter

MAX_BYTES: Final = 64 * 1024
"""Of a key or value that a letter keeps."""
MAX_REASON: Final = 500
LETTERS_PER_S: Final = 50
"""That one program writes at most, some seconds' worth at once; what goes beyond is only counted."""
_BURST_S: Final = 4
_TIMEOUT_S: Final = 10.0


def letter(
    topic: str,
    partition: int,
    offset: int,
    stage: str,
    reason: str,
    key: bytes | None,
    value: bytes | None,
    written_ms: int = 0,
) -> DeadLetter:
    """The letter about one record.

    Args:
        topic: where it lay.
        partition: likewise.
        offset: likewise.
        stage: who could not work on it.
        reason: why; cut off at 500 characters.
        key: as it was; cut off at 64 KiB, as is the value.
        value: as it was.
        written_ms: its timestamp, milliseconds since the epoch.
    """
    key, value = key or b"", value or b""
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=offset,
        stage=stage,
        reason=reason[:MAX_REASON],
        key=key[:MAX_BYTES],
        value=value[:MAX_BYTES],
        key_bytes=len(key),
        value_bytes=len(value),
        written_ms=max(0, written_ms),
        time_ns=wall_ns(),
    )


def key_of(dead: DeadLetter) -> str:
    """The key of a letter's record: the same whoever writes it, and however often."""
    return f"{dead.topic}/{dead.partition}/{dead.offset}"


class Allowance:
    """How many letters may be written now; the rest is only counted. A flood of poison shall not be one of letters."""

    def __init__(self) -> None:
        self._left = float(LETTERS_PER_S * _BURST_S)
        self._at = monotonic()

    def take(self) -> bool:
        """Whether there is room for one more."""
        now = monotonic()
        self._left = min(LETTERS_PER_S * _BURST_S, self._left + (now - self._at) * LETTERS_PER_S)
        self._at = now
        if self._left < 1:
            telemetry.dead_letter_left_out()
            return False
        self._left -= 1
        return True


class LetterBox:
    """Writes letters without waiting for Kafka. Its producer is made with the first one: mostly there is none.

    Args:
        settings: where Kafka is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Producer | None = None
        self._allowance = Allowance()

    def put(self, dead: DeadLetter) -> None:
        """Count, log and send a letter."""
        telemetry.record_dead(dead.stage, dead.topic, dead.partition, dead.offset, dead.reason)
        if not self._allowance.take():
            return
        if self._producer is None:
            limits = {"queue.buffering.max.messages": 10_000, "linger.ms": 50}
            self._producer = kafka.producer(self._settings, **limits)
        try:
            self._producer.produce(
                DEAD_LETTERS.name,
                key=key_of(dead),
                value=dead.SerializeToString(),
                partition=dead.partition % self._settings.topics.partitions,
                headers=[("schema", DEAD_LETTERS.value)],
            )
            self._producer.poll(0)
        except (BufferError, KafkaException):  # the record stays where it lay
            telemetry.dead_letter_left_out()

    def close(self, timeout_s: float = 2.0) -> None:
        """Give what was put a chance to arrive."""
        if self._producer is not None:
            self._producer.flush(timeout_s)


def read(settings: Settings, since_ms: int) -> Iterator[DeadLetter]:
    """The letters written since then, partition by partition in their order; each record's once.

    Args:
        settings: where Kafka is.
        since_ms: milliseconds since the epoch.

    Raises:
        KafkaUnreachable: no broker answers.
    """
    consumer = kafka.consumer(settings, **{"group.id": "callscope-dead-letters"})
    seen: set[str] = set()
    try:
        behind = _assign(consumer, since_ms)
        while behind:
            message = consumer.poll(_TIMEOUT_S)
            if message is None:
                raise KafkaUnreachable(f"{DEAD_LETTERS.name} could not be read to its end: no answer from Kafka.")
            if (error := message.error()) is not None:
                raise KafkaUnreachable(f"{DEAD_LETTERS.name} could not be read: {error.str()}")
            partition, offset = message.partition() or 0, message.offset() or 0
            if offset + 1 >= behind.get(partition, 0):
                behind.pop(partition, None)
            try:
                dead = DeadLetter.FromString(message.value() or b"")
            except DecodeError as garbage:
                dead = letter(DEAD_LETTERS.name, partition, offset, "", f"no letter: {garbage}", message.key(), None)
            if (name := key_of(dead)) not in seen:
                seen.add(name)
                yield dead
    finally:
        consumer.close()


def line_of(dead: DeadLetter) -> str:
    """A letter for people: when, where it lay, under which key, who could not work on it, why."""
    at = datetime.fromtimestamp(dead.time_ns / 1e9, UTC)
    key = dead.key.decode(errors="backslashreplace")[:80]
    return (
        f"{at:%Y-%m-%d %H:%M:%S}Z  {key_of(dead)}  {key or '(no key)'}  {dead.stage or '?'}  "
        f"{dead.value_bytes} bytes: {dead.reason}"
    )


def _assign(consumer: Consumer, since_ms: int) -> dict[int, int]:
    """Begin to read; returns partition → where it ends, of those that hold any."""
    try:
        known = consumer.list_topics(DEAD_LETTERS.name, timeout=_TIMEOUT_S).topics[DEAD_LETTERS.name]
        wanted = [TopicPartition(DEAD_LETTERS.name, number, max(0, since_ms)) for number in known.partitions]
        starts = consumer.offsets_for_times(wanted, timeout=_TIMEOUT_S) if wanted else []
        ends = {part.partition: consumer.get_watermark_offsets(part, timeout=_TIMEOUT_S)[1] for part in starts}
    except KafkaException as error:
        raise KafkaUnreachable(f"{DEAD_LETTERS.name} cannot be read: {error.args[0].str()}") from error
    starts = [part for part in starts if part.offset != OFFSET_END and 0 <= part.offset < ends[part.partition]]
    consumer.assign(starts)
    return {part.partition: ends[part.partition] for part in starts}
