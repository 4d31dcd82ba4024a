"""The extract stage at work on many streams: one stage object per stream, as in `processors.streams`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from callscope.errors import FeatureEngineError
from callscope.streams import StreamId
from processors import telemetry
from processors.keeping import EndedStreams, Kept
from processors.records import (
    NO_FLOATS,
    Envelope,
    FeatureWindow,
    SpeechFrame,
    StreamStatistics,
    VoiceSummary,
    WindowKind,
)
from processors.stages.extract import Extract
from processors.stages.marks import ExtractMark, StreamMark
from processors.streams import Clock, Failed, never, not_expected
from processors.wire import LLD_COLUMNS

KEPT_SEGMENTS = 32
"""Finished segments of a stream that are remembered."""


@dataclass(slots=True)
class _Spoken:
    """A stream's extractor, and where it is in its speech.

    Attributes:
        stage: the extractor.
        finished: the last finished segments, and the stream's statistics after each; the first is before any.
        finished_to: offset behind the last record of the newest of them.
        arrived_ns: when its audio arrived.
        open: the segment that is not finished, and the offset of its first record.
    """

    stage: Extract
    finished: deque[tuple[int, StreamStatistics]]
    finished_to: int = 0
    arrived_ns: int = 0
    open: tuple[int, int] | None = None


class ExtractStreams:
    """Speech frames in; feature windows out.

    Args:
        make: makes the stage of a new stream.
        clock: for the ledger.
        sheds: whether features are to be left out; asked once a batch.
        failed: told of records that cannot be worked on.
    """

    def __init__(
        self,
        make: Callable[[StreamId], Extract],
        clock: Clock,
        sheds: Callable[[], bool] = never,
        failed: Failed = not_expected,
    ) -> None:
        self._make = make
        self._clock = clock
        self._sheds = sheds
        self._failed = failed
        self._streams: dict[StreamId, _Spoken] = {}
        self._ended = EndedStreams("extract")

    def __len__(self) -> int:
        """Streams being followed."""
        return len(self._streams)

    def __call__(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Extract from each speech frame; anything else on the way is passed over."""
        shed = self._sheds()
        results: list[Envelope] = []
        for envelope in envelopes:
            frame = envelope.record
            if not isinstance(frame, SpeechFrame):
                continue
            spoken = self._streams.get(frame.stream)
            if spoken is None and self._ended.is_over(envelope):
                continue
            if frame.stream_ended:
                self._streams.pop(frame.stream, None)
                self._ended.note(frame.stream, envelope.offset + 1, envelope.ledger.arrived_ns)
                left = self._step(partial(_flush, spoken.stage), spoken.stage, envelope, frame) if spoken else []
                outputs = [*left, _stream_end(frame)]
            else:
                if spoken is None:
                    spoken = self._begin(frame.stream, ExtractMark())
                elif frame.segment <= spoken.finished[-1][0]:
                    continue  # it comes again: its features are delivered
                step = spoken.stage.leave_out if shed else spoken.stage.step
                outputs = self._step(step, spoken.stage, envelope, frame)
                self._keep_track(spoken, envelope, frame, outputs)
            if outputs:
                ledger = replace(envelope.ledger, extracted_ns=self._clock())
                results += [Envelope(output, ledger) for output in outputs]
        return results

    def _begin(self, stream: StreamId, mark: ExtractMark) -> _Spoken:
        finished = deque([(mark.done, mark.statistics)], maxlen=KEPT_SEGMENTS)
        spoken = self._streams[stream] = _Spoken(self._make(stream), finished)
        if mark.done >= 0:
            spoken.stage.learn(replace(_NOTHING_SAID, stream=stream, segment=mark.done, statistics=mark.statistics))
        return spoken

    def _step(
        self,
        step: Callable[[SpeechFrame], list[FeatureWindow]],
        stage: Extract,
        envelope: Envelope,
        frame: SpeechFrame,
    ) -> list[FeatureWindow]:
        try:
            outputs = step(frame)
            for output in outputs:
                if output.missing_because:
                    telemetry.work_shed("extract", 1)
            return outputs
        except FeatureEngineError as error:  # this segment has no features; the stream, and all others, go on
            telemetry.segment_without_features(str(frame.stream), frame.segment, str(error))
            stage.drop()
            return []
        except Exception as error:  # likewise, but nobody expects this one
            self._failed("extract", envelope, error)
            stage.drop()
            return []

    def _keep_track(
        self, spoken: _Spoken, envelope: Envelope, frame: SpeechFrame, outputs: Sequence[FeatureWindow]
    ) -> None:
        for output in outputs:
            if output.statistics is not None:
                spoken.finished.append((output.segment, output.statistics))
        if frame.last:
            if spoken.finished[-1][0] < frame.segment:  # without features
                spoken.finished.append((frame.segment, spoken.finished[-1][1]))
            spoken.open = None
            spoken.finished_to, spoken.arrived_ns = envelope.offset + 1, envelope.ledger.arrived_ns
        elif spoken.open is None or spoken.open[0] != frame.segment:
            spoken.open = frame.segment, envelope.offset

    def mark(self, stream: StreamId, before: int) -> ExtractMark:
        """What is known of a stream's segments before one.

        Args:
            stream: the leg.
            before: the segment.
        """
        spoken = self._streams.get(stream)
        known = spoken.finished if spoken else ()
        for segment, statistics in reversed(known):
            if segment < before:
                return ExtractMark(segment, statistics)
        return ExtractMark()

    def kept(self) -> Iterator[Kept]:
        """See `Keeper`."""
        for stream, spoken in self._streams.items():
            done, statistics = spoken.finished[-1]
            mark = StreamMark(
                stream, spoken.finished_to, spoken.finished_to, spoken.arrived_ns, extract=ExtractMark(done, statistics)
            )
            yield Kept(stream, spoken.open[1] if spoken.open else None, mark if spoken.finished_to else None)
        yield from self._ended.fresh()

    def resume(self, marks: Iterable[StreamMark]) -> None:
        """See `Keeper`."""
        for mark in marks:
            if mark.ended:
                self._ended.remember(mark)
            elif mark.extract is not None:
                spoken = self._begin(mark.stream, mark.extract)
                if mark.detect is None:  # the records that they read are its own
                    spoken.finished_to, spoken.arrived_ns = mark.offset, mark.arrived_ns
                    telemetry.stream_rebuilt()

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        """Forget streams without a word: another worker has them now."""
        for stream in [stream for stream in self._streams if belongs(stream)]:
            self._streams.pop(stream).stage.drop()
        self._ended.drop(belongs)


_NOTHING_SAID = FeatureWindow(
    stream=StreamId("", ""),
    segment=-1,
    kind=WindowKind.UTTERANCE,
    start=0,
    duration=0,
    coverage=0.0,
    lookahead=0,
    feature_set="",
    lld_first=0,
    lld=NO_FLOATS.reshape(0, LLD_COLUMNS),
    functionals=NO_FLOATS,
    summary=VoiceSummary(0.0, None, None, 0.0, None, None),
)


def _flush(stage: Extract, _: SpeechFrame) -> list[FeatureWindow]:
    return stage.flush()


def _stream_end(frame: SpeechFrame) -> FeatureWindow:
    return replace(
        _NOTHING_SAID, stream=frame.stream, segment=frame.segment, kind=WindowKind.STREAM_END, start=frame.start
    )
