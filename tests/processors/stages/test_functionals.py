from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from processors.records import Pcm
from processors.stages.functionals import INNER_NAMES, Functionals
from processors.stages.functionals_contour import slopes, voiced_and_unvoiced_runs
from processors.stages.opensmile_engine import OpenSmilePool
from tests.processors.reference import SHORTEST, Floats, Window, assert_same_functionals, functionals_of
from tests.signals import hush, join, voice

DATA = Path(__file__).parents[4] / "shared" / "data"
POOL = OpenSmilePool()
KEEP = 4_000


def rows_of(pcm: Pcm) -> Floats:
    """Rows as they come live.

    Not those which only the end of the input brings: there openSMILE smooths the pitch that its functionals rest on
    with one frame more than the pitch it puts out. No window of `Extract` holds such a row, only the utterance, whose
    functionals are openSMILE's own.
    """
    engine = POOL()
    rows = engine.feed(pcm)
    engine.close()
    return rows


def by_us(rows: Floats, windows: list[Window], grouping: list[int] | None = None) -> Floats:
    functionals = Functionals(POOL().lld_names, KEEP)
    for part in np.split(rows, grouping or []):
        functionals.append(part)
    return np.array([functionals.of(*window) for window in windows])


UTTERANCE = join(hush(0.2), voice(1.5), hush(0.4), voice(0.8, seed=2, f0_hz=210), hush(0.24), voice(2.9, seed=7))
ROWS = rows_of(UTTERANCE)


@settings(max_examples=15)
@given(st.data())
def test_functionals_of_any_window_are_those_of_opensmile(data: st.DataObject) -> None:
    firsts = st.integers(0, len(ROWS) - SHORTEST)
    window = firsts.flatmap(lambda first: st.tuples(st.just(first), st.integers(first + SHORTEST, len(ROWS))))
    windows = data.draw(st.lists(window, min_size=1, max_size=40))
    assert_same_functionals(by_us(ROWS, windows), functionals_of(UTTERANCE, windows), windows)


@pytest.mark.parametrize("recording", ["emodb/03a01Fa.wav", "emodb/11b09Fd.wav", "calls/two_channel_16k.wav"])
def test_the_same_on_recordings(recording: str) -> None:
    if not (DATA / recording).exists():
        pytest.skip(f"{recording} is not there")
    pcm, _ = soundfile.read(DATA / recording, frames=16_000 * 30, dtype="int16", always_2d=True)
    mono = np.ascontiguousarray(pcm[:, 0])
    rows = rows_of(mono)
    rng = np.random.default_rng(4)
    windows = []
    for length in rng.integers(SHORTEST, min(500, len(rows) - 1), 120).tolist():
        first = int(rng.integers(0, len(rows) - length))
        windows.append((first, first + length))
    assert_same_functionals(by_us(rows, windows), functionals_of(mono, windows), windows)


@pytest.mark.parametrize(
    "pcm",
    [
        np.zeros(32_000, np.int16),
        join(np.zeros(16_000, np.int16), voice(0.6), np.zeros(16_000, np.int16)),
        join(voice(1.0, peak=32_000), np.zeros(16_000, np.int16), voice(0.3, peak=20)),
        np.full(24_000, 1_000, np.int16),
        np.where(np.arange(32_000) % 2 == 0, 32_767, -32_768).astype(np.int16),
    ],
    ids=["silence", "speech in silence", "silence after loud speech", "constant", "full scale"],
)
def test_the_same_on_signals_that_are_hardly_speech(pcm: Pcm) -> None:
    rows = rows_of(pcm)
    windows = [(first, end) for first in range(0, len(rows) - 50, 7) for end in (first + 5, first + 50, len(rows))]
    assert_same_functionals(by_us(rows, windows), functionals_of(pcm, windows), windows)


@given(st.lists(st.integers(0, len(ROWS)), max_size=8).map(sorted))
def test_how_rows_were_grouped_leaves_no_trace(grouping: list[int]) -> None:
    windows = [(0, 50), (100, 400), (300, len(ROWS)), (7, 8), (0, len(ROWS))]
    assert by_us(ROWS, windows, grouping).tobytes() == by_us(ROWS, windows).tobytes()


def test_a_long_segment_keeps_its_precision_and_forgets_its_past() -> None:
    """Thirty seconds and more of running sums must not show in the last window."""
    long = np.concatenate([ROWS] * 10)
    functionals = Functionals(POOL().lld_names, 500)
    for part in np.split(long, range(10, len(long), 10)):
        functionals.append(part)
    alone = by_us(long[-500:], [(0, 500)])[0]
    np.testing.assert_allclose(functionals.of(len(long) - 500, len(long)), alone, rtol=1e-5)
    with pytest.raises(IndexError):
        functionals.of(0, 500)
    with pytest.raises(IndexError):
        functionals.of(len(long) - 10, len(long) + 1)


def test_windows_of_a_few_rows_have_functionals_too() -> None:
    for end in range(1, SHORTEST):
        assert np.isfinite(by_us(ROWS, [(0, end), (30, 30 + end)])).all()


def test_the_inner_columns_are_those_of_the_engine() -> None:
    assert ROWS.shape[1] == len(POOL().lld_names) + len(INNER_NAMES)


def test_a_contour_without_salient_extremes_has_one_slope() -> None:
    for contour, rising, falling in (([1, 2, 3], 2 / 3, 0), ([3, 2, 1], 0, -2 / 3), ([2], 0, 0), ([2, 2], 0, 0)):
        shape = slopes(np.array(contour, np.float32), np.float32(max(contour) - min(contour)))
        assert shape == pytest.approx((rising, 0, falling, 0, 0))


def test_a_break_of_one_row_does_not_end_a_run() -> None:
    def rows(marks: str) -> NDArray[np.bool_]:
        return np.array([mark == "v" for mark in marks])

    voiced, unvoiced = voiced_and_unvoiced_runs(rows("vvvv.vvvv...vv..vvvv"))
    assert (voiced.number, unvoiced.number) == (2, 1)
    assert voiced.mean_s == pytest.approx((0.08 + 0.03) / 2)
    assert unvoiced.mean_s == pytest.approx(0.02)
