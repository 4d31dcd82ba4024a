"""Puts each stream's audio in the order of media time: what came twice, or out of order, leaves no trace.

A record *follows* when it begins where the one before it ended, or says itself that what lies between never came
(`gap_before`). One that begins later waits for what belongs between; one that holds nothing new is passed over. Nothing
waits for ever:

- `WAITING` records wait and nothing has followed since the first of them: what they wait for is lost. The stream goes
  on with the earliest, as over a hole; farther than `FAR_S` away, with the earliest that leads on to the next. So it
  does when nothing of it has come for `OTHERS` records of other streams.
- `WAITING` records have followed since a record came, and none led up to it: it does not belong to this stream's audio
  (a corrupt media time), and is refused.

A stream ends with its `last` record. What comes after that and reaches no further is a repetition. A first record
(number 0, at media time 0) with another arrival than the stream's own first one begins it anew, also where no end was
seen. A gateway that takes a stream over from another counts its records from 0 too, but goes on in media time.
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from callscope.streams import StreamId
from processors.records import RATE_HZ, AudioFrame, Envelope

WAITING: Final = 16
"""Records of a stream: about a third of a second of 20 ms, one of 60 ms."""
OTHERS: Final = 1_000
FAR_S: Final = 60
"""What lies so far ahead may belong to something else."""
AGAIN_S: Final = 2
"""What begins at 0 again so early is the same stream: its gateway died before it acknowledged anything."""
ENDED: Final = 20_000
"""Streams of which it is remembered that they have ended; the oldest go first."""


class OutOfPlace(ValueError):
    """A record whose media time leads nowhere near its stream's audio."""


@dataclass(order=True, slots=True)
class _Waiting:
    start: int
    envelope: Envelope = field(compare=False)
    passed: int = field(default=0, compare=False)
    """Records that have followed since it came."""

    @property
    def frame(self) -> AudioFrame:
        assert isinstance(self.envelope.record, AudioFrame)
        return self.envelope.record


@dataclass(slots=True)
class _Arrival:
    end: int
    first_ns: int | None
    """Arrival of its first record; None: that was read by another worker."""
    arrived_ns: int
    came: int = 0
    """Records of all streams that had come when its last one did; kept while something waits."""
    waiting: list[_Waiting] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Restart:
    """Stands before the first record of a stream that begins anew though its end was never seen."""

    stream: StreamId


