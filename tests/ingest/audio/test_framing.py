import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.audio.framing import FRAME_SAMPLES, AudioFormat, Framer, SampleReader


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    out = []
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        out.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return out


@given(
    data=st.binary(max_size=400),
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=8),
    audio_format=st.builds(
        AudioFormat, st.sampled_from(["s16le", "mulaw", "alaw"]), st.just(16_000), st.sampled_from([1, 2])
    ),
)
def test_any_chunking_reads_the_same_samples(data: bytes, sizes: list[int], audio_format: AudioFormat) -> None:
    whole = SampleReader(audio_format)
    expected = whole.push(data)
    reader = SampleReader(audio_format)
    got = [reader.push(piece) for piece in pieces(data, sizes)]
    assert np.array_equal(np.concatenate([expected[:0], *got]), expected)
    assert reader.incomplete_bytes == whole.incomplete_bytes == len(data) % audio_format.step_bytes


def test_s16le_is_little_endian_and_channels_are_interleaved() -> None:
    data = bytes.fromhex("0100 ff7f 0080 ffff")
    assert SampleReader(AudioFormat("s16le", 16_000, 1)).push(data).tolist() == [[1], [32_767], [-32_768], [-1]]
    assert SampleReader(AudioFormat("s16le", 16_000, 2)).push(data).tolist() == [[1, 32_767], [-32_768, -1]]


def test_g711_has_one_byte_a_sample() -> None:
    assert SampleReader(AudioFormat("mulaw", 8_000, 2)).push(b"\x80\x00\xff").tolist() == [[32_124, -32_124]]
    assert SampleReader(AudioFormat("alaw", 8_000, 1)).push(b"\xaa\x2a").tolist() == [[32_256], [-32_256]]


@given(sizes=st.lists(st.integers(0, 1_000), max_size=12), channels=st.sampled_from([1, 2]))
def test_frames_are_whole_and_nothing_is_lost(sizes: list[int], channels: int) -> None:
    total = sum(sizes)
    samples = np.arange(total * channels).astype(np.int16).reshape(total, channels)
    framer = Framer(channels)
    out: list[np.ndarray] = []
    at = 0
    for size in sizes:
        frames = framer.push(samples[at : at + size])
        at += size
        assert len(frames) % FRAME_SAMPLES == 0
        assert sum(len(f) for f in out) + len(frames) == at - at % FRAME_SAMPLES  # a complete frame is never held back
        out.append(frames)
    last, padded = framer.flush()
    got = np.concatenate([samples[:0], *out, last])
    assert np.array_equal(got[:total], samples)
    assert len(got) == total + padded
    assert padded == -total % FRAME_SAMPLES
    assert not got[total:].any()


@pytest.mark.parametrize("samples", [0, FRAME_SAMPLES])
def test_nothing_is_padded_where_nothing_is_left(samples: int) -> None:
    framer = Framer(1)
    framer.push(np.ones((samples, 1), np.int16))
    last, padded = framer.flush()
    assert last.shape == (0, 1)
    assert padded == 0
