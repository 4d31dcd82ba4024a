"""Stages at work on many streams: one stage object per stream, made when it starts and dropped when it ends.

Each class here is one step of the pipeline: called with the envelopes of a batch, it returns the envelopes of its
results, each with the ledger of the audio that brought it about. Still no Kafka, no asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from callscope import telemetry
from callscope.errors import FeatureEngineError
from processors.records import (
    NO_FLOATS,
    AudioFrame,
    Envelope,
    FeatureWindow,
    Ledger,
    SpeechFrame,
    StreamId,
    VoiceSummary,
    WindowKind,
)
from processors.stages.detect import Detect
from processors.stages.extract import Extract
from processors.stages.infer import Infer
from processors.wire import LLD_COLUMNS

Clock = Callable[[], int]
"""Nanoseconds since the epoch; read for ledgers only."""


@dataclass(slots=True)
class _Heard:
    """A stream's detector, and what is known of its audio."""

    stage: Detect
    ledger: Ledger
    end: int


class DetectStreams:
    """Audio frames in; voice activity and speech frames out.

    Args:
        make: makes the stage of a new stream.
        clock: for the ledger.
        idle_stream_s: a stream that got no audio for so long, while others did, is taken for ended.
    """

    def __init__(self, make: Callable[[StreamId], Detect], clock: Clock, idle_stream_s: float) -> None:
        self._make = make
        self._clock = clock
        self._idle_ns = int(idle_stream_s * 1e9)
        self._streams: dict[StreamId, _Heard] = {}

    def __len__(self) -> int:
        """Streams being followed."""
        return len(self._streams)

    def __call__(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Detect in each frame; a frame marked `last` ends its stream."""
        results: list[Envelope] = []
        for envelope in envelopes:
            frame = envelope.record
            assert isinstance(frame, AudioFrame)
            heard = self._streams.get(frame.stream)
            if heard is None:
                heard = self._streams[frame.stream] = _Heard(self._make(frame.stream), envelope.ledger, frame.start)
            outputs = heard.stage.step(frame)
            heard.end = frame.start + len(frame.pcm)
            heard.ledger = replace(envelope.ledger, detected_ns=self._clock())
            results += [Envelope(output, heard.ledger) for output in outputs]
            if frame.last:
                results += self._end(frame.stream)
        if envelopes:
            results += self._end_idle(max(envelope.ledger.arrived_ns for envelope in envelopes))
        return results

    def _end_idle(self, now_ns: int) -> list[Envelope]:
        idle = [stream for stream, heard in self._streams.items() if now_ns - heard.ledger.arrived_ns > self._idle_ns]
        return [envelope for stream in idle for envelope in self._end(stream)]

    def _end(self, stream: StreamId) -> list[Envelope]:
        heard = self._streams.pop(stream)
        end = SpeechFrame(stream, heard.end, heard.end, np.zeros(0, np.int16), stream_ended=True)
        return [Envelope(output, heard.ledger) for output in [*heard.stage.flush(), end]]

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        """Forget streams without a word: another worker has them now."""
        self._streams = {stream: heard for stream, heard in self._streams.items() if not belongs(stream)}


class ExtractStreams:
    """Speech frames in; feature windows out.

    Args:
        make: makes the stage of a new stream.
        clock: for the ledger.
    """

    def __init__(self, make: Callable[[StreamId], Extract], clock: Clock) -> None:
        self._make = make
        self._clock = clock
        self._streams: dict[StreamId, Extract] = {}

    def __len__(self) -> int:
        """Streams being followed."""
        return len(self._streams)

    def __call__(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Extract from each speech frame; anything else on the way is passed over."""
        results: list[Envelope] = []
        for envelope in envelopes:
            frame = envelope.record
            if not isinstance(frame, SpeechFrame):
                continue
            if frame.stream_ended:
                stage = self._streams.pop(frame.stream, None)
                outputs = [*(stage.flush() if stage else ()), _stream_end(frame)]
            else:
                stage = self._streams.get(frame.stream)
                if stage is None:
                    stage = self._streams[frame.stream] = self._make(frame.stream)
                outputs = self._step(stage, frame)
            if outputs:
                ledger = replace(envelope.ledger, extracted_ns=self._clock())
                results += [Envelope(output, ledger) for output in outputs]
        return results

    def _step(self, stage: Extract, frame: SpeechFrame) -> list[FeatureWindow]:
        try:
            return stage.step(frame)
        except FeatureEngineError as error:  # this segment has no features; the stream, and all others, go on
            telemetry.segment_without_features(str(frame.stream), frame.segment, str(error))
            stage.drop()
            return []

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        """Forget streams without a word: another worker has them now."""
        for stream in [stream for stream in self._streams if belongs(stream)]:
            self._streams.pop(stream).drop()


def _stream_end(frame: SpeechFrame) -> FeatureWindow:
    return FeatureWindow(
        stream=frame.stream,
        segment=frame.segment,
        kind=WindowKind.STREAM_END,
        start=frame.start,
        duration=0,
        coverage=0.0,
        lookahead=0,
        feature_set="",
        lld_first=0,
        lld=NO_FLOATS.reshape(0, LLD_COLUMNS),
        functionals=NO_FLOATS,
        summary=VoiceSummary(0.0, None, None, 0.0, None, None),
    )


class InferStreams:
    """Feature windows in; insights out. The windows of a batch go to the models together.

    Args:
        infer: the models, the policy and the streams' baselines.
        clock: for the ledger.
    """

    def __init__(self, infer: Infer, clock: Clock) -> None:
        self._infer = infer
        self._clock = clock
        self._streams: set[StreamId] = set()

    def __len__(self) -> int:
        """Streams being followed."""
        return len(self._streams)

    def __call__(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Infer from each window; a stream's end makes its baseline forgotten."""
        results: list[Envelope] = []
        waiting: list[tuple[FeatureWindow, Ledger]] = []
        for envelope in envelopes:
            window = envelope.record
            assert isinstance(window, FeatureWindow)
            if window.kind is WindowKind.STREAM_END:
                results += self._run(waiting)
                waiting = []
                self._infer.drop(window.stream)
                self._streams.discard(window.stream)
            else:
                self._streams.add(window.stream)
                waiting.append((window, envelope.ledger))
        return results + self._run(waiting)

    def _run(self, waiting: Sequence[tuple[FeatureWindow, Ledger]]) -> list[Envelope]:
        if not waiting:
            return []
        insights_by_window = self._infer.step_many([window for window, _ in waiting])
        now = self._clock()
        return [
            Envelope(insight, replace(ledger, inferred_ns=now))
            for (_, ledger), insights in zip(waiting, insights_by_window, strict=True)
            for insight in insights
        ]

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        """Forget streams without a word: another worker has them now."""
        for stream in [stream for stream in self._streams if belongs(stream)]:
            self._infer.drop(stream)
            self._streams.discard(stream)
