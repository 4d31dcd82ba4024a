from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from callscope.config import Detect as DetectConfig
from callscope.config import DetectorName
from callscope.streams import StreamId
from processors.records import ActivityKind, AudioFrame, Pcm, SpeechFrame, VoiceActivity
from processors.stages.detect import Detect
from processors.stages.detectors import Birth
from tests.signals import STREAM, cuts, demo_leg, hush, join, records

FRAME = 320
SECOND = 16_000
DEFAULTS = DetectConfig()


class Scripted:
    """A detector that reads its decisions from the audio: the sign of a frame's last sample, and small is doubtful."""

    name = "scripted"
    hop = FRAME

    def __init__(self) -> None:
        self.resets = 0

    def probabilities(self, pcm: Pcm) -> NDArray[np.float64]:
        last = pcm[self.hop - 1 :: self.hop]
        return np.where(last > 10, 1.0, np.where(last > 0, 0.4, 0.0))

    def reset(self) -> None:
        self.resets += 1

    def birth(self) -> Birth:
        return Birth(0)

    def begin(self, birth: Birth, before: Pcm) -> None:
        pass


def script(pattern: str, *, level: int = 1_000) -> Pcm:
    """`#`: a voiced frame, `?`: a doubtful one, anything else: a silent one. Samples tell most frames apart."""
    values = {"#": lambda i: level + i % 100, "?": lambda i: 1 + i % 10}
    frames = [
        np.full(FRAME, values.get(mark, lambda i: -level - i % 100)(i), np.int16) for i, mark in enumerate(pattern)
    ]
    return np.concatenate(frames) if frames else np.zeros(0, np.int16)


def heard(pattern: str, *, start: int = 0, last: bool = True) -> list[AudioFrame]:
    """The script as records of a frame each; where the pattern has `_`, the frame did not come."""
    out: list[AudioFrame] = []
    gap = 0
    pcm = script(pattern)
    for i, mark in enumerate(pattern):
        if mark == "_":
            gap += FRAME
            continue
        at = i * FRAME
        out.append(AudioFrame(STREAM, len(out), start + at, pcm[at : at + FRAME], gap_before=gap))
        gap = 0
    return [*out, AudioFrame(STREAM, len(out), start + len(pcm) - gap, pcm[:0], last=True)] if last else out


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


# With the defaults: onset 3 frames, silence 8, hang-over 12, pre-roll 10, pause 35, segment 1500, hole 10.


def test_speech_starts_at_its_first_voiced_frame_and_ends_at_its_last() -> None:
    results = scripted("." * 20 + "#" * 30 + "." * 60)
    assert edges(results) == [("SPEECH_START", 20, 0), ("SPEECH_END", 20, 30)]
    assert spans(results) == [(10, 62)]  # with pre-roll and hang-over


def test_a_click_is_not_speech() -> None:
    results = scripted("....##....##....#" + "." * 20)
    assert edges(results) == []
    assert segments(results) == {}


def test_a_short_dip_does_not_end_speech() -> None:
    assert edges(scripted("#" * 10 + "." * 7 + "#" * 10 + "." * 40)) == [("SPEECH_START", 0, 0), ("SPEECH_END", 0, 27)]


def test_what_is_doubtful_neither_starts_speech_nor_ends_it_nor_belongs_to_its_end() -> None:
    assert edges(scripted("?" * 50)) == []
    assert edges(scripted("##?##?##?")) == []
    pattern = "#" * 10 + "." * 7 + "?" + "." * 7 + "#" * 5 + "?" * 3 + "." * 40
    assert edges(scripted(pattern)) == [("SPEECH_START", 0, 0), ("SPEECH_END", 0, 30)]


def test_doubt_does_not_keep_speech_open_longer_than_a_pause() -> None:
    stage = Detect(STREAM, DEFAULTS, Scripted)
    results = run(stage, heard("#" * 10 + "?" * 200, last=False))
    assert edges(results) == [("SPEECH_START", 0, 0), ("SPEECH_END", 0, 10)]
    assert spans(results) == [(0, 22)]
    assert stage.needs_from == 197 * FRAME


def test_speech_may_end_before_its_segment_has_the_hang_over_and_after_it() -> None:
    pattern = "#" * 10 + "." * 60
    early = DetectConfig(min_silence_ms=60, hangover_ms=300)
    late = DetectConfig(min_silence_ms=300, hangover_ms=60)
    assert edges(scripted(pattern, early)) == edges(scripted(pattern, late))
    assert spans(scripted(pattern, early)) == [(0, 25)]
    assert spans(scripted(pattern, late)) == [(0, 13)]
    assert spans(scripted("#" * 10 + "." * 14 + "#" * 5 + "." * 60, late)) == [(0, 32)]


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
    results = run(Detect(STREAM, DEFAULTS, Scripted), records(np.full(1_600, sample, np.int16), last=False))
    (level,) = activity(results, ActivityKind.LEVEL)
    assert level.level_dbfs == pytest.approx(dbfs, abs=0.001)


