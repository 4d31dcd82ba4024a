"""Reads what the topics hold at this moment: partition by partition, each up to where it ended when reading began."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from callscope.clock import monotonic
from callscope.config import Settings
from callscope.errors import KafkaUnreachable
from callscope.kafka import consumer
from callscope.topics import Topic

ANSWER_WITHIN_S: Final = 30.0

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it lies in Kafka.

    Attributes:
        topic: its topic's name.
        partition: where it lies.
        offset: where it lies.
        timestamp_ms: since the epoch, as its producer or the broker set it.
        key: as bytes; empty for none.
        value: as bytes; empty for none.
        headers: names and values, in order.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    headers: Headers = ()


def call_of(topic: Topic, key: bytes) -> str | None:
    """The call that a record's key names; None where it names none."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return None
    return (text.rpartition("/")[0] if topic.key == "stream" else text) or None


class Retained:
    """The records of some topics; close it.

    Attributes:
        partitions: how many partitions a topic has; 0 where none of the topics exists.

    Args:
        settings: where Kafka is.
        topics: which ones; those that do not exist hold nothing.
        only: partitions that are wanted; None: all.

    Raises:
        KafkaUnreachable: no broker answered in time.
    """

    def __init__(self, settings: Settings, topics: Sequence[Topic], only: Collection[int] | None = None) -> None:
        self._kafka = settings.kafka
        self._consumer: Any = consumer(
            settings, **{"enable.partition.eof": True, "queued.max.messages.kbytes": 16_384, "fetch.wait.max.ms": 100}
        )
        try:
            there = self._asked(lambda: self._consumer.list_topics(timeout=ANSWER_WITHIN_S)).topics
            self._ranges: dict[tuple[str, int], tuple[int, int]] = {
                (topic.name, number): self._watermarks(topic.name, number)
                for topic in topics
                if topic.name in there
                for number in there[topic.name].partitions
                if only is None or number in only
            }
        except BaseException:
            self._consumer.close()
            raise
        self.partitions = max((number + 1 for _, number in self._ranges), default=0)

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def __enter__(self) -> Retained:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def count(self, topics: Collection[Topic], partitions: Collection[int]) -> int:
        """How many records some topics hold in some partitions."""
        names = {topic.name for topic in topics}
        return sum(end - first for (name, n), (first, end) in self._ranges.items() if name in names and n in partitions)

    def extent(self, topic: Topic, partition: int) -> tuple[int, int]:
        """Offsets of the first record of a partition, and behind the last one."""
        return self._ranges.get((topic.name, partition), (0, 0))

    def records(
        self,
        topic: Topic,
        partition: int,
        since_ms: int | None = None,
        until_ms: int | None = None,
        *,
        first_offset: int = 0,
        end_offset: int | None = None,
    ) -> Iterator[Stored]:
        """The records of one partition, in order.

        Args:
            topic: which.
            partition: which.
            since_ms: begin at the first record of that time or later, milliseconds since the epoch.
            until_ms: end before the first record of that time or later.
            first_offset: begin there, or at the first record that is kept.
            end_offset: end before it.

        Raises:
            KafkaUnreachable: the broker stopped answering.
        """
        first, end = self.extent(topic, partition)
        first = max(first, first_offset)
        end = end if end_offset is None else min(end, end_offset)
        if since_ms is not None:
            first = max(first, self._offset_at(topic.name, partition, since_ms, end))
        if until_ms is not None:
            end = min(end, self._offset_at(topic.name, partition, until_ms, end))
        if first >= end:
            return
        self._consumer.assign([TopicPartition(topic.name, partition, first)])
        try:
            yield from self._until(topic.name, end)
        finally:
            self._consumer.unassign()

    def _until(self, topic: str, end: int) -> Iterator[Stored]:
        heard, trouble = monotonic(), "no answer"
        while True:
            message = self._consumer.poll(1.0)
            error = message.error() if message is not None else None
            if message is None or error is not None:
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    if message.offset() >= end:
                        return
                elif error is not None:
                    trouble = error.str()  # librdkafka goes on trying
                if monotonic() - heard > ANSWER_WITHIN_S:
                    raise KafkaUnreachable(
                        f"{topic} could not be read to its end from Kafka at {self._kafka}: {trouble} for "
                        f"{ANSWER_WITHIN_S:.0f} s. Try again."
                    )
                continue
            if message.offset() >= end:
                return
            yield Stored(
                topic,
                message.partition(),
                message.offset(),
                message.timestamp()[1],
                message.key() or b"",
                message.value() or b"",
                tuple((name, value) for name, value in message.headers() or ()),
            )
            if message.offset() == end - 1:
                return
            heard = monotonic()

    def _watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        found: tuple[int, int] = self._asked(
            lambda: self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_WITHIN_S)
        )
        return found

    def _offset_at(self, topic: str, partition: int, time_ms: int, end: int) -> int:
        (found,) = self._asked(
            lambda: self._consumer.offsets_for_times([TopicPartition(topic, partition, time_ms)], ANSWER_WITHIN_S)
        )
        return int(found.offset) if found.offset >= 0 else end

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except KafkaException as error:
            raise KafkaUnreachable(
                f"No Kafka broker answered at {self._kafka} within {ANSWER_WITHIN_S:.0f} s ({error.args[0].str()}). Is "
                "it running, and is the address right? `callscope doctor` checks both."
            ) from error
