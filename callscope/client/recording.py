"""Audio files as a gateway client sends them: 16-bit samples, one leg a channel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from callscope.errors import CallscopeError

GATEWAY_RATES_HZ = (8_000, 16_000, 24_000, 44_100, 48_000)
"""Rates the gateway takes; a file of another rate is converted to 16 kHz before it is sent."""


class UnreadableRecording(CallscopeError):
    """A file that is not audio, or has more channels than a call has legs."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A call on disk.

    Attributes:
        name: the file's name without its folder and ending.
        pcm: int16, shape (samples, channels), 1 or 2 channels.
        rate_hz: one of `GATEWAY_RATES_HZ`.
    """

    name: str
    pcm: NDArray[np.int16]
    rate_hz: int

    @property
    def channels(self) -> int:
        """1 or 2."""
        return int(self.pcm.shape[1])

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return len(self.pcm) / self.rate_hz


def read(path: Path) -> Recording:
    """Read any format libsndfile knows: WAV, FLAC, Ogg, MP3, AIFF.

    Raises:
        UnreadableRecording: what is wrong with the file, and what would do.
    """
    try:
        pcm, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise UnreadableRecording(
            f"{path} cannot be read as audio ({error}). WAV, FLAC, Ogg and MP3 files will do."
        ) from error
    if pcm.shape[1] > 2:
        raise UnreadableRecording(f"{path} has {pcm.shape[1]} channels; a call has one (mono) or two (one leg each).")
    if not len(pcm):
        raise UnreadableRecording(f"{path} holds no audio.")
    if rate_hz not in GATEWAY_RATES_HZ:
        pcm, rate_hz = soxr.resample(pcm, rate_hz, 16_000), 16_000
    return Recording(path.stem, np.ascontiguousarray(pcm), int(rate_hz))


def resampled(recording: Recording, rate_hz: int) -> NDArray[np.int16]:
    """A recording's samples at another rate, shape (n, channels): the same ones each time.

    soxr would dither 16-bit samples by a random sequence, and a codec then makes other packets of them each time.
    """
    if recording.rate_hz == rate_hz:
        return recording.pcm
    samples = soxr.resample(recording.pcm.astype(np.float32), recording.rate_hz, rate_hz)
    converted: NDArray[np.int16] = np.clip(np.rint(samples), -32_768, 32_767).astype(np.int16)
    return converted
