from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from callscope.config import Extract as ExtractConfig
from processors.records import FeatureWindow, Pcm, SpeechFrame, VoiceSummary, WindowKind
from processors.stages.extract import Extract, summarise
from processors.stages.opensmile_engine import OpenSmilePool
from tests.signals import STREAM, cuts, hush, join, records, voice

FRAME, ROW = 320, 160
DEFAULTS = ExtractConfig()
POOL = OpenSmilePool()

Floats = NDArray[np.float32]


class Delayed:
    """An engine whose row k holds the mean of its 10 ms of audio, known `delays[k]` rows late at the least."""

    feature_set = "means"
    lld_names = ("Loudness_sma3", "F0semitoneFrom27.5Hz_sma3nz", "alphaRatio_sma3", "hammarbergIndex_sma3")
    functional_names = ("mean",)

    def __init__(self, delays: Sequence[int] = (3,)) -> None:
        self._delays = delays
        self._pcm: Pcm = np.zeros(0, np.int16)
        self._known = 0
        self.closed = False

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
        return np.repeat(means[:, None], 4, axis=1)


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
    assert late.summary.loudness_mean == pytest.approx((first_row + 1 + end_row) / 2)


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
    assert utterance.summary == VoiceSummary(0.0, None, None, 0.0, None, None)


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


def test_a_summary_is_over_all_frames_or_the_voiced_ones() -> None:
    rows = np.array([[1, 20, -10, 5], [2, 0, 99, 99], [3, 24, -6, 9], [2, 22, -8, 7]], np.float32)
    summary = summarise(rows)
    assert summary.f0_stddev == pytest.approx(np.sqrt(8 / 3))
    assert replace(summary, f0_stddev=0.0) == VoiceSummary(0.75, 22.0, 0.0, 2.0, -8.0, 7.0)
    assert summarise(rows[1:2]) == VoiceSummary(0.0, None, None, 2.0, None, None)


UTTERANCE = join(hush(0.2), voice(1.5), hush(0.4), voice(0.8, seed=2, f0_hz=210), hush(0.24))


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_the_same_holds_for_opensmile(data: st.DataObject) -> None:
    grouping = data.draw(cuts(len(UTTERANCE) // FRAME))
    one = run(Extract(STREAM, DEFAULTS, POOL), speech(UTTERANCE))
    other = run(Extract(STREAM, DEFAULTS, POOL), speech(UTTERANCE, grouping))
    assert [comparable(w) for w in one] == [comparable(w) for w in other]


def test_the_pitch_of_a_voice_is_found() -> None:
    *_, utterance = run(Extract(STREAM, DEFAULTS, POOL), speech(UTTERANCE))
    assert utterance.functionals.shape == (88,)
    assert utterance.summary.f0_mean is not None
    assert 12 * np.log2(120 / 27.5) < utterance.summary.f0_mean < 12 * np.log2(210 / 27.5)
    assert 0.5 < utterance.summary.voiced_share < 1
