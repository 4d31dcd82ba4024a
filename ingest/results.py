"""The results of the calls that this gateway itself is asked for, read from the topics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from callscope.config import Settings
from callscope.following import Follower, KafkaRecord
from callscope.streams import StreamId
from ingest import telemetry
from ingest.protocols.grpc_results import RESULT_TOPICS, GrpcResults

_STOP_S: Final = 5.0


class ResultsReader:
    """Follows the result topics and hands each record to whoever waits for its stream.

    Args:
        settings: where Kafka is.
    """

    def __init__(self, settings: Settings) -> None:
        self._waiting: dict[bytes, list[GrpcResults]] = {}
        self._follower = Follower(
            settings,
            RESULT_TOPICS,
            self._hand_out,
            name="callscope-ingest-results",
            wants=self._waiting.__contains__,
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read; from the return on nothing that is written is missed.

        Raises:
            KafkaUnreachable: no broker answers.
        """
        self._task = asyncio.create_task(self._follower.run())
        self._task.add_done_callback(_tell)
        ready = asyncio.create_task(self._follower.wait_caught_up())
        await asyncio.wait((self._task, ready), return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await self._task

    async def stop(self) -> None:
        """Read no more."""
        self._follower.stop()
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=_STOP_S)

    def is_alive(self) -> bool:
        """Whether results are being read."""
        return self._task is not None and not self._task.done() and self._follower.is_alive()

    @contextmanager
    def following(self, streams: Iterable[StreamId], results: GrpcResults) -> Iterator[None]:
        """Hand the records of some streams of one call, and of the call, to `results`.

        Args:
            streams: as they are named on the topics.
            results: takes them.
        """
        streams = tuple(streams)
        keys = {key.encode() for stream in streams for key in (str(stream), stream.call_id)}
        for key in keys:
            self._waiting.setdefault(key, []).append(results)
        try:
            yield
        finally:
            for key in keys:
                self._waiting[key].remove(results)
                if not self._waiting[key]:
                    del self._waiting[key]

    def _hand_out(self, records: Sequence[KafkaRecord]) -> None:
        for record in records:
            for results in self._waiting.get(record.key, ()):
                try:
                    dropped = results.record(record.topic, record.value)
                except Exception as error:  # whatever it is, it is this record's; the sink writes a letter about it
                    telemetry.result_unreadable(record.topic, record.partition, record.offset, str(error))
                else:
                    if dropped:
                        telemetry.results_dropped(dropped)


def _tell(reading: asyncio.Task[None]) -> None:
    """It could not even begin: the health service says so, the log says why. Once begun, it does not end by itself."""
    if not reading.cancelled() and (error := reading.exception()) is not None:
        telemetry.results_unread(error)
