"""Opus made for tests, by libopus through PyAV: packets, WebM, Ogg, and their decoding by FFmpeg as the reference."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

RATE_HZ = 48_000
PACKET = 960


def voice(seconds: float, seed: int = 0) -> NDArray[np.int16]:
    """Something like a voice: harmonics that come and go, and noise; 48 kHz, shape (n,)."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    rng = np.random.default_rng(seed)
    tone = sum(np.sin(2 * np.pi * 140 * k * t + k) / k for k in range(1, 12))
    return (2_500 * tone * (0.3 + np.abs(np.sin(2 * np.pi * 1.7 * t))) + rng.normal(0, 30, len(t))).astype(np.int16)


def encoded(pcm: NDArray[np.int16], bit_rate: int = 32_000) -> list[bytes]:
    """20 ms packets of mono sound at 48 kHz."""
    codec = av.CodecContext.create("libopus", "w")
    assert isinstance(codec, av.AudioCodecContext)
    codec.sample_rate, codec.layout, codec.format = RATE_HZ, "mono", "s16"
    codec.bit_rate, codec.time_base = bit_rate, Fraction(1, RATE_HZ)
    packets = []
    for at in range(0, len(pcm) - PACKET + 1, PACKET):
        packets += [bytes(packet) for packet in codec.encode(_frame(pcm[at : at + PACKET], at))]
    return packets


def recorded(pcm: NDArray[np.int16], container: str, **options: str) -> bytes:
    """A whole recording of mono sound at 48 kHz, "webm" or "ogg", as FFmpeg writes it where it cannot seek."""
    file = io.BytesIO()
    file.seekable = lambda: False  # type: ignore[method-assign]
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream("libopus", rate=RATE_HZ, layout="mono")
        for at in range(0, len(pcm), PACKET):
            output.mux(stream.encode(_frame(pcm[at : at + PACKET], at)))
        output.mux(stream.encode(None))
    return file.getvalue()


def decoded(recording: bytes) -> NDArray[np.int16]:
    """What FFmpeg makes of a recording, its beginning cut as the header says; mono, 48 kHz."""
    with av.open(io.BytesIO(recording), "r") as file:
        frames = [frame.to_ndarray() for frame in file.decode(audio=0)]
    sound = np.concatenate(frames, axis=1)[0]
    samples: NDArray[np.int16] = np.clip(np.rint(sound * 32_768), -32_768, 32_767).astype(np.int16)
    return samples


def snr_db(reference: NDArray[np.int16], heard: NDArray[np.int16]) -> float:
    """Signal to noise, dB, of two sounds of one length."""
    noise = reference.astype(float) - heard.astype(float)
    return float(10 * np.log10(np.sum(reference.astype(float) ** 2) / max(np.sum(noise**2), 1e-9)))


def _frame(pcm: NDArray[np.int16], at: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(pcm[None, :], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, at, Fraction(1, RATE_HZ)
    return frame
