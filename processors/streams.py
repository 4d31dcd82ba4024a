"""Stages at work on many streams: one stage object per stream, made when it starts and dropped when it ends.

The class here, and those in `extract_streams` and `infer_streams`, are the steps of the pipeline: called with the
envelopes of a batch, one returns the envelopes of its results, each with the ledger of the audio that brought it about.
Still no Kafka, no asyncio.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import numpy as np

from callscope.streams import StreamId
from processors import telemetry
from processors.keeping import EndedStreams, Kept
from processors.records import (
    AudioFrame,
    Envelope,
    Ledger,
    Pcm,
    SpeechFrame,
)
from processors.stages.arrival_clock import ArrivalClock
from processors.stages.arrivals import Arrivals, Restart
from processors.stages.detect import Detect
from processors.stages.detectors import judge
from processors.stages.marks import StreamMark

PLACE_EVERY = 8_000
"""Samples after which one more of a stream's records is remembered, to begin from there again."""

Clock = Callable[[], int]
"""Nanoseconds since the epoch; read for ledgers only."""
Failed = Callable[[str, Envelope, Exception], None]
"""Told of every record that a stage could not work on: the stage, the record, why. Only its stream is touched."""


def not_expected(stage: str, envelope: Envelope, error: Exception) -> None:
    """Where nobody looks into what fails: the caller has to."""
    raise error


def never() -> bool:
    """Nothing is shed."""
    return False


@dataclass(slots=True)
class _Heard:
    """A stream's detector, and what is known of its audio.

    Attributes:
        partition: of its call.
        stage: the detector.
        ledger: of its newest audio.
        end: media time of the end of it.
        heard_ns: when its newest audio came, by the clock of its partition.
        read_to: offset behind its newest record.
        places: media time and offset of records from which on its audio can be read again, oldest first.
        resumed: the mark from which it was taken over; None: it was not, or is past it.
    """

    partition: int
    stage: Detect
    ledger: Ledger
    end: int
    heard_ns: int = 0
    read_to: int = 0
    places: deque[tuple[int, int]] = field(default_factory=deque)
    resumed: StreamMark | None = None


def one_partition(stream: StreamId) -> int:
    """There is only one."""
    return 0


