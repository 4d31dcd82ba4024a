from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callscope.config import load
from callscope.replay.digest import RESULTS, Digests
from callscope.replay.joining import Joining
from callscope.streams import StreamId
from processors import wire
from processors.app import build_pipeline
from processors.records import AudioFrame, Envelope, Ledger
from tests.signals import hush, join, voice

NAMES = {topic.name for topic in RESULTS}
CUSTOMER, AGENT = StreamId("c", "customer"), StreamId("c", "agent")


def frame(stream: StreamId, seq: int, at: int, samples: int = 320, gap: int = 0, *, last: bool = False) -> Envelope:
    pcm = np.arange(at, at + samples).astype(np.int16)
    return Envelope(AudioFrame(stream, seq, at, pcm, gap, last), Ledger(at + samples))


def said(envelopes: list[Envelope]) -> list[tuple[str, int, int, int, bool]]:
    """Of each: leg, start, length, number, and whether it is the last."""
    told = []
    for envelope in envelopes:
        record = envelope.record
        assert isinstance(record, AudioFrame)
        assert np.array_equal(record.pcm, np.arange(record.start, record.start + len(record.pcm)).astype(np.int16))
        told.append((record.stream.leg, record.start, len(record.pcm), record.seq, record.last))
        assert envelope.ledger.arrived_ns == record.start + len(record.pcm)
    return told


def test_what_goes_on_where_it_ended_is_one() -> None:
    """But the first of a stream, which says that it is one."""
    joining = Joining()
    first = [frame(CUSTOMER, 0, 0), frame(AGENT, 0, 0), frame(CUSTOMER, 1, 320, 640), frame(CUSTOMER, 2, 960)]
    assert said(joining(first)) == [
        ("customer", 0, 320, 0, False),
        ("agent", 0, 320, 0, False),
        ("customer", 320, 960, 2, False),
    ]
    second = [frame(CUSTOMER, 3, 1_280), frame(AGENT, 1, 320), frame(CUSTOMER, 4, 1_600, 0, last=True)]
    assert said(joining(second)) == [("customer", 1_280, 320, 4, True), ("agent", 320, 320, 1, False)]


def test_a_hole_parts_records() -> None:
    came = [(0, 0, 0), (1, 320, 0), (2, 960, 320), (3, 1_280, 0), (4, 1_600, 0)]
    assert said(Joining()([frame(CUSTOMER, seq, at, gap=gap) for seq, at, gap in came])) == [
        ("customer", 0, 320, 0, False),
        ("customer", 320, 320, 1, False),
        ("customer", 960, 320, 2, False),
        ("customer", 1_280, 640, 4, False),
    ]


@pytest.mark.parametrize(("seq", "at"), [(2, 640), (1, 320), (4, 1_280), (3, 640), (7, 960)])
def test_who_got_out_of_turn_is_left_alone_until_its_end(seq: int, at: int) -> None:
    joining = Joining()
    assert len(joining([frame(CUSTOMER, 0, 0), frame(CUSTOMER, 1, 320), frame(CUSTOMER, 2, 640)])) == 2
    came = [frame(CUSTOMER, seq, at), frame(CUSTOMER, 3, 960), frame(CUSTOMER, 4, 1_280), frame(CUSTOMER, 5, 1_600)]
    assert joining(came) == came
    joining.forget(CUSTOMER)
    assert len(joining(came[1:])) == 2


AUDIO = join(hush(0.2), voice(1.0), hush(0.8), voice(0.4), hush(0.1))


def digests(batches: list[list[Envelope]]) -> dict[str, str | None]:
    pipeline, found = build_pipeline(load()), Digests()
    for batch in batches:
        for result in pipeline(batch):
            topic = wire.topic_of(result.record).name
            if topic in NAMES:
                found.add(topic, wire.encode(result))
    for result in pipeline.end([CUSTOMER, AGENT]):  # what still waits for audio that never came
        if (topic := wire.topic_of(result.record).name) in NAMES:
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


@settings(max_examples=12)
@given(
    st.lists(st.tuples(st.integers(20, 150), st.integers(0, 30), st.integers(0, 12)), max_size=4), st.integers(2, 200)
)
def test_results_are_the_same(edits: list[Edit], batch: int) -> None:
    frames = edited(edits)
    wanted = digests([[frame] for frame in frames])
    assert wanted.keys() == {"c/customer", "c/agent"}
    joined = Joining()
    assert digests([joined(frames[at : at + batch]) for at in range(0, len(frames), batch)]) == wanted
