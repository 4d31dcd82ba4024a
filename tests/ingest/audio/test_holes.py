"""Holes in the source's timeline: where they lie, and what is around them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ingest.audio.canonical import CanonicalAudio, media_time
from ingest.audio.framing import FRAME_SAMPLES, AudioFormat

MISSING = -32_768
PARTS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 3_000)), min_size=1, max_size=8
)  # (a hole, samples of the source)


def timeline(parts: list[tuple[bool, int]], rate_hz: int, cut: int | None = None) -> NDArray[np.int16]:
    """What comes out, at its media time; gaps as MISSING."""
    canonical = CanonicalAudio(AudioFormat("s16le", rate_hz, 1))
    pieces: list[NDArray[np.int16]] = []
    value = 0
    for is_hole, samples in parts:
        if is_hole:
            hole = canonical.skip(samples)
            assert hole.gap % FRAME_SAMPLES == 0 and 0 <= hole.gap <= hole.samples
            assert hole.gap == 0 or hole.samples >= FRAME_SAMPLES
            pieces += [hole.frames[:, 0], np.full(hole.gap, MISSING, np.int16)]
        else:
            data = (np.arange(value, value + samples) % 20_000 + 1).astype("<i2").tobytes()
            value += samples
            step = cut or max(1, len(data))
            pieces += [canonical.push(data[at : at + step])[:, 0] for at in range(0, len(data), step)]
    frames, _ = canonical.flush()
    return np.concatenate([*pieces, frames[:, 0]])


@given(parts=PARTS)
def test_every_sample_lies_at_its_media_time(parts: list[tuple[bool, int]]) -> None:
    out = timeline(parts, 16_000)
    at, value = 0, 0
    for is_hole, samples in parts:
        if is_hole:
            assert np.all((out[at : at + samples] == MISSING) | (out[at : at + samples] == 0))
        else:
            expected = np.arange(value, value + samples) % 20_000 + 1
            assert np.array_equal(out[at : at + samples], expected)
            value += samples
        at += samples
    assert len(out) == -(-at // FRAME_SAMPLES) * FRAME_SAMPLES
    assert not out[at:].any()


@pytest.mark.parametrize("rate_hz", [8_000, 24_000, 44_100, 48_000])
@settings(max_examples=25)
@given(parts=PARTS)
def test_however_many_holes_the_length_does_not_drift(rate_hz: int, parts: list[tuple[bool, int]]) -> None:
    out = timeline(parts, rate_hz)
    length = media_time(sum(samples for _, samples in parts), rate_hz)
    assert len(out) == -(-length // FRAME_SAMPLES) * FRAME_SAMPLES


@settings(max_examples=25)
@given(parts=PARTS, cut=st.integers(1, 999))
def test_holes_do_not_depend_on_how_the_audio_was_cut(parts: list[tuple[bool, int]], cut: int) -> None:
    whole = timeline(parts, 8_000)
    assert np.array_equal(timeline(parts, 8_000, cut), whole)


def test_a_hole_is_at_least_marked_to_the_frame() -> None:
    canonical = CanonicalAudio(AudioFormat("s16le", 16_000, 1))
    canonical.push(np.ones(100, "<i2").tobytes())
    hole = canonical.skip(1_000)
    assert (hole.start, hole.samples, hole.gap) == (100, 1_000, 640)
    assert len(hole.frames) == 320
    assert hole.frames[:100].all() and not hole.frames[100:].any()
    (after,) = canonical.push(np.ones(320, "<i2").tobytes()).reshape(1, -1)
    assert not after[:140].any() and after[140:].all()
