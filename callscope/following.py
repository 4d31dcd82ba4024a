"""Follows topics from their ends: read in a thread of its own, handed to the event loop in batches.

A follower that has begun does not end by itself. Where its client fails, or brings nothing though there is something to
bring (as Kafka clients now and then do), it goes on with another one, from the record after the last.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from callscope import kafka, telemetry
from callscope.clock import calendar_ns, monotonic
from callscope.config import Settings
from callscope.errors import KafkaUnreachable
from callscope.silence import Silence

BATCH_RECORDS: Final = 500
POLL_S: Final = 0.2
"""How long to wait for a first record; it is handed on as soon as it is there. Bounds how long stopping takes."""
FETCH_WAIT_MS: Final = 10
"""The broker holds a fetch so long at most; when it is quiet, a result comes 5 ms later for it in the mean."""
FETCH_ENOUGH_BYTES: Final = 16 * 1024
"""And answers at once with so much. To answer every record by itself would cost it hundreds of fetches a second."""
WAITING_BATCHES: Final = 4
"""Batches the event loop may be behind; then reading waits, and Kafka keeps the records."""
ALIVE_S: Final = 15.0
"""Without a poll for so long the reader counts as stuck."""
STOP_S: Final = 3.0
AGAIN_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses before another client is tried; the last one is repeated."""
_METADATA_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class KafkaRecord:
    """A record as it was read."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes


class _Stuck(Exception):
    """The client brings nothing, though there is something."""


class Follower:
    """Follows every partition of some topics, with no group and no commits: every follower sees everything.

    Attributes:
        starts: (topic, partition) → offset at which reading began, the history's beginning where one is read; known
            when `wait_caught_up` returns.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Sequence[str],
        on_batch: Callable[[Sequence[KafkaRecord]], None],
        *,
        name: str,
        history_ms: Mapping[str, int] | None = None,
        wants: Callable[[bytes], bool] | None = None,
        fetch_wait_ms: int = FETCH_WAIT_MS,
    ) -> None:
        """Prepares it.

        Args:
            settings: where Kafka is.
            topics: names of the topics.
            on_batch: called in the event loop that runs `run`.
            name: what Kafka's logs call it.
            history_ms: topics that are read from so far back, not from their ends.
            wants: called in the reading thread with a record's key; the others are passed over there. None: all.
                Not together with `history_ms`, whose end it could hide.
            fetch_wait_ms: how long the broker may hold a fetch; what may come later costs it less.
        """
        assert wants is None or not history_ms
        self._settings = settings
        self._topics = topics
        self._on_batch = on_batch
        self._name = name
        self._history_ms = history_ms or {}
        self._wants = wants
        self._fetch_wait_ms = fetch_wait_ms
        self._room = threading.BoundedSemaphore(WAITING_BATCHES)
        self._stopping = threading.Event()
        self._caught_up = asyncio.Event()
        self._polled_at = 0.0
        self._behind: dict[tuple[str, int], int] = {}
        self.starts: dict[tuple[str, int], int] = {}
        self._next: dict[tuple[str, int], int] = {}
        """Of each partition the offset to go on with."""

    async def run(self) -> None:
        """Reads until `stop`.

        Raises:
            KafkaUnreachable: no broker answered at the start.
        """
        failures = 0
        while not self._stopping.is_set():
            began_at = monotonic()
            try:
                await self._run_once()
            except Exception as error:
                if not self._next:
                    raise
                failures = failures + 1 if monotonic() - began_at < 60 else 1
                telemetry.reading_again(self._name, str(error) or type(error).__name__)
                await self._pause(AGAIN_S[min(failures, len(AGAIN_S)) - 1])

    async def _pause(self, seconds: float) -> None:
        until = monotonic() + seconds
        while monotonic() < until and not self._stopping.is_set():  # noqa: ASYNC110  # it is set from any thread
            await asyncio.sleep(POLL_S)

    async def _run_once(self) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def work() -> None:
            error: BaseException | None = None
            try:
                self._read(loop)
            except BaseException as caught:  # handed to whoever awaits run()
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended before this thread could
                loop.call_soon_threadsafe(_settle, done, error)

        thread = threading.Thread(target=work, name=self._name, daemon=True)
        thread.start()
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            self.stop()
            raise
        finally:
            await asyncio.to_thread(thread.join, STOP_S)

    async def wait_caught_up(self) -> None:
        """Waits until the history is read; without one, until nothing written from now on can be missed."""
        await self._caught_up.wait()

    def stop(self) -> None:
        """Ends reading within `POLL_S`."""
        self._stopping.set()

    def is_alive(self) -> bool:
        """Whether Kafka's client was asked for records lately."""
        return monotonic() - self._polled_at < ALIVE_S

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        consumer = kafka.consumer(
            self._settings,
            **{
                "queued.max.messages.kbytes": 32 * 1024,
                "enable.partition.eof": False,
                "group.id": self._name,
                "fetch.wait.max.ms": self._fetch_wait_ms,
                "fetch.min.bytes": FETCH_ENOUGH_BYTES,
            },
        )
        try:
            if self._next:
                consumer.assign([TopicPartition(*where, offset) for where, offset in self._next.items()])
            else:
                self._assign(consumer)
            if not self._behind:
                loop.call_soon_threadsafe(self._caught_up.set)
            self._polled_at = monotonic()
            silence = Silence(kafka.client_options(self._settings), self._polled_at)
            while not self._stopping.is_set():
                first = consumer.poll(POLL_S)
                self._polled_at = monotonic()
                if first is not None:
                    self._hand_over(loop, [first, *consumer.consume(BATCH_RECORDS - 1, timeout=0)])
                    silence.broken(monotonic())
                elif silence.is_too_long(self._polled_at, self._next):
                    raise _Stuck("Kafka's client brings nothing, though there is something to read")
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer) -> None:
        try:
            topics = consumer.list_topics(timeout=_METADATA_TIMEOUT_S).topics
            now_ms = calendar_ns() // 1_000_000
            history = [
                TopicPartition(name, number, now_ms - back_ms)
                for name, back_ms in self._history_ms.items()
                for number in topics[name].partitions
            ]
            if history:
                history = consumer.offsets_for_times(history, timeout=_METADATA_TIMEOUT_S)
            for part in history:
                low, high = consumer.get_watermark_offsets(part, timeout=_METADATA_TIMEOUT_S)
                if part.offset == OFFSET_END or part.offset >= high:
                    part.offset = high  # nothing that young: start at the end, as it was just now
                else:
                    part.offset = max(part.offset, low)
                    self._behind[part.topic, part.partition] = high
            live = [
                TopicPartition(name, number)
                for name in self._topics
                if name not in self._history_ms
                for number in topics[name].partitions
            ]
            for part in live:  # asked for now, so that nothing written once the port is open can be missed
                part.offset = consumer.get_watermark_offsets(part, timeout=_METADATA_TIMEOUT_S)[1]
        except KafkaException as error:
            raise KafkaUnreachable(
                f"No Kafka broker answered at {self._settings.kafka}: {error.args[0].str()}. Is it running, and is the "
                "address right? `callscope doctor` checks both."
            ) from error
        self._next = {(part.topic, part.partition): part.offset for part in (*history, *live)}
        self.starts = dict(self._next)
        consumer.assign([*history, *live])

    def _hand_over(self, loop: asyncio.AbstractEventLoop, polled: Sequence[Any]) -> None:
        records: list[KafkaRecord] = []
        reached: dict[tuple[str, int], int] = {}
        fatal: KafkaException | None = None
        for message in polled:
            error = message.error()
            if error is None:
                reached[message.topic(), message.partition()] = message.offset() + 1
                key = message.key() or b""
                if self._wants is None or self._wants(key):
                    records.append(
                        KafkaRecord(message.topic(), message.partition(), message.offset(), key, message.value() or b"")
                    )
            elif error.fatal():
                fatal = KafkaException(error)
            else:
                telemetry.consumer_error(error.str())
        if records:
            while not self._room.acquire(timeout=POLL_S):
                self._polled_at = monotonic()  # the event loop is behind, not we
                if self._stopping.is_set():
                    return
            caught_up = self._note_progress(records)
            loop.call_soon_threadsafe(self._deliver, records, caught_up)
        self._next |= reached
        if fatal is not None:
            raise fatal

    def _note_progress(self, records: Sequence[KafkaRecord]) -> bool:
        """True once, when the last of the history is among these."""
        if not self._behind:
            return False
        for record in records:
            end = self._behind.get((record.topic, record.partition))
            if end is not None and record.offset + 1 >= end:
                del self._behind[record.topic, record.partition]
        return not self._behind

    def _deliver(self, records: Sequence[KafkaRecord], caught_up: bool) -> None:
        try:
            self._on_batch(records)
        finally:
            self._room.release()
        if caught_up:
            self._caught_up.set()


def _settle(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
