from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from callscope.errors import FeatureEngineError
from processors.records import Pcm
from processors.stages import opensmile_engine
from processors.stages.functionals import INNER_NAMES
from processors.stages.opensmile_config import without_unread
from processors.stages.opensmile_engine import OpenSmilePool
from processors.wire import LLD_COLUMNS
from tests.processors.reference import Floats, batch
from tests.signals import hush, join, voice

DATA = Path(__file__).parents[4] / "shared" / "data"

UTTERANCE = join(hush(0.2), voice(1.5), hush(0.4), voice(0.8, seed=2, f0_hz=210), hush(0.24))
POOL = OpenSmilePool()


def portions(pcm: Pcm, sizes: list[int]) -> Iterator[Pcm]:
    at = 0
    while at < len(pcm):
        for size in sizes:
            yield pcm[at : at + size]
            at += size


def streamed(pcm: Pcm, sizes: list[int], pool: OpenSmilePool = POOL) -> tuple[Floats, Floats]:
    """Descriptors, with the columns behind them, and functionals."""
    engine = pool()
    rows = [engine.feed(portion) for portion in portions(pcm, sizes)]
    rest, functionals = engine.finish()
    engine.close()
    return np.concatenate([*rows, rest]), functionals


def test_streamed_features_are_those_of_batch_bit_for_bit() -> None:
    llds, functionals = batch(UTTERANCE)
    for sizes in ([160], [320], [1_600], [len(UTTERANCE)]):
        ours, our_functionals = streamed(UTTERANCE, sizes)
        assert np.array_equal(ours[:, :LLD_COLUMNS], llds)
        assert np.array_equal(our_functionals, functionals)


@settings(max_examples=15)
@given(st.lists(st.integers(50, 5_000), min_size=1, max_size=6))
def test_portions_leave_no_trace(sizes: list[int]) -> None:
    llds, functionals = streamed(UTTERANCE, [320])
    ours, our_functionals = streamed(UTTERANCE, sizes)
    assert np.array_equal(ours, llds)
    assert np.array_equal(our_functionals, functionals)


def test_a_used_engine_is_as_good_as_a_new_one() -> None:
    pool = OpenSmilePool()
    first = streamed(UTTERANCE, [320], pool)
    streamed(join(voice(0.7, seed=9)), [320], pool)
    again = streamed(UTTERANCE, [320], pool)
    assert len(pool) == 1
    for ours, theirs in zip(first, again, strict=True):
        assert np.array_equal(ours, theirs)


def test_interleaved_segments_do_not_mix() -> None:
    one, other = UTTERANCE, join(voice(2.0, seed=5, f0_hz=180))
    a, b = POOL(), POOL()
    rows_a, rows_b = [], []
    for at in range(0, max(len(one), len(other)), 320):
        rows_a += [a.feed(one[at : at + 320])] if at < len(one) else []
        rows_b += [b.feed(other[at : at + 320])] if at < len(other) else []
    for engine, rows, pcm in ((a, rows_a, one), (b, rows_b, other)):
        rest, functionals = engine.finish()
        engine.close()
        expected, expected_functionals = streamed(pcm, [320])
        assert np.array_equal(np.concatenate([*rows, rest]), expected)
        assert np.array_equal(functionals, expected_functionals)


def test_rows_come_as_soon_as_the_audio_permits() -> None:
    """Not at the end: the pitch window and Viterbi smoothing are the only delay, and `delay` the least there is."""
    engine = POOL()
    known, lags = 0, set()
    for fed, portion in enumerate(portions(UTTERANCE, [160]), 1):
        if rows := len(engine.feed(portion)):
            known += rows
            lags.add(fed - known)
    engine.close()
    assert min(lags) == engine.delay // 160 == 7
    assert max(lags) <= 12
    assert known >= len(UTTERANCE) // 160 - 20


def test_what_nobody_reads_is_left_out_of_the_configuration() -> None:
    ours = without_unread(opensmile_engine._load().config)
    assert "instance[egemapsv02_functionalsMVRVoiced]" in ours
    assert "[egemapsv02_functionalsMVRVoiced:cFunctionals]" in ours
    assert "gemapsv01b_functionalsMVRVoiced" not in ours
    assert "{../" not in ours, "every file it includes is named from the root"


def test_a_configuration_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeatureEngineError, match="cannot be read"):
        without_unread(tmp_path)
    (tmp_path / "egemaps" / "v02").mkdir(parents=True)
    (tmp_path / "egemaps" / "v02" / "eGeMAPSv02.conf").write_text("instance[lldconcat].type=cVectorConcat\n")
    with pytest.raises(FeatureEngineError, match=r"lacks gemapsv01b_functionalsMVRVoiced, .* Install"):
        without_unread(tmp_path)


@pytest.mark.parametrize("samples", [0, 1, 320, 800, 959, 960, 1_120, 1_600])
def test_short_segments_give_what_there_is(samples: int) -> None:
    rows, functionals = streamed(UTTERANCE[4_000 : 4_000 + samples], [320])
    assert rows.shape == (max(0, samples // 160 - 4) if samples >= 960 else 0, LLD_COLUMNS + len(INNER_NAMES))
    assert functionals.shape == ((88,) if len(rows) else (0,))


def test_an_engine_that_is_closed_before_its_end_leaves_nothing_behind() -> None:
    pool = OpenSmilePool()
    engine = pool()
    engine.feed(UTTERANCE[:8_000])
    engine.close()
    assert len(pool) == 0
    assert np.array_equal(streamed(UTTERANCE, [320], pool)[0], streamed(UTTERANCE, [320])[0])


def test_the_pool_keeps_no_more_than_it_may() -> None:
    pool = OpenSmilePool(max_idle=1)
    engines = [pool(), pool()]
    for engine in engines:
        engine.finish()
        engine.close()
    assert len(pool) == 1
    pool.warm(5)
    assert len(pool) == 1
    pool.clear()
    assert len(pool) == 0


def test_names_are_those_of_the_library() -> None:
    engine = POOL()
    assert engine.lld_names[0] == "Loudness_sma3"
    assert engine.lld_names[10] == "F0semitoneFrom27.5Hz_sma3nz"
    assert len(engine.lld_names) == LLD_COLUMNS
    assert len(engine.functional_names) == 88
    engine.close()


def test_another_version_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "2.7.0")
    with pytest.raises(FeatureEngineError, match=r"opensmile 2\.7\.0 .* Install opensmile==2\.6\.0"):
        opensmile_engine._Library()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FeatureEngineError, match=r"Install opensmile==2\.6\.0"):
        opensmile_engine._Library()


def test_a_library_without_the_step_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    (tmp_path / "core/bin/any").mkdir(parents=True)
    (tmp_path / "core/bin/any/libSMILEapi.so").write_bytes(b"not a library")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: Spec())
    with pytest.raises(FeatureEngineError, match="cannot be driven on this platform"):
        opensmile_engine._Library()


@pytest.mark.skipif(not DATA.exists(), reason="the recordings are not on this machine")
@pytest.mark.parametrize("name", ["emodb/03a01Wa.wav", "ami/trn01.wav", "calls/two_channel_16k.wav"])
def test_recordings_give_the_bits_of_batch(name: str) -> None:
    pcm = soundfile.read(DATA / name, dtype="int16", always_2d=True)[0][: 16_000 * 8, 0].copy()
    llds, functionals = batch(pcm)
    ours, our_functionals = streamed(pcm, [320])
    assert np.array_equal(ours[:, :LLD_COLUMNS], llds)
    assert np.array_equal(our_functionals, functionals)