class DetectStreams:
    """Audio frames in; voice activity and speech frames out. The audio of a batch is judged together.

    Args:
        make: makes the stage of a new stream.
        clock: for the ledger.
        idle_stream_s: a stream that got no audio for so long, while others of its partition did, or before it got more,
            is taken for ended; infinite: never.
        partition_of: where a stream's records are: only within a partition they come in the order of their arrival.
        failed: told of records that cannot be worked on.
    """

    def __init__(
        self,
        make: Callable[[StreamId], Detect],
        clock: Clock,
        idle_stream_s: float,
        partition_of: Callable[[StreamId], int] = one_partition,
        failed: Failed = not_expected,
    ) -> None:
        self._make = make
        self._clock = clock
        self._idle_ns = idle_stream_s * 1e9
        self._partition_of = partition_of
        self._failed = failed
        self._arrivals = Arrivals(lambda envelope, error: failed("detect", envelope, error))
        self._arrival_clocks: defaultdict[int, ArrivalClock] = defaultdict(ArrivalClock)
        self._streams: dict[StreamId, _Heard] = {}
        self._ended = EndedStreams("detect")

    def __len__(self) -> int:
        """Streams being followed."""
        return len(self._streams)

    def __call__(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Detect in each frame; a frame marked `last` ends its stream. Results are in the order of the frames."""
        results = self._detect_all(self._arrivals(envelopes))
        if envelopes:
            results += self._end_idle()
        return results

    def _detect_all(self, arrived: Sequence[Envelope | Restart]) -> list[Envelope]:
        results: list[list[Envelope]] = [[] for _ in arrived]
        for turn in _turns(arrived):
            self._detect(turn, arrived, results)
        return [result for of_frame in results for result in of_frame]

    def _detect(
        self, turn: Sequence[int], arrived: Sequence[Envelope | Restart], results: list[list[Envelope]]
    ) -> None:
        """Detect in those of the frames, which are of different streams; put what comes of each in its place."""
        admitted: list[tuple[int, Envelope, AudioFrame, _Heard, Pcm]] = []
        for i in turn:
            envelope = arrived[i]
            if isinstance(envelope, Restart):
                results[i] = self._end(envelope.stream) if envelope.stream in self._streams else []
                continue
            frame = envelope.record
            assert isinstance(frame, AudioFrame)
            heard = self._streams.get(frame.stream)
            partition = self._partition_of(frame.stream) if heard is None else heard.partition
            now_ns = self._arrival_clocks[partition].heard(envelope.ledger.arrived_ns)
            if heard is not None and now_ns - heard.heard_ns > self._idle_ns:
                results[i] = self._end(frame.stream)
                heard = None
            if heard is None:
                if self._ended.is_over(envelope):
                    self._arrivals.forget(frame.stream)
                    continue
                heard = self._begin(frame.stream, envelope.ledger, frame.start)
            heard = self._note_place(heard, frame, envelope)
            heard.ledger, heard.heard_ns = envelope.ledger, now_ns
            heard.end = frame.start + len(frame.pcm)
            try:
                admitted.append((i, envelope, frame, heard, heard.stage.admit(frame)))
            except Exception as error:  # whatever it is, it is this stream's
                results[i] += self._start_over(envelope, frame, heard, error)
        judged = judge([(heard.stage.detector, pcm) for _, _, _, heard, pcm in admitted])
        now = self._clock()
        for (i, envelope, frame, heard, pcm), probabilities in zip(admitted, judged, strict=True):
            if not len(pcm) and not frame.last:
                continue
            try:
                if isinstance(probabilities, Exception):
                    raise probabilities
                outputs = heard.stage.decide(probabilities, pcm, last=frame.last)
            except Exception as error:  # likewise
                results[i] += self._start_over(envelope, frame, heard, error)
                continue
            if outputs or frame.last:
                heard.ledger = replace(heard.ledger, detected_ns=now)
                results[i] += [Envelope(output, heard.ledger) for output in outputs]
            if frame.last:
                results[i] += self._end(frame.stream)

    def _start_over(self, envelope: Envelope, frame: AudioFrame, heard: _Heard, error: Exception) -> list[Envelope]:
        """A record made the stage fail: what is open ends before it, and the stream goes on afresh behind it."""
        self._failed("detect", envelope, error)
        try:
            outputs = heard.stage.flush()
        except Exception:  # the stage is beyond that: what was open is lost with it; the record's failure is told
            outputs = []
        heard.stage = self._make(frame.stream)
        heard.places.clear()
        results = [Envelope(output, heard.ledger) for output in outputs]
        return results + self._end(frame.stream) if frame.last else results

    def _begin(self, stream: StreamId, ledger: Ledger, at: int) -> _Heard:
        heard = self._streams[stream] = _Heard(self._partition_of(stream), self._make(stream), ledger, at)
        return heard

    def _note_place(self, heard: _Heard, frame: AudioFrame, envelope: Envelope) -> _Heard:
        """Remember where a stream's audio can be read again; returns a new stage where it cannot be gone on with."""
        places, offset = heard.places, envelope.offset
        heard.read_to = max(heard.read_to, offset + 1)
        if not places:
            needed = heard.stage.rebuilding
            if needed is not None and frame.start > needed.audio_from:
                telemetry.stream_not_rebuilt(str(frame.stream), "its audio is not in the topic any more")
                heard = self._begin(frame.stream, envelope.ledger, frame.start)
                heard.read_to = offset + 1
            heard.places.append((frame.start, offset))
            return heard
        while len(places) > 1 and places[-1][1] > offset:  # whoever began there would miss this one
            places.pop()
        if frame.start >= places[-1][0] + PLACE_EVERY:
            places.append((frame.start, offset))
        return heard

    def end(self, streams: Iterable[StreamId]) -> list[Envelope]:
        """Take streams for ended, as if they had been silent for too long; those that are not followed are none."""
        results: list[Envelope] = []
        for stream in streams:
            results += self._detect_all(self._arrivals.rest(stream))
            if stream in self._streams:
                results += self._end(stream)
        return results

    def _end_idle(self) -> list[Envelope]:
        return self.end(
            [
                stream
                for stream, heard in self._streams.items()
                if self._arrival_clocks[heard.partition].now_ns - heard.heard_ns > self._idle_ns
            ]
        )

    def _end(self, stream: StreamId) -> list[Envelope]:
        heard = self._streams.pop(stream)
        self._ended.note(stream, heard.read_to, heard.ledger.arrived_ns)
        end = SpeechFrame(stream, heard.end, heard.end, np.zeros(0, np.int16), stream_ended=True)
        return [Envelope(output, heard.ledger) for output in [*heard.stage.flush(), end]]

    def is_hearing_again(self, stream: StreamId) -> bool:
        """Whether a stream's audio is on the way to where another worker was."""
        heard = self._streams.get(stream)
        return heard is not None and heard.stage.rebuilding is not None

    def kept(self) -> Iterator[Kept]:
        """See `Keeper`."""
        for stream, heard in self._streams.items():
            if heard.resumed is not None:
                if not heard.places or heard.stage.rebuilding is not None:
                    yield Kept(stream, heard.resumed.offset, heard.resumed)
                    continue
                heard.resumed = None
            if not heard.read_to:
                continue
            mark, places = heard.stage.mark(), heard.places
            if mark is None or not places:  # it has failed, and begins anew
                yield Kept(stream, heard.read_to, None)
                continue
            waiting = self._arrivals.waiting_from(stream)
            while len(places) > 1 and places[1][0] <= mark.audio_from and (waiting is None or places[1][1] < waiting):
                places.popleft()
            offset = places[0][1]
            yield Kept(stream, offset, StreamMark(stream, offset, heard.read_to, heard.ledger.arrived_ns, detect=mark))
        yield from self._ended.fresh()

    def resume(self, marks: Iterable[StreamMark]) -> None:
        """See `Keeper`."""
        for mark in marks:
            if mark.ended:
                self._ended.remember(mark)
                continue
            stage = self._make(mark.stream)
            if mark.detect is None or not stage.rebuild(mark.detect):
                telemetry.stream_not_rebuilt(str(mark.stream), "another detector was at work on it")
                continue
            ledger = Ledger(arrived_ns=mark.arrived_ns)
            self._streams[mark.stream] = _Heard(
                self._partition_of(mark.stream),
                stage,
                ledger,
                mark.detect.decided_to,
                read_to=mark.read_to,
                resumed=mark,
            )
            telemetry.stream_rebuilt()

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        """Forget streams without a word: another worker has them now."""
        self._arrivals.drop(belongs)
        for stream in [stream for stream in self._streams if belongs(stream)]:
            self._arrival_clocks.pop(self._streams.pop(stream).partition, None)
        self._ended.drop(belongs)


def _turns(arrived: Sequence[Envelope | Restart]) -> list[list[int]]:
    """Places of the envelopes in turns: the first ones of each stream, the second ones, ..."""
    places: dict[StreamId, list[int]] = {}
    for i, one in enumerate(arrived):
        places.setdefault(one.stream if isinstance(one, Restart) else one.record.stream, []).append(i)
    return [[i for i in turn if i is not None] for turn in zip_longest(*places.values())]
