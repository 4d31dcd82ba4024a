from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callscope.config import Extract as ExtractConfig
from callscope.feature_sets import EGEMAPS_FUNCTIONALS
from processors.records import FeatureWindow, Pcm, SpeechFrame, StreamStatistics, WindowKind
from processors.stages.extract import Extract
from processors.stages.opensmile_engine import OpenSmilePool
from tests.processors.reference import Floats, Window, assert_same_functionals, batch, functionals_of
from tests.signals import STREAM, cuts, hush, join, records, voice

FRAME, ROW = 320, 160
DEFAULTS = ExtractConfig()
POOL = OpenSmilePool()


class Means:
    """The one functional of `Delayed`, of any rows."""

    def __init__(self) -> None:
        self._rows: list[float] = []

    def append(self, rows: Floats) -> None:
        self._rows += rows[:, 0].tolist()

    def of(self, first: int, end: int) -> Floats:
        return np.array([np.mean(self._rows[first:end])], np.float32)


class Delayed:
    """An engine whose row k holds the mean of its 10 ms of audio, known `delays[k]` rows late at the least."""

    feature_set = "means"
    lld_names = (
        "Loudness_sma3",
        "F0semitoneFrom27.5Hz_sma3nz",
        "alphaRatio_sma3",
        "hammarbergIndex_sma3",
        "jitterLocal_sma3nz",
        "shimmerLocaldB_sma3nz",
        "HNRdBACF_sma3nz",
    )
    functional_names = ("mean",)

    def __init__(self, delays: Sequence[int] = (3,)) -> None:
        self._delays = delays
        self.delay = min(delays) * ROW
        self._pcm: Pcm = np.zeros(0, np.int16)
        self._known = 0
        self.closed = False

    def window_functionals(self, keep: int) -> Means:
        return Means()

    def feed(self, pcm: Pcm) -> Floats:
        self._pcm = np.concatenate((self._pcm, pcm))
        heard = known = self._known
        while heard + self._delays[heard % len(self._delays)] < len(self._pcm) // ROW:
            heard += 1
        self._known = heard
        return self._rows(known, heard)

    def finish(self) -> tuple[Floats, Floats]:
        rest = self._rows(self._known, len(self._pcm) // ROW)
        return rest, np.array([self._pcm.mean()] if len(self._pcm) else [np.nan], np.float32)

    def close(self) -> None:
        self.closed = True

    def _rows(self, first: int, end: int) -> Floats:
        means = self._pcm[first * ROW : end * ROW].reshape(-1, ROW).mean(axis=1).astype(np.float32)
        return np.repeat(means[:, None], 8, axis=1)


def speech(pcm: Pcm, grouping: list[int] | None = None, *, start: int = 4_800) -> list[SpeechFrame]:
    """One segment's audio, then its end as `detect` tells it."""
    frames = [SpeechFrame(STREAM, start, r.start, r.pcm) for r in records(pcm, grouping, start=start)]
    return [*frames, SpeechFrame(STREAM, start, start + len(pcm), pcm[:0], last=True)]


def run(stage: Extract, frames: Sequence[SpeechFrame]) -> list[FeatureWindow]:
    return [window for frame in frames for window in stage.step(frame)]


def ramp(frames: int) -> Pcm:
    return np.repeat(np.arange(1, 2 * frames + 1, dtype=np.int16), ROW)


def comparable(window: FeatureWindow) -> tuple[object, ...]:
    plain = replace(window, lld=np.zeros(0, np.float32), functionals=np.zeros(0, np.float32))
    fields = (getattr(plain, name) for name in plain.__slots__ if name not in ("lld", "functionals"))
    return (*fields, window.lld.shape, window.lld.tobytes(), window.functionals.tobytes())


def test_windows_come_every_hop_from_the_first_length_on() -> None:
    *windows, utterance = run(Extract(STREAM, DEFAULTS, Delayed), speech(ramp(100)))
    assert [(w.start, w.duration // 16) for w in windows] == [(4_800, ms) for ms in range(500, 2_000, 100)]
    assert {w.kind for w in windows} == {WindowKind.WINDOW}
    assert utterance.kind is WindowKind.UTTERANCE
    assert (utterance.start, utterance.duration, utterance.lookahead) == (4_800, 32_000, 0)
    assert utterance.functionals.tolist() == [100.5]


def test_a_window_spans_the_last_seconds_of_a_longer_segment() -> None:
    config = ExtractConfig(window_s=1, hop_ms=200, first_window_ms=100)
    *windows, _ = run(Extract(STREAM, config, Delayed), speech(ramp(100)))
    ends = [(w.start + w.duration - 4_800) // 16 for w in windows]
    assert ends == list(range(200, 2_000, 200))
    assert [w.duration // 16 for w in windows] == [min(1_000, end) for end in ends]
    late = windows[-1]
    first_row, end_row = ends[-1] // 10 - 100, ends[-1] // 10
    assert late.summary.loudness_mean == late.functionals[0] == pytest.approx((first_row + 1 + end_row) / 2)


def test_a_record_depends_on_audio_up_to_its_end_and_look_ahead() -> None:
    stage = Extract(STREAM, DEFAULTS, lambda: Delayed([7]))
    for frame in speech(ramp(100))[:-1]:
        for window in stage.step(frame):
            assert window.start + window.duration + window.lookahead == frame.start + len(frame.pcm)
            assert window.lookahead in (7 * ROW, 8 * ROW)


def test_each_row_is_in_one_record() -> None:
    windows = run(Extract(STREAM, DEFAULTS, lambda: Delayed([2, 9, 4])), speech(ramp(99)))
    assert [w.lld_first for w in windows] == [0, *np.cumsum([len(w.lld) for w in windows])[:-1].tolist()]
    assert np.concatenate([w.lld for w in windows])[:, 0].tolist() == list(range(1, 199))


@given(st.data(), st.integers(0, 80), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_how_speech_was_grouped_leaves_no_trace(data: st.DataObject, frames: int, delays: list[int]) -> None:
    config = ExtractConfig(
        window_s=data.draw(st.floats(0.1, 2)),
        hop_ms=data.draw(st.integers(20, 300)),
        first_window_ms=data.draw(st.integers(100, 700)),
    )
    pcm = ramp(frames)
    one = run(Extract(STREAM, config, lambda: Delayed(delays)), speech(pcm))
    other = run(Extract(STREAM, config, lambda: Delayed(delays)), speech(pcm, data.draw(cuts(frames))))
    assert [comparable(w) for w in one] == [comparable(w) for w in other]


def test_ragged_speech_gives_the_same() -> None:
    pcm = ramp(40)
    portions = [SpeechFrame(STREAM, 0, at, pcm[at : at + 123]) for at in range(0, len(pcm), 123)]
    portions.append(SpeechFrame(STREAM, 0, len(pcm), pcm[:0], last=True))
    one, other = (run(Extract(STREAM, DEFAULTS, Delayed), frames) for frames in (portions, speech(pcm, start=0)))
    assert [comparable(w) for w in one] == [comparable(w) for w in other]


def test_a_segment_too_short_for_the_engine_is_an_utterance_without_functionals() -> None:
    (utterance,) = run(Extract(STREAM, DEFAULTS, POOL), speech(join(voice(0.04))))
    assert utterance.kind is WindowKind.UTTERANCE
    assert utterance.lld.shape == (0, 25)
    assert utterance.functionals.shape == (0,)
    assert (utterance.summary.voiced_share, utterance.summary.f0_mean, utterance.summary.speech_rate_hz) == (
        0,
        None,
        None,
    )
    assert utterance.summary.level_dbfs is not None and -40 < utterance.summary.level_dbfs < -5


def test_functionals_that_are_no_numbers_are_left_out() -> None:
    (utterance,) = run(Extract(STREAM, DEFAULTS, Delayed), speech(ramp(0)))
    assert utterance.functionals.shape == (0,)


def test_audio_seen_before_is_skipped() -> None:
    frames = speech(ramp(60))
    stage = Extract(STREAM, DEFAULTS, Delayed)
    twice = run(stage, [f for frame in frames for f in (frames[0], frame, frame)])
    assert [comparable(w) for w in twice] == [comparable(w) for w in run(Extract(STREAM, DEFAULTS, Delayed), frames)]


def test_a_segment_whose_beginning_was_not_seen_has_no_features() -> None:
    stage = Extract(STREAM, DEFAULTS, Delayed)
    assert run(stage, speech(ramp(60))[5:]) == []
    assert run(stage, speech(ramp(60), start=64_000)) != []


def test_a_segment_with_a_hole_is_given_up() -> None:
    engines: list[Delayed] = []

    def build() -> Delayed:
        engines.append(Delayed())
        return engines[-1]

    stage = Extract(STREAM, DEFAULTS, build)
    frames = speech(ramp(60))
    assert run(stage, frames[:10] + frames[20:]) == []
    assert engines[0].closed
    assert len(run(stage, speech(ramp(60), start=64_000))) == 8


def test_the_next_segment_ends_one_whose_end_was_not_seen() -> None:
    stage = Extract(STREAM, DEFAULTS, Delayed)
    run(stage, speech(ramp(60))[:-1])
    (utterance,) = stage.step(speech(ramp(60), start=64_000)[0])
    assert (utterance.segment, utterance.duration) == (4_800, 60 * FRAME)


def test_flush_ends_an_open_segment() -> None:
    stage = Extract(STREAM, DEFAULTS, Delayed)
    run(stage, speech(ramp(10))[:-1])
    assert [w.kind for w in stage.flush()] == [WindowKind.UTTERANCE]
    assert stage.flush() == []


def test_functionals_may_be_rarer_than_windows() -> None:
    for every, expected in ((1, [1] * 6), (3, [1, 0, 0, 1, 0, 0]), (0, [0] * 6)):
        config = ExtractConfig(functionals_every=every)
        *windows, utterance = run(Extract(STREAM, config, Delayed), speech(ramp(55)))
        assert [len(window.functionals) for window in windows] == expected
        assert len(utterance.functionals) == 1


def test_what_was_lost_lowers_the_coverage_of_windows_over_it() -> None:
    frames = speech(np.concatenate((ramp(50), np.zeros(20 * FRAME, np.int16), ramp(150))))
    for i in range(50, 70):
        frames[i] = replace(frames[i], lost=True)
    config = ExtractConfig(window_s=2)
    *windows, utterance = run(Extract(STREAM, config, Delayed), frames)
    for window in windows:
        first, end = window.start - 4_800, window.start - 4_800 + window.duration
        lost = max(0, min(end, 70 * FRAME) - max(first, 50 * FRAME))
        assert window.coverage == pytest.approx(1 - lost / window.duration)
    assert {round(window.coverage, 2) for window in windows} >= {1.0, 0.8}
    assert utterance.coverage == pytest.approx(1 - 20 / 220)


def test_a_level_is_that_of_the_audio_that_was_heard() -> None:
    loud = np.tile(np.array([8_192, -8_192], np.int16), 50 * FRAME // 2)
    frames = speech(np.concatenate((loud, 0 * loud)))
    *_, utterance = run(Extract(STREAM, DEFAULTS, Delayed), frames)
    assert utterance.summary.level_dbfs == pytest.approx(20 * np.log10(0.25 / np.sqrt(2)))
    for i in range(50, 100):
        frames[i] = replace(frames[i], lost=True)
    *windows, utterance = run(Extract(STREAM, DEFAULTS, Delayed), frames)
    assert [w.summary.level_dbfs for w in (*windows, utterance)] == pytest.approx([20 * np.log10(0.25)] * 16)


def test_statistics_are_those_of_the_finished_segments() -> None:
    stage = Extract(STREAM, DEFAULTS, POOL)
    utterances = [run(stage, speech(join(voice(1.5, seed=seed)), start=seed * 64_000))[-1] for seed in range(1, 4)]
    alone = [
        run(Extract(STREAM, DEFAULTS, POOL), speech(join(voice(1.5, seed=seed)), start=seed * 64_000))[-1]
        for seed in range(1, 4)
    ]
    merged = StreamStatistics()
    for number, (utterance, one) in enumerate(zip(utterances, alone, strict=True), 1):
        assert utterance.statistics is not None and one.statistics is not None
        for name in ("f0", "loudness", "level_dbfs", "speech_rate_hz"):
            expected = getattr(merged, name).merge(getattr(one.statistics, name))
            assert getattr(utterance.statistics, name) == expected
        assert utterance.statistics.segments == number
        merged = utterance.statistics
    assert merged.f0.mean[0] == pytest.approx(
        np.average(
            [u.summary.f0_mean or 0 for u in utterances],
            weights=[u.statistics.f0.weight_s for u in alone if u.statistics],
        )
    )


def test_statistics_can_be_rebuilt_from_the_utterances_that_were_sent() -> None:
    first, second = (speech(join(voice(1.0, seed=seed)), start=seed * 64_000) for seed in (1, 2))
    stage = Extract(STREAM, DEFAULTS, POOL)
    before, expected = run(stage, first)[-1], run(stage, second)[-1]
    again = Extract(STREAM, DEFAULTS, POOL)
    again.learn(before)
    again.learn(expected)
    assert comparable(run(again, second)[-1]) == comparable(expected)


UTTERANCE = join(hush(0.2), voice(1.5), hush(0.4), voice(0.8, seed=2, f0_hz=210), hush(0.24))


@settings(max_examples=10)
@given(st.data())
def test_the_same_holds_for_opensmile(data: st.DataObject) -> None:
    grouping = data.draw(cuts(len(UTTERANCE) // FRAME))
    one = run(Extract(STREAM, DEFAULTS, POOL), speech(UTTERANCE))
    other = run(Extract(STREAM, DEFAULTS, POOL), speech(UTTERANCE, grouping))
    assert [comparable(w) for w in one] == [comparable(w) for w in other]


def test_the_pitch_of_a_voice_is_found() -> None:
    *windows, utterance = run(Extract(STREAM, DEFAULTS, POOL), speech(UTTERANCE))
    assert {window.functionals.shape for window in (*windows, utterance)} == {(88,)}
    assert utterance.summary.f0_mean is not None
    assert 12 * np.log2(120 / 27.5) < utterance.summary.f0_mean < 12 * np.log2(210 / 27.5)
    assert 0.5 < utterance.summary.voiced_share < 1


def test_a_window_says_the_same_in_its_summary_and_its_functionals() -> None:
    at = {
        name: EGEMAPS_FUNCTIONALS.index(f"{name}_amean")
        for name in (
            "F0semitoneFrom27.5Hz_sma3nz",
            "loudness_sma3",
            "jitterLocal_sma3nz",
            "shimmerLocaldB_sma3nz",
            "HNRdBACF_sma3nz",
        )
    }
    *windows, _ = run(Extract(STREAM, ExtractConfig(window_s=1), POOL), speech(UTTERANCE))
    for window in windows:
        means = [float(window.functionals[position]) for position in at.values()]
        summary = window.summary
        shown = [
            summary.f0_mean,
            summary.loudness_mean,
            summary.jitter_mean,
            summary.shimmer_db_mean,
            summary.hnr_db_mean,
        ]
        assert [value or 0.0 for value in shown] == pytest.approx(means, rel=1e-5)


def test_windows_come_as_soon_as_their_rows_are_known() -> None:
    """Waking the engine less often must not delay a window: as quick as with every frame fed at once."""
    every_frame: dict[int, int] = {}
    engine, rows, due = POOL(), 0, 50
    for at in range(0, len(UTTERANCE), FRAME):
        rows += len(engine.feed(UTTERANCE[at : at + FRAME]))
        while rows >= due:
            every_frame[due * ROW] = at + FRAME - due * ROW
            due += 10
    engine.close()
    *windows, _ = run(Extract(STREAM, ExtractConfig(window_s=60), POOL), speech(UTTERANCE))
    assert {window.duration: window.lookahead for window in windows} == every_frame
    assert min(every_frame.values()) == 4 * FRAME


@pytest.mark.parametrize("window_s", [1.0, 5.0])
def test_what_is_sent_is_what_opensmile_has_of_the_same_audio(window_s: float) -> None:
    pcm = join(UTTERANCE, voice(3.0, seed=4), hush(0.3), voice(1.4, seed=8, f0_hz=160))
    *windows, utterance = run(Extract(STREAM, ExtractConfig(window_s=window_s), POOL), speech(pcm, start=0))
    llds, functionals = batch(pcm)
    assert np.array_equal(np.concatenate([window.lld for window in (*windows, utterance)]), llds)
    assert np.array_equal(utterance.functionals, functionals)
    spans: list[Window] = [(w.start // ROW, (w.start + w.duration) // ROW) for w in windows]
    assert {end - first for first, end in spans} >= {50, 60, round(100 * window_s)}
    assert_same_functionals(np.array([w.functionals for w in windows]), functionals_of(pcm, spans), spans)


def test_streams_do_not_show_in_one_another() -> None:
    """Engines are shared out to segments as they come, and used again."""
    pool = OpenSmilePool()
    voices = [join(hush(0.1), voice(1.1, seed=n, f0_hz=100 + 30 * n), hush(0.2)) for n in range(3)]
    stages = [Extract(STREAM, DEFAULTS, pool) for _ in voices]
    got: list[list[FeatureWindow]] = [[] for _ in voices]
    for segment in (0, 64_000):
        for turn in zip_longest(*(speech(pcm, start=segment) for pcm in voices)):
            for stage, frame, windows in zip(stages, turn, got, strict=True):
                windows += stage.step(frame) if frame is not None else []
    for pcm, windows in zip(voices, got, strict=True):
        alone = Extract(STREAM, DEFAULTS, POOL)
        expected = [w for segment in (0, 64_000) for w in run(alone, speech(pcm, start=segment))]
        assert [comparable(w) for w in windows] == [comparable(w) for w in expected]
