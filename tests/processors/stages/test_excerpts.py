from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from callscope.streams import StreamId
from processors.records import SpeechFrame
from processors.stages.excerpts import Excerpt, Excerpts

STREAM = StreamId("call", "customer")
LENGTH, HOP = 10, 4


def segment(id_: int, samples: int, cuts: list[int]) -> list[SpeechFrame]:
    """A segment whose samples are its media time, cut anywhere."""
    pcm = np.arange(id_, id_ + samples, dtype=np.int16)
    edges = sorted({0, samples, *(cut % (samples + 1) for cut in cuts)})
    spans = list(itertools.pairwise(edges)) or [(0, 0)]
    return [SpeechFrame(STREAM, id_, id_ + a, pcm[a:b], last=b == samples) for a, b in spans]


def heard(frames: list[SpeechFrame]) -> list[Excerpt]:
    excerpts = Excerpts(LENGTH, HOP)
    return [excerpt for frame in frames for excerpt in excerpts.step(frame)]


def told(excerpts: list[Excerpt]) -> list[tuple[int, int, list[int], bool]]:
    return [(e.segment, e.start, e.pcm.tolist(), e.is_final) for e in excerpts]


@given(st.integers(0, 60), st.lists(st.integers(0, 60), max_size=8), st.integers(0, 500))
def test_any_cut_gives_the_last_samples_every_hop_and_at_the_end(samples: int, cuts: list[int], id_: int) -> None:
    ends = [*range(LENGTH, samples + 1, HOP), samples]
    expected = [
        (id_, id_ + max(0, end - LENGTH), list(range(id_ + max(0, end - LENGTH), id_ + end)), number == len(ends) - 1)
        for number, end in enumerate(ends)
    ]
    assert told(heard(segment(id_, samples, cuts))) == expected


def test_segments_do_not_mix_and_a_repeated_one_is_passed_over() -> None:
    first, second = segment(0, 12, [5]), segment(100, 11, [])
    excerpts = heard([*first, *first, *second, *first])
    assert [(e.segment, e.start) for e in excerpts] == [(0, 0), (0, 2), (100, 100), (100, 101)]


def test_a_segment_of_which_a_part_is_missing_gives_nothing() -> None:
    frames = segment(0, 30, [5, 6, 20])
    assert heard(frames[1:]) == []
    assert heard([frames[0], *frames[2:]]) == []


def test_audio_that_was_lost_is_told() -> None:
    a, b, c = segment(0, 30, [9, 11])
    lost = SpeechFrame(STREAM, 0, b.start, np.zeros_like(b.pcm), lost=True)
    assert [e.lost for e in heard([a, lost, c])] == [True, True, True, False, False, False, False]
    ends = [e.start + len(e.pcm) for e in heard([a, lost, c])]
    assert ends == [10, 14, 18, 22, 26, 30, 30]