def test_a_long_hole_ends_speech_and_segment_there_and_resets_the_detector() -> None:
    detector = Scripted()
    stage = Detect(STREAM, DEFAULTS, lambda: detector)
    results = run(stage, heard("#" * 10 + "_" * 11 + "##" + "." * 10, last=False))
    assert edges(results) == [("SPEECH_START", 0, 0), ("SPEECH_END", 0, 10)]  # two frames after it are no start
    assert spans(results) == [(0, 10)]
    assert detector.resets == 1


def test_a_short_hole_neither_ends_speech_nor_starts_it_again() -> None:
    detector = Scripted()
    results = run(Detect(STREAM, DEFAULTS, lambda: detector), heard("#" * 10 + "_" * 10 + "#" * 10 + "." * 60))
    assert edges(results) == [("SPEECH_START", 0, 0), ("SPEECH_END", 0, 30)]
    assert spans(results) == [(0, 42)]
    assert detector.resets == 1  # at the end


def test_a_hole_is_no_silence() -> None:
    pattern = "#" * 10 + "." * 5 + "_" * 9 + "." * 2 + "#" * 3 + "." * 60
    assert edges(run(Detect(STREAM, DEFAULTS, Scripted), heard(pattern))) == [
        ("SPEECH_START", 0, 0),
        ("SPEECH_END", 0, 29),
    ]


def test_voice_before_a_hole_does_not_help_to_start_speech_after_it() -> None:
    assert edges(run(Detect(STREAM, DEFAULTS, Scripted), heard("." * 5 + "##_##_##" + "." * 20))) == []


