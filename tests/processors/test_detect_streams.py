from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from callscope.config import Detect as DetectConfig
from callscope.streams import StreamId
from processors.records import AudioFrame, Envelope, Ledger, SpeechFrame, VoiceActivity
from processors.stages.detect import Detect
from processors.streams import DetectStreams
from tests.signals import demo_leg

FRAME, SECOND = 320, 16_000
CONFIG = DetectConfig(leg_detectors={"agent": "webrtc", "bot": "energy"})
LEGS = ("customer", "customer", "agent", "customer", "bot")


def streams() -> DetectStreams:
    return DetectStreams(lambda stream: Detect(stream, CONFIG), lambda: 7, 600.0)


def frames_of(stream: StreamId, leg: int, second: int, lost: frozenset[int], cuts: frozenset[int]) -> list[AudioFrame]:
    """Two seconds of the demo call as records; some frames are lost, some records hold several frames."""
    pcm = demo_leg(leg)[second * SECOND : (second + 2) * SECOND]
    out: list[AudioFrame] = []
    gap = 0
    for n in range(100):
        part = pcm[n * FRAME : (n + 1) * FRAME]
        if n in lost:
            gap += FRAME
        elif out and not gap and n not in cuts:
            out[-1] = replace(out[-1], pcm=np.concatenate((out[-1].pcm, part)))
        else:
            out.append(AudioFrame(stream, len(out), n * FRAME, part, gap_before=gap))
            gap = 0
    return [*out, AudioFrame(stream, len(out), 100 * FRAME, pcm[:0], gap_before=gap, last=True)]


Told = tuple[list[VoiceActivity], dict[tuple[int, bool], bytes], list[tuple[int, bool]]]


def told(results: Sequence[Envelope], stream: StreamId) -> Told:
    """What was said of a stream, with a segment's audio joined: how that is cut is transport."""
    records = [envelope.record for envelope in results if envelope.record.stream == stream]
    audio: dict[tuple[int, bool], bytes] = {}
    for r in records:
        if isinstance(r, SpeechFrame):
            audio[r.segment, r.lost] = audio.get((r.segment, r.lost), b"") + r.pcm.tobytes()
    ends = [(r.segment, r.stream_ended) for r in records if isinstance(r, SpeechFrame) and (r.last or r.stream_ended)]
    return [r for r in records if isinstance(r, VoiceActivity)], audio, ends


some_frames = st.frozensets(st.integers(1, 99), max_size=12)


@settings(max_examples=25)
@given(st.data())
def test_any_chunking_company_and_interleaving_gives_identical_records(data: st.DataObject) -> None:
    all_frames = frozenset(range(100))
    lost = [data.draw(some_frames, f"lost of {n}") for n in range(len(LEGS))]
    where = [data.draw(st.tuples(st.integers(0, 1), st.integers(0, 12)), f"audio of {n}") for n in range(len(LEGS))]
    ids = [StreamId(f"call-{n}", leg) for n, leg in enumerate(LEGS)]

    waiting = [
        frames_of(stream, leg, second, gone, data.draw(some_frames, "cuts"))
        for stream, (leg, second), gone in zip(ids, where, lost, strict=True)
    ]
    mixed: list[Envelope] = []
    while any(waiting):
        queue = data.draw(st.sampled_from([queue for queue in waiting if queue]))
        count = data.draw(st.integers(1, 20))
        mixed += [Envelope(frame, Ledger(arrived_ns=1)) for frame in queue[:count]]
        del queue[:count]
    detect, results = streams(), []
    while mixed:
        size = data.draw(st.integers(1, 40), "batch")
        results += detect(mixed[:size])
        del mixed[:size]
    assert len(detect) == 0

    for stream, (leg, second), gone in zip(ids, where, lost, strict=True):
        alone, expected = streams(), []
        for frame in frames_of(stream, leg, second, gone, all_frames):
            expected += alone([Envelope(frame, Ledger(arrived_ns=1))])
        assert told(results, stream) == told(expected, stream)


def test_results_are_in_the_order_of_the_frames_with_the_ledger_of_each() -> None:
    one, two = StreamId("call-1", "customer"), StreamId("call-2", "customer")
    pcm = demo_leg(1)
    batch = [
        Envelope(AudioFrame(stream, n, n * 1_600, pcm[n * 1_600 : (n + 1) * 1_600]), Ledger(arrived_ns=arrived))
        for arrived, (n, stream) in enumerate((n, stream) for n in range(20) for stream in (one, two))
    ]
    results = streams()(batch)
    arrived = [envelope.ledger.arrived_ns for envelope in results]
    assert arrived == sorted(arrived)
    assert {envelope.ledger.detected_ns for envelope in results} == {7}
    kinds = [[type(e.record) for e in results if e.record.stream == stream] for stream in (one, two)]
    assert kinds[0] == kinds[1]
    assert SpeechFrame in kinds[0]


def test_a_stream_that_ends_and_begins_again_in_one_batch_is_two() -> None:
    stream = StreamId("call-1", "customer")
    pcm = demo_leg(1)[: 2 * SECOND]
    frames = [AudioFrame(stream, 0, 0, pcm, last=True), AudioFrame(stream, 0, 0, pcm, last=True)]
    results = [envelope.record for envelope in streams()([Envelope(frame) for frame in frames])]
    half = len(results) // 2
    ends = [n for n, record in enumerate(results) if isinstance(record, SpeechFrame) and record.stream_ended]
    assert ends == [half - 1, 2 * half - 1]
