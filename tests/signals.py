"""Synthetic audio that detectors and pitch trackers take for speech; the same samples on every machine and run."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from hypothesis import strategies as st
from numpy.typing import NDArray

import callscope.demo
from callscope.streams import StreamId
from processors.records import FRAME_SAMPLES, RATE_HZ, AudioFrame, Pcm

STREAM = StreamId("call-1", "customer")

_FORMANTS_HZ = ((500, 80, 1.0), (1_500, 120, 0.5), (2_500, 160, 0.3))
"""A neutral vowel's resonances: centre, bandwidth, strength."""


def voice(seconds: float, *, f0_hz: float = 120.0, peak: float = 8_000.0, effort: float = 1.0, seed: int = 0) -> Pcm:
    """A voice: harmonics of a moving pitch under three formants, four syllables a second, a little breath noise.

    Args:
        seconds: length.
        f0_hz: mean pitch.
        peak: the largest sample.
        effort: raises the upper harmonics, as vocal effort does; 1.0 is a calm voice.
        seed: another seed is another utterance.
    """
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE_HZ)
    t = np.arange(n) / RATE_HZ
    pitch = f0_hz * (1 + 0.08 * np.sin(2 * np.pi * 0.7 * t + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    x: NDArray[np.float64] = np.zeros(n)
    for k in range(1, int(4_000 / f0_hz)):
        hz = k * f0_hz
        gain = sum(g / (1 + ((hz - centre) / width) ** 2) for centre, width, g in _FORMANTS_HZ)
        x += (gain + 0.02) * (hz / 500) ** (effort - 1.5) * np.sin(k * phase + rng.uniform(0, 6))
    syllables = 0.15 + 0.85 * np.clip(np.sin(2 * np.pi * 4 * t + rng.uniform(0, 6)) + 0.4, 0, None)
    x = x * syllables + rng.normal(0, 0.01, n)
    return np.asarray(np.round(x / max(1e-9, float(np.abs(x).max())) * peak), np.int16)


@cache
def demo_leg(leg: int) -> Pcm:
    """A leg of the demo call, spoken by espeak: Silero does not take `voice` for a voice for long.

    Args:
        leg: 0 begins to speak after 6 s, 1 after 0.6 s.
    """
    audio, rate_hz = soundfile.read(Path(callscope.demo.__file__).parent / "call.ogg", dtype="int16", always_2d=True)
    assert rate_hz == RATE_HZ
    pcm = join(np.ascontiguousarray(audio[:, leg]))
    pcm.flags.writeable = False
    return pcm


def hush(seconds: float, *, seed: int = 0) -> Pcm:
    """A quiet line: noise at about -75 dBFS."""
    return np.asarray(np.round(np.random.default_rng(seed).normal(0, 6, round(seconds * RATE_HZ))), np.int16)


def join(*parts: Pcm) -> Pcm:
    """One after the other, cut to whole 20 ms frames."""
    pcm = np.concatenate(parts)
    return pcm[: len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES]


def records(pcm: Pcm, cuts: list[int] | None = None, *, start: int = 0, last: bool = True) -> list[AudioFrame]:
    """The audio as records.

    Args:
        pcm: whole frames.
        cuts: frame numbers at which a new record begins; None: one record a frame.
        start: media time of the first sample.
        last: the last record ends the stream.
    """
    frames = len(pcm) // FRAME_SAMPLES
    edges = sorted({0, frames, *(range(frames) if cuts is None else cuts)})
    spans = [(a * FRAME_SAMPLES, b * FRAME_SAMPLES) for a, b in pairwise(edges)]
    return [
        AudioFrame(STREAM, seq, start + a, pcm[a:b], last=last and b == len(pcm)) for seq, (a, b) in enumerate(spans)
    ]


def cuts(frames: int) -> st.SearchStrategy[list[int]]:
    """Any grouping of that many frames into records."""
    return st.lists(st.integers(1, max(1, frames - 1)), max_size=frames)
