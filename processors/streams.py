"""Stages at work on many streams: one stage object per stream, made when it starts and dropped when it ends.

Each class here is one step of the pipeline: called with the envelopes of a batch, it returns the envelopes of its
results, each with the ledger of the audio that brought it about. Still no Kafka, no asyncio.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import TypeVar

import numpy as np

from callscope import telemetry
from callscope.errors import FeatureEngineError
from callscope.streams import StreamId
from processors.records import (
    NO_FLOATS,
    AudioFrame,
    Consent,
    Envelope,
    FeatureWindow,
    Insight,
    InsightsEnd,
    Ledger,
    Pcm,
    SpeechFrame,
    VoiceSummary,
    WindowKind,
)
from processors.stages.arrival_clock import ArrivalClock
from processors.stages.arrivals import Arrivals, Restart
from processors.stages.detect import Detect
from processors.stages.detectors import judge
from processors.stages.extract import Extract
from processors.stages.infer import Infer
from processors.wire import LLD_COLUMNS

T = TypeVar("T", FeatureWindow, SpeechFrame)

_HALF_ENDED_STREAMS = 10_000

Clock = Callable[[], int]
"""Nanoseconds since the epoch; read for ledgers only."""
Failed = Callable[[str, Envelope, Exception], None]
"""Told of every record that a stage could not work on: the stage, the record, why. Only its stream is touched."""


def not_expected(stage: str, envelope: Envelope, error: Exception) -> None:
    """Where nobody looks into what fails: the caller has to."""
    raise error


@dataclass(slots=True)
class _Heard:
    """A stream's detector, and what is known of its audio."""

    stage: Detect
    ledger: Ledger
    end: int
    heard_ns: int = 0
    """When its newest audio came, by the worker's `ArrivalClock`."""


class DetectStreams:
    """Audio frames in; voice activity and speech frames out. The audio of a batch is judged together.

    Args:
        make: makes the stage of a new stream.
        clock: for the ledger.
        idle_stream_s: a stream that got no audio for so long, while others did, is taken for ended; infinite: never.
        failed: told of records that cannot be worked on.
    """

    def __init__(
        self, make: Callable[[StreamId], Detect], clock: Clock, idle_stream_s: float, failed: Failed = not_expected
    ) -> None:
        self._make = make
        self._clock = clock
        self._idle_ns = idle_stream_s * 1e9
        self._arrival_clock = ArrivalClock()
        self._failed = failed
        self._arrivals = Arrivals(lambda envelope, error: failed("detect", envelope, error))
        self._streams: dict[StreamId, _Heard] = {}

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
            if heard is None:
                heard = self._streams[frame.stream] = _Heard(self._make(frame.stream), envelope.ledger, frame.start)
            heard.ledger = envelope.ledger
            heard.heard_ns = self._arrival_clock.heard(envelope.ledger.arrived_ns)
            heard.end = frame.start + len(frame.pcm)
            try:
                admitted.append((i, envelope, frame, heard, heard.stage.admit(frame)))
            except Exception as error:  # whatever it is, it is this stream's
                results[i] = self._start_over(envelope, frame, heard, error)
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
                results[i] = self._start_over(envelope, frame, heard, error)
                continue
            if outputs or frame.last:
                heard.ledger = replace(heard.ledger, detected_ns=now)
                results[i] = [Envelope(output, heard.ledger) for output in outputs]
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
        results = [Envelope(output, heard.ledger) for output in outputs]
        return results + self._end(frame.stream) if frame.last else results

    def end(self, streams: Iterable[StreamId]) -> list[Envelope]:
        """Take streams for ended, as if they had been silent for too long; those that are not followed are none."""
        results: list[Envelope] = []
        for stream in streams:
            results += self._detect_all(self._arrivals.rest(stream))
            if stream in self._streams:
                results += self._end(stream)
        return results

    def _end_idle(self) -> list[Envelope]:
        now_ns = self._arrival_clock.now_ns
        return self.end([stream for stream, heard in self._streams.items() if now_ns - heard.heard_ns > self._idle_ns])

    def _end(self, stream: StreamId) -> list[Envelope]:
        heard = self._streams.pop(stream)
        end = SpeechFrame(stream, heard.end, heard.end, np.zeros(0, np.int16), stream_ended=True)
        return [Envelope(output, heard.ledger) for output in [*heard.stage.flush(), end]]

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        """Forget streams without a word: another worker has them now."""
        self._arrivals.drop(belongs)
        self._streams = {stream: heard for stream, heard in self._streams.items() if not belongs(stream)}


def _turns(arrived: Sequence[Envelope | Restart]) -> list[list[int]]:
    """Places of the envelopes in turns: the first ones of each stream, the second ones, ..."""
    places: dict[StreamId, list[int]] = {}
    for i, one in enumerate(arrived):
        places.setdefault(one.stream if isinstance(one, Restart) else one.record.stream, []).append(i)
    return [[i for i in turn if i is not None] for turn in zip_longest(*places.values())]