class Arrivals:
    """Where each stream stands, and what waits for its turn.

    Args:
        refuse: told of every record that does not belong to its stream, and why.
    """

    def __init__(self, refuse: Callable[[Envelope, OutOfPlace], None]) -> None:
        self._refuse = refuse
        self._streams: dict[StreamId, _Arrival] = {}
        self._ended: OrderedDict[StreamId, _Arrival] = OrderedDict()
        self._held_up: set[StreamId] = set()
        self._came = 0

    def __call__(self, envelopes: Sequence[Envelope]) -> list[Envelope | Restart]:
        """The records whose turn it is, those of each stream in the order of their media time."""
        out: list[Envelope | Restart] = []
        for envelope in envelopes:
            self._take(envelope, out)
        self._came += len(envelopes)
        for stream in list(self._held_up):
            self._look_after(stream, out)
        return out

    def rest(self, stream: StreamId) -> list[Envelope]:
        """What still waits of a stream that is over, in order, without what is far away; it is forgotten here."""
        known = self._streams.pop(stream, None)
        if known is None:
            return []
        self._remember_end(stream, known)
        near = [waiting for waiting in known.waiting if waiting.start - known.end <= FAR_S * RATE_HZ]
        self._turn_away([waiting for waiting in known.waiting if waiting not in near], known.end)
        return [waiting.envelope for waiting in near]

    def waiting_from(self, stream: StreamId) -> int | None:
        """Offset of the first record that waits of a stream; None: none does."""
        known = self._streams.get(stream)
        if known is None or not known.waiting:
            return None
        return min(waiting.envelope.offset for waiting in known.waiting)

    def forget(self, stream: StreamId) -> None:
        """It was no new stream."""
        self._streams.pop(stream, None)

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        """Forget streams: another worker has them now."""
        for stream in [stream for stream in self._streams if belongs(stream)]:
            del self._streams[stream]
        for stream in [stream for stream in self._ended if belongs(stream)]:
            del self._ended[stream]

    def _take(self, envelope: Envelope, out: list[Envelope | Restart]) -> None:
        frame = envelope.record
        assert isinstance(frame, AudioFrame)
        arrived_ns = envelope.ledger.arrived_ns
        known = self._streams.get(frame.stream)
        is_first = frame.seq == 0 and frame.start == 0
        if known is None:
            ended = self._ended.get(frame.stream)
            if ended is not None and not (_is_anew(frame, arrived_ns, ended) if is_first else _end(frame) > ended.end):
                return
            first_ns = arrived_ns if is_first else None
            known = self._streams[frame.stream] = _Arrival(frame.start, first_ns, arrived_ns)
        elif is_first and known.end > AGAIN_S * RATE_HZ and _is_anew(frame, arrived_ns, known):
            out += [waiting.envelope for waiting in known.waiting]
            out.append(Restart(frame.stream))
            known = self._streams[frame.stream] = _Arrival(0, arrived_ns, arrived_ns)
        if _follows(frame, known):
            self._let_through(envelope, known, out)
        elif frame.last or _end(frame) > known.end:
            self._hold(envelope, known, out)

    def _let_through(self, envelope: Envelope, known: _Arrival, out: list[Envelope | Restart]) -> None:
        if not self._pass(envelope, known, out):
            return
        while known.waiting:
            waiting = known.waiting[0]
            if not _follows(waiting.frame, known):
                break
            del known.waiting[0]
            if not self._pass(waiting.envelope, known, out):
                return
        for waiting in known.waiting:
            waiting.passed += 1
        if lost := [waiting for waiting in known.waiting if waiting.passed > WAITING]:
            known.waiting = [waiting for waiting in known.waiting if waiting.passed <= WAITING]
            self._turn_away(lost, known.end)

    def _pass(self, envelope: Envelope, known: _Arrival, out: list[Envelope | Restart]) -> bool:
        """Hand a record on, if there is anything new in it; False where the stream ends with it."""
        frame = envelope.record
        assert isinstance(frame, AudioFrame)
        end = _end(frame)
        if end <= known.end and not frame.last:
            return True
        known.end = max(known.end, end)
        known.arrived_ns = envelope.ledger.arrived_ns
        out.append(envelope)
        if frame.last:
            del self._streams[frame.stream]
            self._remember_end(frame.stream, known)
            self._turn_away(known.waiting, known.end)
        return not frame.last

    def _hold(self, envelope: Envelope, known: _Arrival, out: list[Envelope | Restart]) -> None:
        frame = envelope.record
        assert isinstance(frame, AudioFrame)
        if any((waiting.start, waiting.frame.seq) == (frame.start, frame.seq) for waiting in known.waiting):
            return
        insort(known.waiting, _Waiting(frame.start, envelope))
        known.came = self._came
        self._held_up.add(frame.stream)
        if sum(not waiting.passed for waiting in known.waiting) >= WAITING or len(known.waiting) > 2 * WAITING:
            self._go_on(known, out)

    def _look_after(self, stream: StreamId, out: list[Envelope | Restart]) -> None:
        known = self._streams.get(stream)
        if known is None or not known.waiting:
            self._held_up.discard(stream)
        elif self._came - known.came > OTHERS:
            self._go_on(known, out)

    def _go_on(self, known: _Arrival, out: list[Envelope | Restart]) -> None:
        """Go on over a hole, with the earliest of what waits."""
        is_near = known.waiting[0].start <= known.end + FAR_S * RATE_HZ
        at = 0 if is_near else _earliest_run(known.waiting)
        self._turn_away(known.waiting[:at], known.end)
        first = known.waiting[at]
        known.waiting = known.waiting[at + 1 :]
        known.end = first.frame.start
        self._let_through(first.envelope, known, out)

    def _turn_away(self, waiting: Iterable[_Waiting], end: int) -> None:
        for one in waiting:
            ahead_s = (one.start - end) / RATE_HZ
            problem = f"it begins {ahead_s:.2f} s behind its stream's audio, and nothing that came leads up to it"
            self._refuse(one.envelope, OutOfPlace(problem))

    def _remember_end(self, stream: StreamId, known: _Arrival) -> None:
        self._ended[stream] = replace(known, waiting=[])
        self._ended.move_to_end(stream)
        if len(self._ended) > ENDED:
            self._ended.popitem(last=False)


def _end(frame: AudioFrame) -> int:
    return frame.start + len(frame.pcm)


def _is_anew(frame: AudioFrame, arrived_ns: int, known: _Arrival) -> bool:
    """Whether a first record begins another stream of the same name, and is not the first one's once more."""
    if known.first_ns is None:  # nothing else is left to tell them apart by
        return arrived_ns > known.arrived_ns
    return arrived_ns != known.first_ns or not arrived_ns


def _follows(frame: AudioFrame, known: _Arrival) -> bool:
    return frame.start - frame.gap_before <= known.end


def _earliest_run(waiting: Sequence[_Waiting]) -> int:
    """Place of the first of the earliest two that follow on each other; of the earliest, where none do."""
    for at, (one, next_one) in enumerate(pairwise(waiting)):
        if one.start < next_one.start <= one.start + len(one.frame.pcm) + next_one.frame.gap_before:
            return at
    return 0
