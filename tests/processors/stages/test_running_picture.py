from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from processors.records import StreamStatistics, VoiceSummary
from processors.stages.running_picture import RunningPicture

NAMES = (
    "alphaRatio_sma3",
    "Loudness_sma3",
    "hammarbergIndex_sma3",
    "F0semitoneFrom27.5Hz_sma3nz",
    "jitterLocal_sma3nz",
    "shimmerLocaldB_sma3nz",
    "HNRdBACF_sma3nz",
)
Floats = NDArray[np.float32]


def picture(rows: Floats, grouping: list[int] | None = None, keep: int = 1_000) -> RunningPicture:
    made = RunningPicture(NAMES, keep)
    energy = np.full(len(rows), 160 * 1_000.0**2)
    for part, its in zip(np.split(rows, grouping or []), np.split(energy, grouping or []), strict=True):
        made.append(part, its)
    return made


def speech(rows: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    table = rng.uniform(1, 30, (rows, len(NAMES))).astype(np.float32)
    table[rng.random(rows) < 0.4, 3:] = 0
    table[rng.random(rows) < 0.2, 4] = 0
    return table


def test_means_are_over_all_rows_or_over_those_that_have_one() -> None:
    rows = speech(200)
    summary = picture(rows).of(20, 170, 150 * 160)
    window = rows[20:170].astype(np.float64)
    voiced = window[window[:, 3] > 0]
    assert summary.voiced_share == len(voiced) / 150
    assert summary.loudness_mean == pytest.approx(window[:, 1].mean())
    assert (summary.f0_mean, summary.f0_stddev) == pytest.approx((voiced[:, 3].mean(), voiced[:, 3].std()))
    assert (summary.f0_min, summary.f0_max) == (voiced[:, 3].min(), voiced[:, 3].max())
    assert (summary.alpha_ratio_mean, summary.hammarberg_mean) == pytest.approx(tuple(voiced[:, (0, 2)].mean(axis=0)))
    with_jitter = window[window[:, 4] != 0]
    assert summary.jitter_mean == pytest.approx(with_jitter[:, 4].mean())
    assert (summary.shimmer_db_mean, summary.hnr_db_mean) == pytest.approx(tuple(voiced[:, (5, 6)].mean(axis=0)))
    assert summary.level_dbfs == pytest.approx(20 * np.log10(1_000 / 32_768))


def test_without_voice_there_is_no_pitch() -> None:
    rows = speech(60)
    rows[:, 3:] = 0
    summary = picture(rows).of(0, 60, 0)
    assert summary == VoiceSummary(
        0.0, None, None, summary.loudness_mean, None, None, level_dbfs=-100.0, speech_rate_hz=0.0
    )
    assert picture(rows[:0]).of_all(0.0) == VoiceSummary(0.0, None, None, 0.0, None, None, level_dbfs=-100.0)


def test_the_whole_is_not_forgotten_with_its_rows() -> None:
    rows = speech(500)
    assert picture(rows, keep=20).of_all(9.0) == picture(rows).of_all(9.0)


@given(st.lists(st.integers(0, 300), max_size=8).map(sorted))
def test_how_rows_were_grouped_leaves_no_trace(grouping: list[int]) -> None:
    rows = speech(300)
    one, other = picture(rows), picture(rows, grouping)
    assert one.of(50, 250, 32_000) == other.of(50, 250, 32_000)
    assert one.of_all(1.0) == other.of_all(1.0)


@given(st.lists(st.integers(1, 80), min_size=1, max_size=6))
def test_statistics_of_segments_are_those_of_all_their_rows(lengths: list[int]) -> None:
    segments = [speech(length, seed) for seed, length in enumerate(lengths)]
    statistics = StreamStatistics()
    for rows in segments:
        part = picture(rows)
        statistics = part.add_to(statistics, part.of_all(1e6), len(rows) / 100)
    rows = np.concatenate(segments).astype(np.float64)
    pitch = rows[rows[:, 3] > 0, 3]
    assert statistics.segments == len(lengths)
    assert statistics.loudness.weight_s == pytest.approx(len(rows) / 100)
    assert statistics.loudness.mean[0] == pytest.approx(rows[:, 1].mean())
    assert statistics.loudness.deviation[0] == pytest.approx(rows[:, 1].std(), abs=1e-6)
    assert statistics.f0.weight_s == pytest.approx(len(pitch) / 100)
    if len(pitch):
        assert statistics.f0.mean[0] == pytest.approx(pitch.mean())
        assert statistics.f0.deviation[0] == pytest.approx(pitch.std(), abs=1e-6)
    assert statistics.level_dbfs.mean[0] == pytest.approx(10 * np.log10(1e6 / 32_768**2))
    assert statistics.speech_rate_hz.weight_s == pytest.approx(sum(n for n in lengths if n >= 50) / 100)
