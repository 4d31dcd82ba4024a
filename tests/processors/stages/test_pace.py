from __future__ import annotations

import numpy as np
import pytest

from callscope.streams import StreamId
from processors.records import AudioFrame
from processors.stages.pace import Pace

STREAM = StreamId("c", "customer")
SECOND_NS = 1_000_000_000


def live(times_s: list[float], start: int = 0) -> list[bool]:
    """Of a stream whose frames of 20 ms arrive at those times."""
    pace, pcm = Pace(), np.zeros(320, np.int16)
    return [
        pace.is_live(AudioFrame(STREAM, n, start + n * 320, pcm), int((1_000 + at) * SECOND_NS))
        for n, at in enumerate(times_s)
    ]


def test_audio_that_comes_as_it_is_spoken_is_live() -> None:
    assert all(live([n * 0.02 for n in range(500)]))
    assert all(live([n * 0.02 for n in range(500)], start=16_000_000)), "also where a worker takes a stream over"


@pytest.mark.parametrize("speed", [2, 8, 1_000])
def test_a_recording_that_comes_faster_is_not_but_for_its_beginning(speed: int) -> None:
    judged = live([n * 0.02 / speed for n in range(500)])
    first = judged.index(False)
    assert first * 0.02 < 0.6
    assert not any(judged[first:])


def test_audio_that_was_held_while_the_call_was_set_up_does_not_make_the_rest_a_recording() -> None:
    judged = live([max(1.0, n * 0.02) for n in range(500)])
    assert all(judged[250:])


def test_jitter_does_not_matter() -> None:
    assert all(live([n // 10 * 0.2 + 0.2 for n in range(500)]))


def test_a_clock_that_runs_a_little_fast_does_not_matter() -> None:
    pace, pcm = Pace(), np.zeros(320, np.int16)
    for tick in range(50_000):
        start = int(tick * 1_600 * 1.001)
        assert pace.is_live(AudioFrame(STREAM, tick, start, pcm), 1_000 * SECOND_NS + tick * SECOND_NS // 10)


def test_a_stream_that_ended_is_forgotten() -> None:
    pace, pcm = Pace(), np.zeros(320, np.int16)
    pace.is_live(AudioFrame(STREAM, 0, 0, pcm), SECOND_NS)
    assert not pace.is_live(AudioFrame(STREAM, 1, 160_000, pcm, last=True), SECOND_NS)
    assert pace.is_live(AudioFrame(STREAM, 0, 160_000, pcm), SECOND_NS)
