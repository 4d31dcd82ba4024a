"""Runs calls through the very stages of the pipeline, without Kafka, and keeps what can be scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import merge as merged_by

import numpy as np
from numpy.typing import NDArray

from callscope.config import Detect as DetectConfig
from callscope.config import Settings
from callscope.evaluation.judgement import Judgement, Said
from callscope.evaluation.recordings import Call, end_of
from callscope.evaluation.spans import GRID, Span, on_grid, spoken_in
from callscope.streams import StreamId
from processors.app import build_pipeline
from processors.records import (
    RATE_HZ,
    ActivityKind,
    AudioFrame,
    Consent,
    Envelope,
    Insight,
    Pcm,
    Record,
    SpeechFrame,
    VoiceActivity,
)
from processors.stages.detect import Detect
from processors.streams import DetectStreams
from processors.topology import Pipeline

_BATCH = 50
"""Records that are given to the pipeline at once: a second of 20 ms records."""


class ObservedDetect(Detect):
    """The stage `detect`, and what its detector said of each hop.

    Attributes:
        hops: start, length (samples) and probability of each.
        heard_to: media time up to which audio came in.
    """

    def __init__(self, stream: StreamId, config: DetectConfig) -> None:
        super().__init__(stream, config)
        self.hops: list[tuple[int, int, float]] = []
        self.heard_to = 0

    def admit(self, record: AudioFrame) -> Pcm:
        """See `Detect.admit`."""
        self.heard_to = record.start + len(record.pcm)
        return super().admit(record)

    def decide(
        self, probabilities: NDArray[np.float64], pcm: Pcm, *, last: bool = False
    ) -> list[VoiceActivity | SpeechFrame]:
        """See `Detect.decide`."""
        start, hop = self.judged_to or 0, self.detector.hop
        self.hops += [(start + i * hop, hop, p) for i, p in enumerate(probabilities.tolist())]
        return super().decide(probabilities, pcm, last=last)


@dataclass(slots=True)
class _Gathered:
    """What came out for one stream."""

    stage: ObservedDetect
    told: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    segments: dict[int, int] = field(default_factory=dict)
    said: list[Said] = field(default_factory=list)

    def take(self, record: Record) -> None:
        if isinstance(record, VoiceActivity):
            if record.kind is ActivityKind.SPEECH_START:
                self.told[record.start] = self.stage.heard_to
            elif record.kind is ActivityKind.SPEECH_END:
                self.ends[record.start] = record.start + record.duration
        elif isinstance(record, SpeechFrame) and not record.stream_ended:
            self.segments[record.segment] = record.start + len(record.pcm)
        elif isinstance(record, Insight) and record.is_final:
            outputs = {output.name: output.value for output in record.outputs}
            span = _span(record.start, record.start + record.duration)
            self.said.append(Said(record.model, record.model_version, span, outputs))

    def judgement(self, records: Sequence[AudioFrame]) -> Judgement:
        frames = end_of(records) // GRID
        spans = tuple(_span(start, self.ends[start]) for start in self.told if start in self.ends)
        came = [_span(record.start, record.start + len(record.pcm)) for record in records]
        return Judgement(
            probability=on_grid(self.stage.hops, frames),
            spoken=spoken_in(spans, frames),
            spans=spans,
            told_s=tuple(at / RATE_HZ for start, at in self.told.items() if start in self.ends),
            heard=spoken_in(came, frames),
            segments=tuple(_span(start, end) for start, end in sorted(self.segments.items())),
            said=tuple(self.said),
            detector=self.stage.detector.name,
        )


def _span(start: int, end: int) -> Span:
    return start / RATE_HZ, end / RATE_HZ


class Analysis:
    """The pipeline as configured, for one call after the other.

    Args:
        settings: the settings in force.
        models: whether features are extracted and models run; without them only speech and segments are found.

    Raises:
        CallscopeError: a model cannot be used.
    """

    def __init__(self, settings: Settings, *, models: bool) -> None:
        self._models = models
        self._streams: dict[StreamId, _Gathered] = {}
        self._consents: list[Consent] = []
        config = settings.processors
        pipeline = build_pipeline(settings, _no_time, self._fresh_consents, None if models else "detect")

        def observed(stream: StreamId) -> ObservedDetect:
            stage = ObservedDetect(stream, config.detect)
            self._streams[stream] = _Gathered(stage)
            return stage

        self._pipeline: Pipeline = replace(pipeline, detect=DetectStreams(observed, _no_time, config.idle_stream_s))

    def run(self, call: Call) -> dict[StreamId, Judgement]:
        """Analyse a call from its beginning to its end."""
        self._consents += call.consents
        records = _ended(call)
        for frames in _batches(merged_by(*records, key=lambda record: record.start)):
            envelopes = [Envelope(frame) for frame in frames]
            for result in self._pipeline(envelopes) if self._models else self._pipeline.detect(envelopes):
                self._streams[result.record.stream].take(result.record)
        return {of[0].stream: self._streams.pop(of[0].stream).judgement(of) for of in records if of}

    def _fresh_consents(self) -> Sequence[Consent]:
        fresh, self._consents = self._consents, []
        return fresh


def _ended(call: Call) -> list[list[AudioFrame]]:
    """The records of each leg; the last one of each ends its stream, whether the call did or not."""
    legs = []
    for records in call.legs.values():
        whole = list(records)
        if whole and not whole[-1].last:
            whole[-1] = replace(whole[-1], last=True)
        legs.append(whole)
    return legs


def _batches(frames: Iterable[AudioFrame]) -> Iterator[list[AudioFrame]]:
    """One record of a stream at a time, so that what is told can be put down to the record that brought it about."""
    batch: list[AudioFrame] = []
    streams: set[StreamId] = set()
    for frame in frames:
        if frame.stream in streams or len(batch) == _BATCH:
            yield batch
            batch, streams = [], set()
        batch.append(frame)
        streams.add(frame.stream)
    if batch:
        yield batch


def _no_time() -> int:
    return 0


def detected(records: Sequence[AudioFrame], config: DetectConfig) -> Judgement:
    """What the stage `detect` alone makes of a stream.

    Args:
        records: in order; the last one ends the stream.
        config: of the stage.
    """
    gathered = _Gathered(ObservedDetect(records[0].stream, config))
    for record in records:
        for result in gathered.stage.step(record):
            gathered.take(result)
    return gathered.judgement(records)
