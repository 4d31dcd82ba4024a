"""Reads partitions with librdkafka in a thread of its own, and hands over what lies ready when it is asked for.

Where the client brings nothing though there is something, another one goes on from the record after the last.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from faust.types import TP

from callscope.clock import monotonic
from callscope.silence import Silence
from callscope.telemetry import reading_again
from processors import telemetry

POLL_S: Final = 0.1
"""How long a new assignment, or the end, may go unnoticed where nothing comes."""
MAX_RECORDS: Final = 5_000
"""Of one hand-over."""
MAX_QUEUED_KB: Final = 16 * 1024
"""What librdkafka fetches ahead while nobody asks."""


class Polled(NamedTuple):
    """A record as it was read."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int


class RecordReader:
    """Follows partitions that it is told, with no group and no commits: Faust's own consumer does that.

    All methods are for one event loop.

    Args:
        options: librdkafka's, where the cluster is and how to be let in.
        max_wait_ms: how long the broker holds a fetch for which it has too little.
        min_bytes: what is enough.
        loop: the event loop.
    """

    def __init__(
        self, options: Mapping[str, Any], max_wait_ms: int, min_bytes: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._options = {
            **options,
            "group.id": "callscope-reader",  # librdkafka wants one; it is never used
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": max_wait_ms,
            "fetch.min.bytes": min_bytes,
            "fetch.queue.backoff.ms": 10,
            "queued.max.messages.kbytes": MAX_QUEUED_KB,
        }
        self._consumer = Consumer(self._options)
        self._silence = Silence(options, monotonic())
        self._next: dict[tuple[str, int], int] = {}
        """Of each partition the offset to go on with."""
        self._loop = loop
        self._epoch = 0
        self._wanted: tuple[int, list[TopicPartition]] = (0, [])
        self._waiting: dict[TP, list[Polled]] | None = None
        self._failure: BaseException | None = None
        self._arrived = asyncio.Event()
        self._room = threading.Semaphore(1)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="record-reader", daemon=True)
        self._thread.start()

    def follow(self, offsets: Mapping[TP, int | None]) -> None:
        """From now on, hand over these partitions only, each from an offset on (None: its beginning)."""
        self._epoch += 1
        self._wanted = (
            self._epoch,
            [
                TopicPartition(tp.topic, tp.partition, OFFSET_BEGINNING if offset is None else offset)
                for tp, offset in offsets.items()
            ],
        )
        self._take()

    async def ready(self, timeout_s: float) -> dict[TP, list[Polled]]:
        """What lies ready, in offset order within each partition; waits for a first record.

        Args:
            timeout_s: for so long; empty after that.

        Raises:
            KafkaException: the client cannot go on.
        """
        if self._waiting is None and self._failure is None:
            self._arrived.clear()
            arriving = asyncio.ensure_future(self._arrived.wait())
            await asyncio.wait([arriving], timeout=timeout_s)
            arriving.cancel()
        if self._failure is not None:
            raise self._failure
        return self._take()

    def close(self) -> None:
        """End within `POLL_S`."""
        self._stopping.set()
        self._room.release()

    def _take(self) -> dict[TP, list[Polled]]:
        found, self._waiting = self._waiting, None
        if found is None:
            return {}
        self._room.release()
        return found

    # Below runs in the thread.

    def _run(self) -> None:
        try:
            epoch = 0
            while not self._stopping.is_set():
                if self._wanted[0] != epoch:
                    epoch, partitions = self._wanted
                    self._next = {(part.topic, part.partition): part.offset for part in partitions}
                    self._consumer.assign(partitions)
                    self._silence.broken(monotonic())
                first = self._consumer.poll(POLL_S)
                if first is None:
                    if self._silence.is_too_long(monotonic(), self._next):
                        self._begin_anew()
                    continue
                self._room.acquire()
                self._hand_over(epoch, [first, *self._consumer.consume(MAX_RECORDS - 1, timeout=0)])
        except BaseException as failure:  # told to whoever asks next
            self._call(self._fail, failure)
        finally:
            self._consumer.close()

    def _begin_anew(self) -> None:
        reading_again("records", "Kafka's client brings nothing, though there is something to read")
        threading.Thread(target=self._consumer.close, name="closing-reader", daemon=True).start()  # it may take long
        self._consumer = Consumer(self._options)
        self._consumer.assign([TopicPartition(*where, offset) for where, offset in self._next.items()])
        self._silence.broken(monotonic())

    def _hand_over(self, epoch: int, messages: list[Any]) -> None:
        found: dict[TP, list[Polled]] = {}
        for message in messages:
            error = message.error()
            if error is None:
                record = Polled(message.offset(), message.key(), message.value(), message.timestamp()[1])
                found.setdefault(TP(message.topic(), message.partition()), []).append(record)
                self._next[message.topic(), message.partition()] = record.offset + 1
            elif error.fatal():
                raise KafkaException(error)
            else:
                telemetry.worker_kafka_trouble(error.str())
        self._silence.broken(monotonic())
        if found:
            self._call(self._arrive, epoch, found)
        else:
            self._room.release()

    def _call(self, function: Any, *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    # And these on the loop again.

    def _arrive(self, epoch: int, found: dict[TP, list[Polled]]) -> None:
        if epoch != self._epoch:  # of partitions that it was told of before
            self._room.release()
            return
        self._waiting = found
        self._arrived.set()

    def _fail(self, failure: BaseException) -> None:
        self._failure = failure
        self._arrived.set()
