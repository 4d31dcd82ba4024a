from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from callscope.config import Detect as DetectConfig
from processors.records import ActivityKind, AudioFrame, Pcm, SpeechFrame, VoiceActivity
from processors.stages.detect import Detect
from tests.signals import STREAM, cuts, hush, join, records, voice

FRAME = 320
SECOND = 16_000
DEFAULTS = DetectConfig()


class Scripted:
    """A detector that reads its decisions from the audio: a frame whose first sample is positive is voiced."""

    name = "scripted"
    hop = FRAME

    def __init__(self) -> None:
        self.resets = 0

    def probabilities(self, pcm: Pcm) -> NDArray[np.float64]:
        return (pcm[:: self.hop] > 0).astype(np.float64)

    def reset(self) -> None:
        self.resets += 1


def script(pattern: str, *, level: int = 1_000) -> Pcm:
    """`#`: a voiced frame, anything else: an unvoiced one. Samples tell frames apart."""
    frames = [
        np.full(FRAME, (level if mark == "#" else -level) + (i % 100 if mark == "#" else -(i % 100)), np.int16)
        for i, mark in enumerate(pattern)
    ]
    return np.concatenate(frames) if frames else np.zeros(0, np.int16)


Result = VoiceActivity | SpeechFrame


def run(stage: Detect, frames: Sequence[AudioFrame]) -> list[Result]:
    return [out for frame in frames for out in stage.step(frame)]


def scripted(pattern: str, config: DetectConfig = DEFAULTS) -> list[Result]:
    return run(Detect(STREAM, config, Scripted), records(script(pattern)))


def activity(results: Sequence[Result], *kinds: ActivityKind) -> list[VoiceActivity]:
    return [r for r in results if isinstance(r, VoiceActivity) and (not kinds or r.kind in kinds)]


