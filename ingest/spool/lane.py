"""The order of one partition's records: straight to Kafka, or through segments on disk while Kafka is away; pure.

What is under way (given to the Kafka client, not acknowledged) is always older than what was read back from disk, that
older than what lies on disk, and that older than what waits in memory to be written::

    Kafka ◄── under way ◄── read ◄── on disk ◄── pending ◄── new records      while the lane is not `direct`
    Kafka ◄── under way ◄── new records                                       while it is

When nothing was acknowledged for a while Kafka counts as *away*. Then what is under way is written to disk too, as
copies, so that the gateway may die; the Kafka client keeps its own and delivers them first when Kafka is back. After
them goes what is on disk, a window at a time, while new records still queue up behind it; when nothing is left, new
ones go straight to Kafka again.

The lane decides what is to be written, read, marked and removed, and at which place of which segment; somebody else
does it and says how it went. The clock is the caller's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ingest.delivery import Receipt
from ingest.spool.framing import HEADER_BYTES, MAX_FRAME, Spooled, encode

SEGMENT_BYTES: Final = 8 << 20
"""A segment is full at this size; it is removed when Kafka has all of it."""
WRITE_BYTES: Final = 4 << 20
READ_BYTES: Final = MAX_FRAME
WINDOW_RECORDS: Final = 1_000
"""Records from disk that may be under way at once."""
_OVERHEAD: Final = 64


@dataclass(slots=True, eq=False)
class Item(Spooled):
    """A record on its way.

    Attributes:
        receipt: who is told what becomes of it; None: nobody (any more).
        since: when it was given to the Kafka client, seconds of a clock that never goes back.
        place: the segment and the offset in it just after its frame; None while it is not on disk.
        is_under_way: the Kafka client has it.
        is_queued: it waits in memory to be written, or is being written.
        is_spooled: it went (or its copy did) the way over the spool.
        is_done: Kafka has it, or refused it for good.
    """

    receipt: Receipt | None = None
    since: float = 0.0
    place: tuple[int, int] | None = None
    is_under_way: bool = False
    is_queued: bool = False
    is_spooled: bool = False
    is_done: bool = False

    @property
    def size(self) -> int:
        """Bytes on disk, about."""
        return len(self.value) + len(self.key) + _OVERHEAD


@dataclass(slots=True)
class Segment:
    """A file of frames.

    Attributes:
        number: later ones have higher numbers.
        length: bytes in it, with the header.
        read: up to where its records have been read back, or never need to be.
        delivered: up to where Kafka has all of them.
        marked: what of that its header says.
        outstanding: records of it that are read or under way.
        is_sealed: nothing is appended to it any more.
    """

    number: int
    length: int = HEADER_BYTES
    read: int = HEADER_BYTES
    delivered: int = HEADER_BYTES
    marked: int = HEADER_BYTES
    outstanding: int = 0
    is_sealed: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes for the disk.

    Attributes:
        pieces: segment, offset, bytes.
        items: what they hold: the item, its segment, where its frame starts and ends.
    """

    pieces: list[tuple[int, int, bytes]]
    items: list[tuple[Item, Segment, int, int]]


@dataclass(frozen=True, slots=True)
class Read:
    """Bytes wanted from the disk."""

    segment: int
    offset: int
    size: int


