"""A source's bytes to canonical audio: decoded, its channels apart, at 16 kHz, in whole 20 ms frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingest.audio.framing import AudioFormat, Framer, SampleReader
from ingest.audio.resample import Resampler


class CanonicalAudio:
    """One source's conversion. The frames do not depend on how the bytes were cut into pieces.

    Args:
        audio_format: how the source writes its audio.
    """

    def __init__(self, audio_format: AudioFormat) -> None:
        self._reader = SampleReader(audio_format)
        self._resampler = Resampler(audio_format.rate_hz, audio_format.channels)
        self._framer = Framer(audio_format.channels)

    @property
    def incomplete_bytes(self) -> int:
        """Bytes that wait for the rest of their sample; more than 0 at the end means the source stopped inside one."""
        return self._reader.incomplete_bytes

    def push(self, data: bytes) -> NDArray[np.int16]:
        """The frames that `data` completes, shape (k * 320, channels) at 16 kHz; k may be 0."""
        return self._framer.push(self._resampler.push(self._reader.push(data)))

    def flush(self) -> tuple[NDArray[np.int16], int]:
        """What is left, the last frame filled up with silence; nothing may be pushed afterwards.

        Returns:
            Frames of shape (k * 320, channels), and how many samples at the end are silence the source did not send.
        """
        frames = self._framer.push(self._resampler.flush())
        last, padded = self._framer.flush()
        return np.concatenate((frames, last)), padded
