"""The property that replay and recovery rest on: results are a function of a stream's audio, and of nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from callscope.config import load
from callscope.streams import StreamId
from processors import wire
from processors.app import build_pipeline
from processors.records import FRAME_SAMPLES, AudioFrame, Envelope, InsightsEnd, SpeechFrame
from processors.topology import Pipeline, Step
from tests.signals import demo_leg

FRAMES = 450
"""9 s a stream: the demo's customer speaks three times in them, the agent twice."""
STREAMS = {StreamId("call-1", "customer"): 0, StreamId("call-1", "agent"): 1, StreamId("call-2", "customer"): 0}
LOST = {StreamId("call-2", "customer"): frozenset({*range(360, 362), *range(400, 430)})}

Results = dict[tuple[StreamId, str], list[bytes]]


def frames_of(stream: StreamId, cuts: frozenset[int]) -> list[Envelope]:
    """A stream's audio, cut into records before those frames."""
    pcm, lost = demo_leg(STREAMS[stream]), LOST.get(stream, frozenset())
    records: list[AudioFrame] = []
    begin = 0
    for frame in range(1, FRAMES + 1):
        if not (frame in cuts or frame == FRAMES or (frame in lost) != (begin in lost)):
            continue
        if begin not in lost:
            gap = begin - (records[-1].start // FRAME_SAMPLES + len(records[-1].pcm) // FRAME_SAMPLES) if records else 0
            audio = pcm[begin * FRAME_SAMPLES : frame * FRAME_SAMPLES]
            records.append(AudioFrame(stream, len(records), begin * FRAME_SAMPLES, audio, gap * FRAME_SAMPLES))
        begin = frame
    records.append(AudioFrame(stream, len(records), FRAMES * FRAME_SAMPLES, pcm[:0], last=True))
    return [Envelope(record) for record in records]


def canonical(envelopes: Sequence[Envelope]) -> Results:
    """Every record as its bytes without the ledger, by stream and topic; a segment's audio is joined: how it is cut is
    transport."""
    results: Results = defaultdict(list)
    audio: dict[tuple[StreamId, int], bytes] = defaultdict(bytes)
    for envelope in envelopes:
        record = envelope.record
        if isinstance(record, SpeechFrame):
            audio[record.stream, record.segment] += record.pcm.tobytes()
        else:
            results[record.stream, wire.topic_of(record).name].append(wire.encode(Envelope(record)))
    for (stream, _), pcm in audio.items():
        results[stream, "audio"].append(pcm)
    return results


def over_kafka(topic: str, envelopes: Sequence[Envelope]) -> list[Envelope]:
    """What another worker reads of what one wrote to a topic."""
    values = [wire.encode(envelope) for envelope in envelopes if wire.topic_of(envelope.record).name == topic]
    return [wire.decode(topic, value) for value in values]


def in_batches(
    step: Step, envelopes: Sequence[Envelope], sizes: st.SearchStrategy[int], data: st.DataObject
) -> list[Envelope]:
    results, at = [], 0
    while at < len(envelopes):
        size = data.draw(sizes)
        results += step(envelopes[at : at + size])
        at += size
    return results


@cache
def expected(stream: StreamId) -> Results:
    """A stream alone, frame by frame, fused."""
    pipeline = build_pipeline(load())
    return canonical([r for frame in frames_of(stream, frozenset(range(FRAMES))) for r in pipeline([frame])])


@settings(max_examples=25)
@given(st.data())
def test_chunking_company_interleaving_and_wiring_change_nothing(data: st.DataObject) -> None:
    cuts = st.frozensets(st.integers(1, FRAMES - 1), min_size=20, max_size=200)
    waiting = [frames_of(stream, data.draw(cuts)) for stream in STREAMS]
    mixed: list[Envelope] = []
    while any(waiting):
        queue = data.draw(st.sampled_from([queue for queue in waiting if queue]))
        count = data.draw(st.integers(1, 60))
        mixed += queue[:count]
        del queue[:count]

    pipeline: Pipeline = build_pipeline(load())
    sizes = st.integers(1, 200)
    if data.draw(st.booleans(), "fused"):
        results = in_batches(pipeline, mixed, sizes, data)
    else:
        heard = in_batches(pipeline.detect, mixed, sizes, data)
        described = in_batches(pipeline.extract, over_kafka("voice.speech", heard), sizes, data)
        inferred = in_batches(pipeline.infer, over_kafka("voice.features", described), sizes, data)
        results = [*heard, *described, *inferred]

    got = canonical(results)
    for stream in STREAMS:
        wanted = expected(stream)
        assert {key: value for key, value in got.items() if key[0] == stream} == wanted
        assert wanted[stream, "voice.features"] and wanted[stream, "audio"]
        *judged, end = [wire.decode("voice.insights", value).record for value in wanted[stream, "voice.insights"]]
        assert end == InsightsEnd(stream, FRAMES * FRAME_SAMPLES)
        assert bool(judged) == (stream.leg == "customer")
