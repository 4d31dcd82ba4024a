from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ingest.audio.canonical import CanonicalAudio
from ingest.audio.framing import FRAME_SAMPLES, AudioFormat
from ingest.audio.g711 import MU_LAW

FORMATS = st.builds(
    AudioFormat,
    st.sampled_from(["s16le", "mulaw", "alaw"]),
    st.sampled_from([8_000, 16_000, 24_000, 44_100, 48_000]),
    st.sampled_from([1, 2]),
)


def convert(pieces: list[bytes], audio_format: AudioFormat) -> tuple[NDArray[np.int16], int]:
    canonical = CanonicalAudio(audio_format)
    frames = [canonical.push(piece) for piece in pieces]
    assert all(len(f) % FRAME_SAMPLES == 0 for f in frames)
    last, padded = canonical.flush()
    return np.concatenate([*frames, last]), padded


@given(data=st.data(), audio_format=FORMATS, length=st.integers(0, 9_000))
@settings(max_examples=150)
def test_any_chunking_of_the_bytes_gives_the_same_frames(
    data: st.DataObject, audio_format: AudioFormat, length: int
) -> None:
    audio = np.random.default_rng(length).integers(0, 256, length, np.uint8).tobytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, length), max_size=12)))
    pieces = [audio[a:b] for a, b in pairwise([0, *cuts, length])]
    frames, padded = convert(pieces, audio_format)
    expected, expected_padded = convert([audio], audio_format)
    assert np.array_equal(frames, expected)
    assert padded == expected_padded
    sent = length // audio_format.step_bytes * 16_000 / audio_format.rate_hz
    assert abs(len(frames) - padded - sent) <= 0.5


def test_pcm_at_16_khz_is_not_touched() -> None:
    samples = np.arange(-3_200, 3_200, dtype=np.int16)
    frames, padded = convert([samples.tobytes()], AudioFormat("s16le", 16_000, 1))
    assert padded == 0
    assert np.array_equal(frames[:, 0], samples)


def test_mu_law_at_16_khz_is_only_decoded() -> None:
    codes = np.arange(640) % 256
    frames, _ = convert([codes.astype(np.uint8).tobytes()], AudioFormat("mulaw", 16_000, 1))
    assert np.array_equal(frames[:, 0], MU_LAW[codes])


@pytest.mark.parametrize("rate_hz", [8_000, 48_000])
def test_each_leg_of_stereo_equals_the_same_leg_alone(rate_hz: int) -> None:
    both = np.random.default_rng(1).integers(-9_000, 9_000, (5_000, 2)).astype("<i2")
    stereo, padded = convert([both.tobytes()], AudioFormat("s16le", rate_hz, 2))
    for channel in (0, 1):
        mono, mono_padded = convert([both[:, channel].tobytes()], AudioFormat("s16le", rate_hz, 1))
        assert np.array_equal(stereo[:, channel], mono[:, 0])
        assert padded == mono_padded
