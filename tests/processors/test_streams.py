from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from callscope.config import load
from callscope.streams import StreamId
from processors.app import build_pipeline
from processors.records import AudioFrame, Envelope, FeatureWindow, Ledger, WindowKind
from tests.signals import hush, join, voice

SECOND_NS = 1_000_000_000


def frames(stream: StreamId, seconds: float, *, last: bool = True, arrived_ns: int = SECOND_NS) -> list[Envelope]:
    audio = join(hush(0.5), voice(seconds), hush(0.5))
    cut = [audio[i : i + 320] for i in range(0, len(audio) - 319, 320)]
    return [
        Envelope(
            AudioFrame(stream, n, n * 320, pcm, last=last and n == len(cut) - 1),
            Ledger(arrived_ns=arrived_ns + n * 20_000_000),
        )
        for n, pcm in enumerate(cut)
    ]


def test_a_finished_stream_leaves_nothing_behind() -> None:
    pipeline = build_pipeline(load())
    results = pipeline(frames(StreamId("c", "customer"), 3.0))
    assert any(isinstance(envelope.record, FeatureWindow) for envelope in results)
    assert len(pipeline.detect) == len(pipeline.extract) == len(pipeline.infer) == 0


def test_the_end_of_a_stream_is_told_to_every_stage() -> None:
    pipeline = build_pipeline(load())
    results = [envelope.record for envelope in pipeline(frames(StreamId("c", "customer"), 1.0))]
    ends = [r for r in results if isinstance(r, FeatureWindow) and r.kind is WindowKind.STREAM_END]
    assert len(ends) == 1


IDLE_S = 5.0
LATER_NS = 9 * SECOND_NS


def test_a_stream_that_falls_silent_without_an_end_is_ended_by_the_others_time() -> None:
    """By those of its partition: between partitions one may be read far ahead of the other."""
    pipeline = build_pipeline(load(topics={"partitions": 8}), idle_stream_s=IDLE_S)
    pipeline(frames(StreamId("lost", "customer"), 1.0, last=False))
    assert len(pipeline.detect) == 1
    other = frames(StreamId("lost", "agent"), 2.0, last=False)
    for number, at in enumerate((3 * SECOND_NS, LATER_NS)):
        pipeline([replace(other[number], ledger=Ledger(arrived_ns=at))])
    assert len(pipeline.detect) == 1, "only the other one is left"


def test_a_clock_that_is_set_by_an_hour_ends_no_stream() -> None:
    pipeline = build_pipeline(load())
    streams = [frames(StreamId("call", leg), 2.0, last=False) for leg in ("customer", "agent")]
    for number, both in enumerate(zip(*streams, strict=True)):
        at = (1_000 + 3_600 * (number > 40) - 7_200 * (number > 70)) * SECOND_NS
        for envelope in both:
            pipeline([replace(envelope, ledger=Ledger(arrived_ns=at))])
    assert len(pipeline.detect) == 2


def test_a_stream_that_goes_on_after_too_long_a_silence_is_a_new_one() -> None:
    """Whether others came in between or not: results shall not depend on that."""
    pipeline = build_pipeline(load(), idle_stream_s=IDLE_S)
    stream = StreamId("c", "customer")
    sent = frames(stream, 2.0, last=False)
    pipeline(sent[:50])
    later = [replace(envelope, ledger=Ledger(arrived_ns=LATER_NS)) for envelope in sent[50:]]
    results = [e.record for e in pipeline(later)]
    ends = [r for r in results if isinstance(r, FeatureWindow) and r.kind is WindowKind.STREAM_END]
    assert len(ends) == 1
    assert len(pipeline.detect) == 1


def test_records_that_come_again_after_their_streams_end_are_no_new_stream() -> None:
    pipeline = build_pipeline(load())
    stream = StreamId("c", "customer")
    sent = frames(stream, 1.0)
    pipeline(sent)
    assert pipeline(sent[50:]) == []
    assert pipeline(sent[-1:]) == []
    assert len(pipeline.detect) == 0
    later = frames(stream, 1.0, arrived_ns=60 * SECOND_NS)
    assert len(pipeline(later)) > 5, "another stream may have the same id"


def test_streams_of_partitions_that_were_given_up_are_forgotten() -> None:
    pipeline = build_pipeline(load())
    for call in ("a", "b"):
        pipeline(frames(StreamId(call, "customer"), 2.0, last=False))
    for step in (pipeline.detect, pipeline.extract, pipeline.infer):
        step.drop(lambda stream: stream.call_id == "a")
    assert len(pipeline.detect) == 1


def test_a_result_carries_the_ledger_of_the_audio_that_brought_it_about() -> None:
    clock = iter(range(10 * SECOND_NS, 20 * SECOND_NS, 1000))
    pipeline = build_pipeline(load(), lambda: next(clock))
    sent = frames(StreamId("c", "customer"), 2.0)
    arrivals = {envelope.ledger.arrived_ns for envelope in sent}
    for envelope in pipeline(sent):
        assert envelope.ledger.arrived_ns in arrivals
        assert envelope.ledger.detected_ns >= 10 * SECOND_NS
        if isinstance(envelope.record, FeatureWindow) and envelope.record.kind is not WindowKind.STREAM_END:
            assert envelope.ledger.extracted_ns > envelope.ledger.detected_ns


def test_silence_makes_no_speech() -> None:
    pipeline = build_pipeline(load())
    stream = StreamId("c", "customer")
    silence = [Envelope(AudioFrame(stream, n, n * 320, np.zeros(320, np.int16))) for n in range(100)]
    assert not any(isinstance(envelope.record, FeatureWindow) for envelope in pipeline(silence))


def test_a_stream_can_be_taken_for_ended_by_name() -> None:
    """As if it had been silent too long: what every stage had of it comes out, and only of it."""
    pipeline = build_pipeline(load(), idle_stream_s=math.inf)
    lost, other, unknown = StreamId("lost", "customer"), StreamId("other", "customer"), StreamId("nobody", "customer")
    pipeline(frames(lost, 1.0, last=False))
    pipeline(frames(other, 1.0, last=False, arrived_ns=10**18))
    assert len(pipeline.detect) == 2, "however late the other one's audio came"
    results = [envelope.record for envelope in pipeline.end([lost, unknown])]
    ends = [r for r in results if isinstance(r, FeatureWindow) and r.kind is WindowKind.STREAM_END]
    assert [end.stream for end in ends] == [lost]
    assert len(pipeline.detect) == 1
