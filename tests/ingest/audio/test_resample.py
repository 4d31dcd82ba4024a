import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ingest.audio.resample import RATE_HZ, Resampler

RATES_HZ = (8_000, 16_000, 24_000, 44_100, 48_000)


def resample(samples: NDArray[np.int16], rate_hz: int, sizes: list[int]) -> NDArray[np.int16]:
    resampler = Resampler(rate_hz, samples.shape[1])
    out = []
    at = turn = 0
    while at < len(samples):
        size = sizes[turn % len(sizes)]
        out.append(resampler.push(samples[at : at + size]))
        at, turn = at + size, turn + 1
    return np.concatenate([*out, resampler.flush()])


def noise(length: int, channels: int = 1) -> NDArray[np.int16]:
    return np.random.default_rng(7).normal(0, 6_000, (length, channels)).clip(-32_768, 32_767).astype(np.int16)


def test_16_khz_passes_through_unchanged() -> None:
    samples = noise(1_000, 2)
    assert np.array_equal(resample(samples, RATE_HZ, [37]), samples)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@given(length=st.integers(0, 3_000), sizes=st.lists(st.integers(1, 900), min_size=1, max_size=6))
@settings(max_examples=40)
def test_any_chunking_gives_the_same_samples_and_the_same_length(rate_hz: int, length: int, sizes: list[int]) -> None:
    samples = noise(length, 2)
    whole = resample(samples, rate_hz, [max(length, 1)])
    assert np.array_equal(resample(samples, rate_hz, sizes), whole)
    assert abs(len(whole) - length * RATE_HZ / rate_hz) <= 0.5


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_pulse_comes_out_at_its_own_time(rate_hz: int) -> None:
    # A smooth pulse of 2 ms around 0.5 s, well inside the band of every rate.
    seconds = np.arange(rate_hz) / rate_hz
    pulse = 20_000 * np.exp(-(((seconds - 0.5) / 0.001) ** 2))
    out = resample(np.rint(pulse).astype(np.int16)[:, None], rate_hz, [rate_hz // 50])[:, 0].astype(float)
    centre = float(np.sum(np.arange(len(out)) * out) / np.sum(out))
    assert centre == pytest.approx(0.5 * RATE_HZ, abs=0.05)
    expected = 20_000 * np.exp(-(((np.arange(len(out)) / RATE_HZ - 0.5) / 0.001) ** 2))
    assert np.max(np.abs(out - expected)) < 3


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_chirp_is_reproduced_over_the_telephone_band(rate_hz: int) -> None:
    def chirp(rate: int) -> NDArray[np.float64]:
        t = np.arange(rate) / rate
        return 12_000 * np.sin(2 * np.pi * (200 * t + (3_400 - 200) / 2 * t**2))

    out = resample(np.rint(chirp(rate_hz)).astype(np.int16)[:, None], rate_hz, [rate_hz // 50])[:, 0]
    inside = slice(800, -800)  # the ends lack the audio around them
    error = out[inside] - chirp(RATE_HZ)[inside]
    assert np.sqrt(np.mean(error**2)) < 1.5  # samples are rounded twice


@pytest.mark.parametrize("rate_hz", [24_000, 44_100, 48_000])
def test_what_16_khz_cannot_hold_is_removed(rate_hz: int) -> None:
    tone = 12_000 * np.sin(2 * np.pi * 9_000 * np.arange(rate_hz) / rate_hz)
    out = resample(np.rint(tone).astype(np.int16)[:, None], rate_hz, [rate_hz])
    assert np.max(np.abs(out[800:-800])) <= 1


@pytest.mark.parametrize(("rate_hz", "held_ms"), [(8_000, 31), (24_000, 38), (44_100, 41), (48_000, 38)])
def test_audio_is_not_held_for_long(rate_hz: int, held_ms: float) -> None:
    resampler, came = Resampler(rate_hz, 1), 0
    worst = 0.0
    for message in range(1, 101):
        came += len(resampler.push(noise(rate_hz // 50)))
        worst = max(worst, message * 20 - came * 1_000 / RATE_HZ)
    assert worst < held_ms


def test_loud_audio_is_clipped_and_does_not_wrap() -> None:
    square = np.where(np.arange(8_000) // 8 % 2, 32_767, -32_768).astype(np.int16)[:, None]
    out = resample(square, 8_000, [160])[:, 0].astype(int)
    assert out.max() == 32_767
    assert out.min() == -32_768
    assert np.all(out[2::32] * out[18::32][: len(out[2::32])] < 0)  # opposite half-waves keep opposite signs


@pytest.mark.parametrize("rate_hz", [8_000, 44_100])
def test_channels_do_not_touch_each_other(rate_hz: int) -> None:
    both = noise(4_000, 2)
    together = resample(both, rate_hz, [160])
    for channel in (0, 1):
        assert np.array_equal(together[:, channel], resample(both[:, [channel]], rate_hz, [160])[:, 0])