@dataclass
class Lane:
    """One partition's records in order.

    Attributes:
        segment_bytes: size at which a segment is full.
        direct: new records go straight to the Kafka client; else to `keep`.
        away: Kafka acknowledges nothing of this partition.
        since: when the lane last stopped being direct.
        records: how many wait here that the Kafka client does not have.
        pending_bytes: of those that wait in memory to be written.
    """

    segment_bytes: int = SEGMENT_BYTES
    direct: bool = True
    away: bool = False
    since: float = 0.0
    records: int = 0
    pending_bytes: int = 0
    _under_way: deque[Item] = field(default_factory=deque)
    _read: deque[Item] = field(default_factory=deque)
    _pending: deque[Item] = field(default_factory=deque)
    _segments: deque[Segment] = field(default_factory=deque)
    _next_number: int = 1
    _writing: bool = False
    _reading: bool = False

    @property
    def disk_bytes(self) -> int:
        """Size of the segments there are."""
        return sum(segment.length for segment in self._segments)

    @property
    def under_way(self) -> int:
        """How many records the Kafka client has."""
        return len(self._under_way)

    @property
    def pending(self) -> int:
        """How many wait in memory to be written."""
        return len(self._pending)

    def recover(self, number: int, delivered: int, length: int, records: int) -> None:
        """A segment that an earlier process left; to be told in the order of their numbers, before anything else.

        Args:
            number: its number.
            delivered: offset up to which Kafka has its records.
            length: offset at which its last whole frame ends.
            records: how many there are between the two.
        """
        self._segments.append(Segment(number, length, delivered, delivered, delivered, is_sealed=True))
        self._next_number = number + 1
        self.records += records
        self.direct = False

    def handed_over(self, item: Item, now: float) -> None:
        """The Kafka client has been given a new record while `direct`, or what `next_up` said."""
        if self._read and self._read[0] is item:
            self._read.popleft()
            self.records -= 1
        elif self._pending and self._pending[0] is item:
            self._take_pending()
            self.records -= 1
        item.since = now
        item.is_under_way = True
        self._under_way.append(item)

    def settled(self, item: Item) -> None:
        """Kafka has the record, or refused it for good."""
        item.is_done = True
        while self._under_way and self._under_way[0].is_done:
            first = self._under_way.popleft()
            if first.place is not None:
                number, end = first.place
                segment = self._segment(number)
                segment.outstanding -= 1
                segment.delivered = end

    def keep(self, item: Item) -> None:
        """Take a new record while not `direct`."""
        self.records += 1
        self._queue(item)
        self._pending.append(item)

    def look(self, now: float, after_s: float) -> list[Item]:
        """To be called often: sees whether Kafka is away, or back, and whether all is worked off.

        Args:
            now: seconds.
            after_s: Kafka is away when a record has been under way for so long.

        Returns:
            Records under way of which copies are to be written from now on.
        """
        late = bool(self._under_way) and now - self._under_way[0].since > after_s
        copies: list[Item] = []
        if late and not self.away:
            if self.direct:
                self.since = now
            self.direct = False
            copies = self.copy_under_way()
        self.away = late
        if not (self.direct or late or self._pending or self._read or self._is_busy or self._unread):
            self.direct = True
            self.records = 0  # what was unreadable had been counted too
        return copies

    def copy_under_way(self) -> list[Item]:
        """Have copies written of all records under way that are not on disk; they are older than all that waits."""
        copies = [item for item in self._under_way if not (item.is_done or item.is_queued or item.place)]
        for item in copies:
            self._queue(item)
        self._pending.extendleft(reversed(copies))
        return copies

    def next_up(self) -> Item | None:
        """The record to be given to the Kafka client next; `handed_over` takes it away. None: not now."""
        if self.away or self.direct or len(self._under_way) >= WINDOW_RECORDS:
            return None
        if self._read:
            return self._read[0]
        if self._is_busy or self._unread is not None:
            return None
        while self._pending:  # it never came to the disk, and need not any more
            item = self._pending[0]
            if not item.is_under_way:
                return item
            self._take_pending()
        return None

    def next_read(self) -> Read | None:
        """What is to be read now, to be answered by `was_read` or `not_read`."""
        segment = self._unread
        if self.away or segment is None or self._is_busy or self._read or len(self._under_way) >= WINDOW_RECORDS:
            return None
        self._reading = True
        return Read(segment.number, segment.read, min(READ_BYTES, segment.length - segment.read))

    def was_read(self, read: Read, frames: Sequence[tuple[Item, int]], more: bool) -> int:
        """The records that were found there, each with the offset after its frame, from the read's beginning.

        Args:
            read: what was asked for.
            frames: as `framing.decode` says.
            more: likewise.

        Returns:
            Bytes that hold no records, and are given up with what follows them in their segment; 0 is as it should be.
        """
        self._reading = False
        segment = self._segment(read.segment)
        for item, end in frames:
            item.place = (read.segment, read.offset + end)
            item.is_spooled = True
            self._read.append(item)
        segment.outstanding += len(frames)
        segment.read = read.offset + (frames[-1][1] if frames else 0)
        if (more and frames) or segment.read == segment.length:
            return 0
        given_up = segment.length - segment.read
        segment.read = segment.length
        segment.is_sealed = True
        return given_up

    def not_read(self) -> None:
        """The disk did not give it; it is asked for again."""
        self._reading = False

    def next_write(self) -> Write | None:
        """What is to be written now, to be answered by `written` or `not_written`.

        Nothing while it can go to Kafka out of memory.
        """
        if self._is_busy or not self._pending or not (self.away or self._unread is not None):
            return None
        return self._write()

    def last_write(self) -> Write | None:
        """As `next_write`, whatever Kafka does: the process ends."""
        return None if self._is_busy or not self._pending else self._write()

    def written(self, write: Write) -> None:
        """The bytes are in their files."""
        self._writing = False
        for item, segment, start, end in write.items:
            item.is_queued = False
            segment.length = end
            if not item.is_under_way:
                continue  # it will be read back when its turn comes
            segment.read = end
            if item.is_done:
                if segment.delivered == start:
                    segment.delivered = end
            else:
                item.place = (segment.number, end)
                segment.outstanding += 1

    def not_written(self, write: Write) -> None:
        """The disk did not take them; they wait in memory as before."""
        self._writing = False
        for item, *_ in reversed(write.items):
            self._pending.appendleft(item)
            self.pending_bytes += item.size

    def marks(self) -> list[tuple[int, int]]:
        """Segments whose header is behind, and what it shall say; then counts as done."""
        found = []
        for segment in self._segments:
            if segment.delivered > segment.marked:
                segment.marked = segment.delivered
                found.append((segment.number, segment.delivered))
        return found

    def removable(self) -> list[int]:
        """Segments of which Kafka has everything; then counts as done."""
        found = []
        while not self._is_busy and self._segments:
            first = self._segments[0]
            if first.outstanding or first.read < first.length or (len(self._segments) == 1 and self._pending):
                break
            found.append(self._segments.popleft().number)
        return found

    @property
    def _is_busy(self) -> bool:
        return self._writing or self._reading

    @property
    def _unread(self) -> Segment | None:
        return next((segment for segment in self._segments if segment.read < segment.length), None)

    def _segment(self, number: int) -> Segment:
        return next(segment for segment in self._segments if segment.number == number)

    def _queue(self, item: Item) -> None:
        item.is_queued = item.is_spooled = True
        self.pending_bytes += item.size

    def _take_pending(self) -> Item:
        item = self._pending.popleft()
        item.is_queued = False
        self.pending_bytes -= item.size
        return item

    def _write(self) -> Write | None:
        pieces: list[tuple[int, int, bytes]] = []
        items: list[tuple[Item, Segment, int, int]] = []
        frames: list[bytes] = []
        segment = self._open_segment()
        at = begin = segment.length
        taken = 0
        while self._pending and taken < WRITE_BYTES:
            item = self._take_pending()
            if item.is_done:
                continue
            if at >= self.segment_bytes:
                pieces.append((segment.number, begin, b"".join(frames)))
                segment.is_sealed = True
                segment, frames = self._open_segment(), []
                at = begin = segment.length
            frame = encode(item)
            item.is_queued = True
            items.append((item, segment, at, at + len(frame)))
            frames.append(frame)
            at += len(frame)
            taken += len(frame)
        if not items:
            return None
        pieces.append((segment.number, begin, b"".join(frames)))
        self._writing = True
        return Write(pieces, items)

    def _open_segment(self) -> Segment:
        if not self._segments or self._segments[-1].is_sealed:
            self._segments.append(Segment(self._next_number))
            self._next_number += 1
        return self._segments[-1]