def test_audio_that_stands_in_for_lost_audio_is_silence_and_says_so() -> None:
    results = run(Detect(STREAM, DEFAULTS, Scripted), heard("." * 8 + "_." + "#" * 10 + "__" + "#" * 10 + "." * 60))
    parts = [r for r in results if isinstance(r, SpeechFrame)]
    lost = {at // FRAME for r in parts if r.lost for at in range(r.start, r.start + len(r.pcm), FRAME)}
    assert lost == {8, 20, 21}
    assert all(r.lost == (not r.pcm.any()) for r in parts if len(r.pcm))
    assert spans(results) == [(0, 44)]


def test_less_than_a_hop_at_the_end_of_speech_is_in_the_segment() -> None:
    class Longer(Scripted):
        hop = 512

    results = run(Detect(STREAM, DEFAULTS, Longer), heard("#" * 11))
    assert edges(results) == [("SPEECH_START", 0, 0), ("SPEECH_END", 0, 9)]  # six hops of 32 ms
    assert spans(results) == [(0, 11)]


def test_speech_that_starts_after_a_hole_has_no_audio_from_before_it() -> None:
    stage = Detect(STREAM, DEFAULTS, Scripted)
    results = run(stage, records(script("." * 30), last=False))
    results += stage.step(AudioFrame(STREAM, 30, 100 * FRAME, script("." * 4 + "#" * 5), last=True))
    assert spans(results) == [(100, 109)]


def test_levels_do_not_span_a_long_hole() -> None:
    results = run(Detect(STREAM, DEFAULTS, Scripted), heard(".." + "_" * 11 + "....", last=False))
    assert [(a.start // FRAME, a.duration // FRAME) for a in activity(results)] == [(0, 2), (13, 2)]


def test_levels_are_of_what_was_heard() -> None:
    whole = run(Detect(STREAM, DEFAULTS, Scripted), heard("." * 15, last=False))
    holed = run(Detect(STREAM, DEFAULTS, Scripted), heard("._..." + "_" * 5 + "." * 5, last=False))
    levels = [(a.start // FRAME, a.duration // FRAME) for a in activity(holed)]
    assert levels == [(0, 5), (10, 5)]  # nothing was heard of the second interval
    assert activity(holed)[0].level_dbfs == pytest.approx(activity(whole)[0].level_dbfs, abs=0.01)


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


runs = st.lists(st.tuples(st.sampled_from("#.?"), st.integers(1, 60)), max_size=12)
patterns = runs.map(lambda parts: "".join(mark * n for mark, n in parts))
with_holes = st.lists(st.tuples(st.sampled_from("##..?_"), st.integers(1, 40)), max_size=16).map(
    lambda parts: "".join(mark * n for mark, n in parts)
)
configs = st.builds(
    DetectConfig,
    onset_ms=st.integers(20, 200),
    min_silence_ms=st.integers(20, 400),
    hangover_ms=st.integers(0, 400),
    preroll_ms=st.integers(0, 400),
    max_pause_ms=st.integers(100, 1_000),
    max_segment_s=st.floats(1, 5),
    max_gap_ms=st.integers(0, 400),
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
        silences = pattern[start:end].strip(".?").split("#")
        assert max(map(len, silences)) <= bound + config.onset_ms / 20


def assert_edges_are_founded(pattern: str, config: DetectConfig, results: Sequence[Result]) -> None:
    """Every start has its voiced frames, heard in a row; every end its silence, a pause or a long hole behind it."""
    onset, silence, pause, gap = (
        -(-ms // 20) for ms in (config.onset_ms, config.min_silence_ms, config.max_pause_ms, config.max_gap_ms + 1)
    )
    open_since: int | None = None
    for kind, start, duration in edges(results):
        if kind == "SPEECH_START":
            assert open_since is None
            assert pattern[start : start + onset] == "#" * onset
            open_since = start
        else:
            assert start == open_since
            assert pattern[start + duration - 1] == "#"
            after = re.split(f"#|_{{{gap},}}|$", pattern[start + duration :], maxsplit=1)[0]
            is_broken_off = not pattern[start + duration + len(after) :].startswith("#")
            assert is_broken_off or after.count(".") >= silence or len(after) >= pause
            open_since = None
    assert open_since is None


@settings(max_examples=300)
@given(with_holes, configs)
def test_a_hole_never_makes_a_false_start_or_end(pattern: str, config: DetectConfig) -> None:
    assert_edges_are_founded(pattern, config, run(Detect(STREAM, config, Scripted), heard(pattern)))


@given(st.lists(st.tuples(st.integers(8, 40), st.integers(1, 10)), max_size=12), st.sampled_from("#."))
def test_short_holes_change_no_edge_of_what_goes_on(holes: list[tuple[int, int]], mark: str) -> None:
    pattern = mark * 5 + "".join("_" * gap + mark * n for n, gap in holes)
    expected = [("SPEECH_START", 0, 0), ("SPEECH_END", 0, len(pattern))] if mark == "#" else []
    results = run(Detect(STREAM, DEFAULTS, Scripted), heard(pattern))
    assert edges(results) == expected
    assert len(segments(results)) == (-(-len(pattern) // 1_500) if mark == "#" else 0)


@given(with_holes, configs)
def test_lost_audio_is_marked_and_nothing_else_is(pattern: str, config: DetectConfig) -> None:
    pcm = script(pattern)
    for r in run(Detect(STREAM, config, Scripted), heard(pattern)):
        if isinstance(r, SpeechFrame):
            marks = pattern[r.start // FRAME : (r.start + len(r.pcm)) // FRAME]
            assert set(marks) <= ({"_"} if r.lost else set("#.?"))
            expected = np.zeros(len(r.pcm), np.int16) if r.lost else pcm[r.start : r.start + len(r.pcm)]
            assert np.array_equal(r.pcm, expected)


@given(st.data(), with_holes, configs)
def test_how_audio_with_holes_is_grouped_leaves_no_trace(
    data: st.DataObject, pattern: str, config: DetectConfig
) -> None:
    frames = heard(pattern)
    grouped: list[AudioFrame] = []
    for frame in frames:
        before = grouped[-1] if grouped else None
        if before is not None and not frame.gap_before and not frame.last and data.draw(st.booleans()):
            grouped[-1] = replace(before, pcm=np.concatenate((before.pcm, frame.pcm)))
        else:
            grouped.append(frame)
    assert_same(
        run(Detect(STREAM, config, Scripted), grouped),
        run(Detect(STREAM, config, Scripted), frames),
    )


@settings(max_examples=8)
@pytest.mark.parametrize("detector", ["silero", "webrtc", "energy"])
@given(data=st.data())
def test_the_same_holds_for_a_voice_and_a_real_detector(detector: DetectorName, data: st.DataObject) -> None:
    config = DetectConfig(detector=detector)
    pcm = join(demo_leg(1)[: 3 * SECOND], hush(1.0), demo_leg(1)[4 * SECOND : 5 * SECOND])
    grouped = records(pcm, data.draw(cuts(len(pcm) // FRAME)))
    one, other = run(Detect(STREAM, config), grouped), run(Detect(STREAM, config), records(pcm))
    assert_same(one, other)
    assert {a.detector for a in activity(one)} == {detector}
    assert len(segments(one)) == 2


def test_a_leg_may_have_another_detector() -> None:
    config = DetectConfig(leg_detectors={"agent": "energy"})
    assert Detect(StreamId("call-1", "agent"), config).detector.name == "energy"
    assert Detect(StreamId("call-1", "customer"), config).detector.name == "silero"


def test_judging_apart_is_the_same_as_a_step() -> None:
    """What a detector that judges many streams in one batch will do."""
    pcm = script("." * 12 + "#" * 10 + "." * 60)
    stage = Detect(STREAM, DEFAULTS, Scripted)
    results: list[Result] = []
    for frame in records(pcm):
        fresh = stage.admit(frame)
        results += stage.decide(Scripted().probabilities(fresh), fresh, last=frame.last)
    assert_same(results, scripted("." * 12 + "#" * 10 + "." * 60))
