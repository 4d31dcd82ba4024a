"""What the stages of a worker say of their streams, so that a worker that comes after it can go on with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from callscope.streams import StreamId
from processors import telemetry
from processors.records import AudioFrame, Envelope
from processors.stages.marks import StreamMark

ENDED_STREAMS = 10_000
"""Streams whose end is remembered, the last ones."""


class Kept(NamedTuple):
    """What holds of a stream now.

    Attributes:
        stream: the leg.
        needs: offset of its first record that whoever takes it over has to read; None: none that was worked on.
        mark: what else that worker has to know; None: nothing yet.
    """

    stream: StreamId
    needs: int | None
    mark: StreamMark | None


class Keeper(Protocol):
    """The streams that a worker follows on one topic."""

    def kept(self) -> Iterator[Kept]:
        """All of them, and those that ended since this was last asked. To be asked between batches."""

    def resume(self, marks: Iterable[StreamMark]) -> None:
        """Go on with streams of another worker; their records from `mark.offset` on follow."""

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        """Forget streams without a word: another worker has them now."""


class EndedStreams:
    """Streams that ended lately.

    A record that arrived no later than its stream's end is one of that stream that comes again. One that arrived later
    is of another stream that has the same id; so is a first one, whatever a gateway's clock says.
    """

    def __init__(self, stage: str) -> None:
        """Starts knowing none.

        Args:
            stage: whose, for the metric.
        """
        self._stage = stage
        self._ends: dict[StreamId, StreamMark] = {}
        self._fresh: dict[StreamId, StreamMark] = {}

    def note(self, stream: StreamId, read_to: int, arrived_ns: int) -> None:
        """A stream has ended.

        Args:
            stream: the leg.
            read_to: offset behind its last record; 0: its records have none.
            arrived_ns: when the last of its audio arrived.
        """
        mark = StreamMark(stream, read_to, read_to, arrived_ns, ended=True)
        self.remember(mark)
        if read_to:
            self._fresh[stream] = mark

    def remember(self, mark: StreamMark) -> None:
        """Another worker has noted that."""
        self._ends.pop(mark.stream, None)
        self._ends[mark.stream] = mark
        if len(self._ends) > ENDED_STREAMS:
            del self._ends[next(iter(self._ends))]

    def is_over(self, envelope: Envelope) -> bool:
        """Whether the first record of a stream that is not followed belongs to one that has ended."""
        record = envelope.record
        end = self._ends.get(record.stream)
        if end is None or not 0 < envelope.ledger.arrived_ns <= end.arrived_ns:
            return False
        if isinstance(record, AudioFrame) and record.seq == 0:
            return False
        telemetry.record_of_ended_stream(self._stage)
        return True

    def fresh(self) -> Iterator[Kept]:
        """Those noted since this was last asked."""
        fresh, self._fresh = self._fresh, {}
        return (Kept(stream, None, mark) for stream, mark in fresh.items())

    def __iter__(self) -> Iterator[StreamMark]:
        """All that are known."""
        return iter(self._ends.values())

    def end_of(self, stream: StreamId) -> StreamMark | None:
        """The mark of a stream that has ended."""
        return self._ends.get(stream)

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        """Forget some of them."""
        self._ends = {stream: mark for stream, mark in self._ends.items() if not belongs(stream)}
        self._fresh = {stream: mark for stream, mark in self._fresh.items() if not belongs(stream)}