def edges(results: Sequence[Result]) -> list[tuple[str, int, int]]:
    """Kind, start and duration in frames."""
    both = activity(results, ActivityKind.SPEECH_START, ActivityKind.SPEECH_END)
    return [(a.kind.name, a.start // FRAME, a.duration // FRAME) for a in both]


def segments(results: Sequence[Result]) -> dict[int, Pcm]:
    """Each segment's audio; checks that it is contiguous, starts at its id and ends once."""
    audio: dict[int, list[Pcm]] = {}
    ended: set[int] = set()
    for r in results:
        if isinstance(r, SpeechFrame):
            parts = audio.setdefault(r.segment, [])
            assert r.segment not in ended
            assert r.start == r.segment + sum(map(len, parts))
            parts.append(r.pcm)
            if r.last:
                ended.add(r.segment)
    assert ended == set(audio)
    return {segment: np.concatenate(parts) for segment, parts in audio.items()}


def spans(results: Sequence[Result]) -> list[tuple[int, int]]:
    """Where each segment starts and ends, in frames."""
    return [(segment // FRAME, (segment + len(pcm)) // FRAME) for segment, pcm in segments(results).items()]


# With the defaults: onset 3 frames, hang-over 12, pre-roll 10, pause 35, segment 1500.


def test_speech_starts_at_its_first_voiced_frame_and_ends_at_its_last() -> None:
    results = scripted("." * 20 + "#" * 30 + "." * 60)
    assert edges(results) == [("SPEECH_START", 20, 0), ("SPEECH_END", 20, 30)]
    assert spans(results) == [(10, 62)]  # with pre-roll and hang-over


def test_a_click_is_not_speech() -> None:
    results = scripted("....##....##....#" + "." * 20)
    assert edges(results) == []
    assert segments(results) == {}


def test_a_short_dip_does_not_end_speech() -> None:
    assert edges(scripted("#" * 10 + "." * 11 + "#" * 10 + "." * 40)) == [("SPEECH_START", 0, 0), ("SPEECH_END", 0, 31)]


def test_a_segment_goes_on_over_a_short_pause_with_all_its_audio() -> None:
    pattern = "." * 12 + "#" * 10 + "." * 34 + "#" * 10 + "." * 60
    results = scripted(pattern)
    assert len(edges(results)) == 4
    assert spans(results) == [(2, 78)]
    (pcm,) = segments(results).values()
    assert np.array_equal(pcm, script(pattern)[2 * FRAME : 78 * FRAME])


def test_a_long_pause_ends_the_segment_at_the_hang_over_and_is_not_in_it() -> None:
    results = scripted("." * 12 + "#" * 10 + "." * 35 + "#" * 10 + "." * 60)
    assert spans(results) == [(2, 34), (47, 79)]


def test_the_audio_of_a_pause_is_withheld_until_speech_resumes() -> None:
    stage = Detect(STREAM, DEFAULTS, Scripted)
    frames = records(script("#" * 10 + "." * 30 + "#" * 10), last=False)
    sent = [sum(len(r.pcm) for r in stage.step(f) if isinstance(r, SpeechFrame)) // FRAME for f in frames]
    assert sent[:22] == [0, 0, 3] + [1] * 19
    assert sent[22:42] == [0] * 20
    assert sent[42] == 21
    assert sent[43:] == [1] * 7


def test_pre_roll_does_not_reach_into_the_segment_before() -> None:
    config = DetectConfig(preroll_ms=1_000, max_pause_ms=300)
    assert spans(scripted("#" * 10 + "." * 20 + "#" * 10 + "." * 60, config)) == [(0, 22), (22, 52)]


def test_pre_roll_does_not_reach_before_the_stream() -> None:
    assert spans(scripted("..." + "#" * 10 + "." * 60)) == [(0, 25)]


def test_a_segment_that_is_too_long_is_cut_and_speech_goes_on_in_the_next() -> None:
    config = DetectConfig(max_segment_s=1)
    results = scripted("#" * 120 + "." * 60, config)
    assert spans(results) == [(0, 50), (50, 100), (100, 132)]
    assert edges(results) == [("SPEECH_START", 0, 0), ("SPEECH_END", 0, 120)]


def test_a_cut_in_the_hang_over_opens_no_segment_of_silence() -> None:
    config = DetectConfig(max_segment_s=1)
    assert spans(scripted("#" * 45 + "." * 60, config)) == [(0, 50)]
    assert spans(scripted("#" * 45 + "." * 9 + "#" * 5 + "." * 60, config)) == [(0, 50), (50, 71)]


def test_a_pause_that_would_make_a_segment_too_long_ends_it() -> None:
    config = DetectConfig(max_segment_s=1)
    assert spans(scripted("#" * 20 + "." * 30 + "#" * 20 + "." * 60, config)) == [(0, 32), (40, 82)]


def test_the_end_of_the_stream_ends_what_is_open() -> None:
    results = scripted("." * 3 + "#" * 10)
    assert edges(results) == [("SPEECH_START", 3, 0), ("SPEECH_END", 3, 10)]
    assert spans(results) == [(0, 13)]


def test_an_empty_last_record_ends_the_stream_too() -> None:
    stage = Detect(STREAM, DEFAULTS, Scripted)
    results = run(stage, records(script("#" * 10), last=False))
    results += stage.step(AudioFrame(STREAM, 10, 10 * FRAME, np.zeros(0, np.int16), last=True))
    assert spans(results) == [(0, 10)]
    assert stage.flush() == []


def test_levels_come_on_multiples_of_the_interval() -> None:
    results = scripted("." * 10 + "#" * 12)
    levels = activity(results, ActivityKind.LEVEL)
    assert [a.start for a in levels] == [0, 1_600, 3_200, 4_800, 6_400]
    assert [a.duration for a in levels] == [1_600] * 4 + [640]
    assert [a.probability for a in levels] == [0, 0, 1, 1, 1]
    assert [a.speaking for a in levels] == [False, False, True, True, True]
    assert [a.segment for a in levels] == [None, None, 0, 0, 0]


def test_levels_of_a_stream_that_is_joined_late_are_aligned_as_well() -> None:
    results = run(Detect(STREAM, DEFAULTS, Scripted), records(script("." * 12), start=3 * FRAME))
    assert [a.start // FRAME for a in activity(results)] == [3, 5, 10]


@pytest.mark.parametrize(("sample", "dbfs"), [(32_767, 0.0), (3_277, -20.0), (0, -100.0)])
def test_a_level_is_the_root_mean_square_re_full_scale(sample: int, dbfs: float) -> None:
    results = run(Detect(STREAM, DEFAULTS), records(np.full(1_600, sample, np.int16), last=False))
    (level,) = activity(results, ActivityKind.LEVEL)
    assert level.level_dbfs == pytest.approx(dbfs, abs=0.001)


def test_a_hole_ends_speech_and_segment_there_and_resets_the_detector() -> None:
    detector = Scripted()
    stage = Detect(STREAM, DEFAULTS, lambda: detector)
    results = run(stage, records(script("#" * 10), last=False))
    results += stage.step(AudioFrame(STREAM, 10, 15 * FRAME, script("##"), gap_before=5 * FRAME))
    assert edges(results) == [("SPEECH_START", 0, 0), ("SPEECH_END", 0, 10)]
    assert spans(results) == [(0, 10)]
    assert detector.resets == 1
    # Two voiced frames after the hole are no start, though three before it were one.
    assert edges(stage.step(AudioFrame(STREAM, 11, 17 * FRAME, script("." * 10)))) == []


def test_speech_that_starts_after_a_hole_has_no_audio_from_before_it() -> None:
    stage = Detect(STREAM, DEFAULTS, Scripted)
    results = run(stage, records(script("." * 30), last=False))
    results += stage.step(AudioFrame(STREAM, 30, 100 * FRAME, script("." * 4 + "#" * 5), last=True))
    assert spans(results) == [(100, 109)]


def test_levels_do_not_span_a_hole() -> None:
    stage = Detect(STREAM, DEFAULTS, Scripted)
    results = stage.step(AudioFrame(STREAM, 0, 0, script("..")))
    results += stage.step(AudioFrame(STREAM, 1, 3 * FRAME, script("...."), gap_before=FRAME))
    assert [(a.start // FRAME, a.duration // FRAME) for a in activity(results)] == [(0, 2), (3, 2)]


def test_audio_that_was_heard_is_skipped() -> None:
    frames = records(script("." * 12 + "#" * 10 + "." * 60), [10, 20, 30])
    stage, again = Detect(STREAM, DEFAULTS, Scripted), Detect(STREAM, DEFAULTS, Scripted)
    once = run(stage, frames)
    twice = run(again, [frames[0], frames[0], frames[1], frames[0], frames[1], *frames[2:]])
    assert_same(once, twice)


def test_an_overlap_is_heard_once() -> None:
    pcm = script("." * 12 + "#" * 10 + "." * 60)
    overlapping = [
        AudioFrame(STREAM, 0, 0, pcm[: 20 * FRAME]),
        AudioFrame(STREAM, 1, 15 * FRAME, pcm[15 * FRAME :], last=True),
    ]
    assert_same(run(Detect(STREAM, DEFAULTS, Scripted), overlapping), scripted("." * 12 + "#" * 10 + "." * 60))


def test_tells_from_where_it_could_be_rebuilt() -> None:
    assert Detect(STREAM, DEFAULTS, Scripted).needs_from is None
    stage = Detect(STREAM, DEFAULTS, Scripted)
    run(stage, records(script("." * 100), last=False))
    assert stage.needs_from == 87 * FRAME  # pre-roll and onset
    run(stage, records(script("#" * 10), start=100 * FRAME, last=False))
    assert stage.needs_from == 90 * FRAME  # the segment


def assert_same(one: Sequence[Result], other: Sequence[Result]) -> None:
    assert activity(one) == activity(other)
    a, b = segments(one), segments(other)
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[k], b[k]) for k in a)


runs = st.lists(st.tuples(st.sampled_from("#."), st.integers(1, 60)), max_size=12)
patterns = runs.map(lambda parts: "".join(mark * n for mark, n in parts))
configs = st.builds(
    DetectConfig,
    onset_ms=st.integers(20, 200),
    hangover_ms=st.integers(20, 400),
    preroll_ms=st.integers(0, 400),
    max_pause_ms=st.integers(100, 1_000),
    max_segment_s=st.floats(1, 5),
    level_interval_ms=st.integers(20, 300),
)


@given(st.data(), patterns, configs)
def test_how_the_audio_is_grouped_leaves_no_trace(data: st.DataObject, pattern: str, config: DetectConfig) -> None:
    pcm = script(pattern)
    grouped = records(pcm, data.draw(cuts(len(pattern))))
    assert_same(
        run(Detect(STREAM, config, Scripted), grouped),
        run(Detect(STREAM, config, Scripted), records(pcm)),
    )


@given(patterns, configs)
def test_segments_hold_the_speech_and_only_short_pauses(pattern: str, config: DetectConfig) -> None:
    pcm = script(pattern)
    results = run(Detect(STREAM, config, Scripted), records(pcm))
    found = spans(results)
    assert all(end <= start for (_, end), (start, _) in pairwise(found))
    for start, audio in segments(results).items():
        assert np.array_equal(audio, pcm[start : start + len(audio)])
        assert len(audio) <= -(-config.max_segment_s * SECOND // FRAME) * FRAME
    edge_kinds = [kind for kind, _, _ in edges(results)]
    assert edge_kinds == ["SPEECH_START", "SPEECH_END"] * (len(edge_kinds) // 2)
    covered = {frame for start, end in found for frame in range(start, end)}
    for kind, start, duration in edges(results):
        if kind == "SPEECH_END":
            voiced = {f for f in range(start, start + duration) if pattern[f] == "#"}
            assert voiced <= covered
    bound = max(config.max_pause_ms, config.hangover_ms) / 20 + 1
    for start, end in found:
        silences = pattern[start:end].strip(".").split("#")
        assert max(map(len, silences)) <= bound + config.onset_ms / 20


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_the_same_holds_for_a_voice_and_the_real_detector(data: st.DataObject) -> None:
    pcm = join(hush(0.4), voice(0.8), hush(0.3), voice(0.4, seed=1, f0_hz=210), hush(1.0), voice(0.5, seed=2))
    grouped = records(pcm, data.draw(cuts(len(pcm) // FRAME)))
    one, other = run(Detect(STREAM, DEFAULTS), grouped), run(Detect(STREAM, DEFAULTS), records(pcm))
    assert_same(one, other)
    assert len(segments(one)) == 2


def test_judging_apart_is_the_same_as_a_step() -> None:
    """What a detector that judges many streams in one batch will do."""
    pcm = script("." * 12 + "#" * 10 + "." * 60)
    stage = Detect(STREAM, DEFAULTS, Scripted)
    results: list[Result] = []
    for frame in records(pcm):
        fresh = stage.admit(frame)
        results += stage.decide(Scripted().probabilities(fresh), fresh, last=frame.last)
    assert_same(results, scripted("." * 12 + "#" * 10 + "." * 60))
