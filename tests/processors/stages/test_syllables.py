from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from processors.stages.opensmile_engine import OpenSmilePool
from processors.stages.syllables import Syllables

DATA = Path(__file__).parents[4] / "shared" / "data"
SENTENCES = {"a01": 8, "a02": 9, "a04": 11, "a05": 18, "a07": 10, "b01": 15, "b02": 20, "b03": 24, "b09": 17, "b10": 14}
"""Syllables of EMO-DB's ten sentences, by their code."""

Floats = NDArray[np.float32]


def loudness_of(levels_db: Sequence[float]) -> Floats:
    """Loudness of levels at these dB, 30 ms each."""
    return np.repeat(10 ** (np.array(levels_db, np.float32) * 0.033), 3).astype(np.float32)


def followed(loudness: Floats, voiced: NDArray[np.bool_], grouping: list[int] | None = None) -> Syllables:
    syllables = Syllables()
    for part, its in zip(np.split(loudness, grouping or []), np.split(voiced, grouping or []), strict=True):
        syllables.append(part, its)
    return syllables


def count(levels_db: Sequence[float], first: int = 0, end: int | None = None, *, voiced: bool = True) -> int:
    loudness = loudness_of(levels_db)
    return followed(loudness, np.full(len(loudness), voiced)).count(first, len(loudness) if end is None else end)


def test_voiced_peaks_with_dips_around_them_count() -> None:
    assert count([-20, 0, -20, -3, -20, -1, -20]) == 3
    assert count([-20, 0, -20, -3, -20, -1, -20], voiced=False) == 0


def test_ripples_and_faint_peaks_do_not() -> None:
    assert count([-20, 0, -1.5, 0.5, -1, 0, -20]) == 1
    assert count([-40, 0, -40, -30, -40, -10, -40]) == 2


def test_a_peak_counts_before_its_falling_side_is_known() -> None:
    assert count([-20, 0]) == 1
    assert count([0, 0]) == 0, "nothing is known of its rising side"


def test_a_peak_belongs_to_the_window_that_holds_it() -> None:
    levels = [-20, 0, -20, -3, -20]
    assert [count(levels, first, end) for first, end in ((0, 3), (3, 6), (6, 9), (9, 15), (0, 15))] == [0, 1, 0, 1, 2]


@given(st.lists(st.floats(-60, 0), max_size=40), st.lists(st.integers(0, 120), max_size=6).map(sorted))
def test_how_rows_were_grouped_leaves_no_trace(levels: list[float], grouping: list[int]) -> None:
    loudness = loudness_of(levels)
    voiced = np.arange(len(loudness)) % 7 < 5
    one, other = followed(loudness, voiced), followed(loudness, voiced, grouping)
    for end in range(0, len(loudness) + 1, 5):
        assert one.count(end // 2, end) == other.count(end // 2, end)


@pytest.mark.skipif(not (DATA / "emodb").exists(), reason="the recordings are not on this machine")
def test_it_follows_the_syllables_of_read_sentences() -> None:
    pool = OpenSmilePool()
    counted, spoken = [], []
    for path in sorted((DATA / "emodb").glob("*.wav"))[::25]:
        engine = pool()
        rows = engine.feed(soundfile.read(path, dtype="int16")[0])
        pitch = rows[:, engine.lld_names.index("F0semitoneFrom27.5Hz_sma3nz")]
        engine.close()
        counted.append(followed(rows[:, 0], pitch > 0).count(0, len(rows)))
        spoken.append(SENTENCES[path.name[2:5]])
    assert 0.7 < sum(counted) / sum(spoken) < 1.1
    assert np.corrcoef(counted, spoken)[0, 1] > 0.8
