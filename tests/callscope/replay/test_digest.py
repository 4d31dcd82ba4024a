from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.config import load
from callscope.replay.digest import RESULTS, Digests, NoResult, canonical, combined, different
from callscope.streams import StreamId
from callscope.topics import VOICE_ACTIVITY, VOICE_INSIGHTS, VOICE_SPEECH
from processors import wire
from processors.app import build_pipeline
from processors.records import AudioFrame, Envelope
from schemas.v1.activity_pb2 import VoiceActivity
from schemas.v1.insight_pb2 import Insight
from tests.signals import hush, join, voice

Result = tuple[str, bytes]


def activity(call: str = "c", leg: str = "customer", **more: object) -> Result:
    record = VoiceActivity(call_id=call, leg=leg, kind=VoiceActivity.LEVEL, start=1_600, duration=1_600)
    record.MergeFrom(VoiceActivity(**more))  # type: ignore[arg-type]  # the test's own words
    return VOICE_ACTIVITY.name, record.SerializeToString()


def digest_of(results: list[Result]) -> str:
    digests = Digests()
    for topic, value in results:
        digests.add(topic, value)
    return combined({str(stream): digests.take(stream) or "" for stream in digests.streams()})


def analysed(records: int) -> list[Result]:
    """What the pipeline finds in two legs that are given to it so many records at a time, by a clock of its own."""
    audio = join(hush(0.5), voice(2.0), hush(1.0), voice(1.0), hush(0.5))
    frames = [
        Envelope(AudioFrame(StreamId("c", leg), n, n * 320, audio[n * 320 : n * 320 + 320], last=n == 249))
        for n in range(250)
        for leg in ("customer", "agent")
    ]
    now = iter(range(records * 1_000_000, 1 << 62))
    pipeline = build_pipeline(load(), lambda: next(now))
    found = [result for at in range(0, len(frames), records) for result in pipeline(frames[at : at + records])]
    names = {topic.name for topic in RESULTS}
    return [(wire.topic_of(e.record).name, wire.encode(e)) for e in found if wire.topic_of(e.record).name in names]


def test_when_and_in_what_company_audio_was_worked_on_leaves_no_trace() -> None:
    some, others = analysed(2), analysed(77)
    assert sorted(some) != sorted(others), "their ledgers differ"
    assert {topic for topic, _ in some} == {topic.name for topic in RESULTS}
    assert digest_of(some) == digest_of(others)


@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_order_and_repetition_leave_no_trace(random_: random.Random, numbers: list[int]) -> None:
    results = [activity(call=f"c{number % 2}", level_dbfs=-float(number)) for number in numbers]
    shuffled = [*results, *results[: len(results) // 2]]
    random_.shuffle(shuffled)
    assert digest_of(shuffled) == digest_of(results)


@pytest.mark.parametrize(
    "other",
    [
        activity(probability=0.5),
        activity(start=1_601),
        activity(duration=1),
        activity(leg="agent"),
        activity(call="d"),
        activity(kind=VoiceActivity.SPEECH_END),
        activity(segment=0),
        (VOICE_INSIGHTS.name, Insight(call_id="c", leg="customer", start=1_600).SerializeToString()),
    ],
)
def test_whatever_a_result_says_counts(other: Result) -> None:
    assert digest_of([other]) != digest_of([activity()])
    assert len({digest_of([activity()]), digest_of([activity(), other]), digest_of([])}) == 3


def test_the_least_change_of_a_number_counts() -> None:
    value = -31.25
    assert digest_of([activity(level_dbfs=value)]) != digest_of([activity(level_dbfs=float(np.nextafter(value, 0)))])


def test_the_ledger_does_not_count() -> None:
    topic, value = activity()
    record = VoiceActivity.FromString(value)
    record.ledger.arrived_ns, record.ledger.detected_ns = 12, 13
    assert canonical(topic, record.SerializeToString()) == canonical(topic, value)


def test_streams_that_differ_are_named() -> None:
    assert different({"a/x": "1", "b/x": "2", "c/x": "3"}, {"a/x": "1", "b/x": "9", "d/x": "4"}) == [
        "b/x",
        "c/x",
        "d/x",
    ]
    assert different({"a/x": "1", "b/x": "2"}, {"a/x": "1"}, among=["a/x"]) == []


def test_a_stream_that_was_taken_is_forgotten() -> None:
    digests = Digests()
    stream = digests.add(*activity())
    assert digests.take(stream) is not None
    assert (digests.take(stream), digests.streams()) == (None, [])


@pytest.mark.parametrize("value", [b"\xff\xff", VoiceActivity(leg="x").SerializeToString()])
def test_what_is_no_result_is_refused(value: bytes) -> None:
    with pytest.raises(NoResult, match=r"record of voice\.activity"):
        Digests().add(VOICE_ACTIVITY.name, value)


def test_speech_is_no_result() -> None:
    assert VOICE_SPEECH not in RESULTS