def never() -> bool:
    """Nothing is shed."""
    return False


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
        self._streams: dict[StreamId, Extract] = {}

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
            if frame.stream_ended:
                stage = self._streams.pop(frame.stream, None)
                left = [] if stage is None else self._step(partial(_flush, stage), stage, envelope, frame)
                outputs = [*left, _stream_end(frame)]
            else:
                stage = self._streams.get(frame.stream)
                if stage is None:
                    stage = self._streams[frame.stream] = self._make(frame.stream)
                outputs = self._step(stage.leave_out if shed else stage.step, stage, envelope, frame)
            if outputs:
                ledger = replace(envelope.ledger, extracted_ns=self._clock())
                results += [Envelope(output, ledger) for output in outputs]
        return results

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

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        """Forget streams without a word: another worker has them now."""
        for stream in [stream for stream in self._streams if belongs(stream)]:
            self._streams.pop(stream).drop()


def _flush(stage: Extract, _: SpeechFrame) -> list[FeatureWindow]:
    return stage.flush()


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


def no_consents() -> Sequence[Consent]:
    """Nobody said anything."""
    return ()


class InferStreams:
    """Feature windows (and, for models that listen, speech frames) in; insights out. Those of a batch go together.

    A stream's last record says that it has ended: where models listen, when both its windows and its speech have.

    Args:
        infer: the models, the policy, the consents and the streams' baselines.
        clock: for the ledger.
        consents: what was allowed or refused since it was last asked; asked before every batch.
        sheds: whether windows and speech are to be passed over; asked once a batch. Utterances are judged all the same:
            there are few, and baselines rest on them.
        failed: told of records that cannot be worked on.
    """

    def __init__(
        self,
        infer: Infer,
        clock: Clock,
        consents: Callable[[], Sequence[Consent]] = no_consents,
        sheds: Callable[[], bool] = never,
        failed: Failed = not_expected,
    ) -> None:
        self._sheds = sheds
        self._failed = failed
        self._infer = infer
        self._clock = clock
        self._fresh_consents = consents
        self._streams: set[StreamId] = set()
        self._listened: set[StreamId] = set()
        self._half_ended: dict[StreamId, None] = {}
        self._counted: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        """Streams being followed."""
        return len(self._streams | self._listened)

    @property
    def listens(self) -> bool:
        """Whether speech frames are wanted beside the windows."""
        return self._infer.listens

    def __call__(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Infer from each window and frame; a stream's end makes it forgotten."""
        for consent in self._fresh_consents():
            self._infer.obey(consent)
        shed, passed_over = self._sheds(), 0
        windows: list[tuple[FeatureWindow, Ledger]] = []
        frames: list[tuple[SpeechFrame, Ledger]] = []
        results: list[Envelope] = []
        ends: list[Envelope] = []
        for envelope in envelopes:
            record = envelope.record
            if isinstance(record, SpeechFrame):
                if record.stream_ended:
                    results += self._run(self._infer.hear, frames)
                    frames = []
                    self._forget_audio(record.stream)
                    if self.listens:
                        ends += self._end(envelope, record)
                elif self.listens and shed:
                    passed_over += record.last
                elif self.listens:
                    self._listened.add(record.stream)
                    frames.append((record, envelope.ledger))
                continue
            assert isinstance(record, FeatureWindow)
            if record.kind is WindowKind.STREAM_END:
                results += self._run(self._infer.step_many, windows)
                windows = []
                self._forget(record.stream)
                ends += self._end(envelope, record)
            elif shed and record.kind is WindowKind.WINDOW:
                passed_over += 1
            else:
                self._streams.add(record.stream)
                windows.append((record, envelope.ledger))
        results += self._run(self._infer.step_many, windows)
        results += self._run(self._infer.hear, frames)
        self._count_withheld()
        if passed_over:
            telemetry.work_shed("infer", passed_over)
        return results + ends

    def _run(
        self, judge: Callable[[Sequence[T]], list[list[Insight]]], waiting: Sequence[tuple[T, Ledger]]
    ) -> list[Envelope]:
        if not waiting:
            return []
        insights_by_record = judge([record for record, _ in waiting])
        for failure in self._infer.take_failures():
            self._failed("infer", Envelope(*waiting[failure.index]), failure.error)
        now = self._clock()
        return [
            Envelope(insight, replace(ledger, inferred_ns=now))
            for (_, ledger), insights in zip(waiting, insights_by_record, strict=True)
            for insight in insights
        ]

    def _end(self, envelope: Envelope, record: FeatureWindow | SpeechFrame) -> list[Envelope]:
        if self.listens and self._half_ended.pop(record.stream, self) is self:
            self._half_ended[record.stream] = None
            while len(self._half_ended) > _HALF_ENDED_STREAMS:  # their other half went to another worker
                self._half_ended.pop(next(iter(self._half_ended)))
            return []
        ledger = replace(envelope.ledger, inferred_ns=self._clock())
        return [Envelope(InsightsEnd(record.stream, record.start), ledger)]

    def _count_withheld(self) -> None:
        for (model, because), count in (self._infer.withheld - self._counted).items():
            telemetry.windows_withheld(model, because, count)
        self._counted = Counter(self._infer.withheld)

    def _forget(self, stream: StreamId) -> None:
        self._infer.drop(stream)
        self._streams.discard(stream)

    def _forget_audio(self, stream: StreamId) -> None:
        self._infer.drop_audio(stream)
        self._listened.discard(stream)

    def drop(self, belongs: Callable[[StreamId], bool]) -> None:
        """Forget streams without a word: another worker has them now."""
        for stream in [stream for stream in self._streams if belongs(stream)]:
            self._forget(stream)
        for stream in [stream for stream in self._listened if belongs(stream)]:
            self._forget_audio(stream)
