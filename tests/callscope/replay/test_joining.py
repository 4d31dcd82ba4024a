from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from callscope.config import load
from callscope.replay.digest import RESULTS, Digests
from callscope.replay.joining import joined
from callscope.streams import StreamId
from processors import wire
from processors.app import build_pipeline
from processors.records import AudioFrame, Envelope, Ledger
from tests.signals import hush, join, voice

NAMES = {topic.name for topic in RESULTS}
CUSTOMER, AGENT = StreamId("c", "customer"), StreamId("c", "agent")


def frame(stream: StreamId, at: int, samples: int = 320, *, last: bool = False) -> Envelope:
    pcm = np.arange(at, at + samples).astype(np.int16)
    return Envelope(AudioFrame(stream, at // 320, at, pcm, last=last), Ledger(at + samples))


def said(envelopes: list[Envelope]) -> list[tuple[str, int, int, bool, int]]:
    told = []
    for envelope in envelopes:
        record = envelope.record
        assert isinstance(record, AudioFrame)
        assert np.array_equal(record.pcm, np.arange(record.start, record.start + len(record.pcm)).astype(np.int16))
        told.append((record.stream.leg, record.start, len(record.pcm), record.last, envelope.ledger.arrived_ns))
    return told


def test_what_goes_on_where_it_ended_is_one() -> None:
    given_ = [frame(CUSTOMER, 0), frame(AGENT, 0), frame(CUSTOMER, 320, 640), frame(AGENT, 320), frame(AGENT, 640)]
    assert said(joined(given_)) == [("customer", 0, 960, False, 960), ("agent", 0, 960, False, 960)]


def test_holes_repetitions_and_ends_part_records() -> None:
    hole = [frame(CUSTOMER, 0), frame(CUSTOMER, 640), frame(CUSTOMER, 960)]
    assert said(joined(hole)) == [("customer", 0, 320, False, 320), ("customer", 640, 640, False, 1280)]
    twice = [frame(CUSTOMER, 0), frame(CUSTOMER, 320), frame(CUSTOMER, 0), frame(CUSTOMER, 320)]
    assert said(joined(twice)) == [("customer", 0, 640, False, 640)] * 2
    ended = [frame(CUSTOMER, 0), frame(CUSTOMER, 320, 0, last=True), frame(CUSTOMER, 320)]
    assert said(joined(ended)) == [("customer", 0, 320, True, 320), ("customer", 320, 320, False, 640)]


AUDIO = join(hush(0.2), voice(1.0), hush(0.8), voice(0.4), hush(0.1))


def digests(batches: list[list[Envelope]]) -> dict[str, str | None]:
    pipeline, found = build_pipeline(load()), Digests()
    for batch in batches:
        for result in pipeline(batch):
            topic = wire.topic_of(result.record).name
            if topic in NAMES:
                found.add(topic, wire.encode(result))
    return {str(stream): found.take(stream) for stream in found.streams()}


Edit = tuple[int, int, int]


def edited(edits: list[Edit]) -> list[Envelope]:
    """Two legs in records of 20 ms, of which some are lost, and some come again later.

    Args:
        edits: where, how many records go there, and how many of those before come again.
    """
    count = len(AUDIO) // 320
    frames = [
        Envelope(AudioFrame(stream, number, number * 320, AUDIO[number * 320 : number * 320 + 320]))
        for number in range(count)
        for stream in (CUSTOMER, AGENT)
    ]
    for at, lost, again in edits:
        frames[at : at + lost] = frames[at - again : at]
    ends = [Envelope(AudioFrame(stream, count, count * 320, AUDIO[:0], last=True)) for stream in (CUSTOMER, AGENT)]
    return frames + ends


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.tuples(st.integers(20, 150), st.integers(0, 30), st.integers(0, 12)), max_size=4), st.integers(2, 200)
)
def test_results_are_the_same(edits: list[Edit], batch: int) -> None:
    frames = edited(edits)
    wanted = digests([[frame] for frame in frames])
    assert wanted.keys() == {"c/customer", "c/agent"}
    assert digests([joined(frames[at : at + batch]) for at in range(0, len(frames), batch)]) == wanted
