"""Bytes of any chunking to samples by channel, and samples of any chunking to whole 20 ms frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ingest.audio.g711 import decode_a_law, decode_mu_law
from ingest.audio.opus import OpusDecoder

FRAME_SAMPLES: Final = 320
"""The canonical frame: 20 ms at 16 kHz."""

Encoding: TypeAlias = Literal["s16le", "mulaw", "alaw", "opus"]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How a source writes its audio.

    Attributes:
        encoding: signed 16-bit little-endian; G.711; or Opus, whose packets are never cut: each is a piece of its own.
        rate_hz: samples a second and channel.
        channels: interleaved channels, 1 or more.
    """

    encoding: Encoding
    rate_hz: int
    channels: int

    @property
    def step_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * (2 if self.encoding == "s16le" else 1)


class SampleReader:
    """Bytes to samples; a sample that is split between two pieces is kept until the rest comes."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._format = audio_format
        self._rest = b""
        self._opus = OpusDecoder() if audio_format.encoding == "opus" else None

    @property
    def incomplete_bytes(self) -> int:
        """How many bytes wait for the rest of their sample."""
        return len(self._rest)

    def drop_incomplete(self) -> None:
        """Forget them: the rest will not come."""
        self._rest = b""

    def push(self, data: bytes) -> NDArray[np.int16]:
        """All samples that are complete, shape (n, channels); n may be 0.

        Raises:
            BadAudio: what should be an Opus packet is none.
        """
        if self._opus is not None:
            return self._opus.push(data).reshape(-1, 1)
        if self._rest:
            data = self._rest + data
        whole = len(data) - len(data) % self._format.step_bytes
        self._rest = data[whole:]
        if self._rest:
            data = data[:whole]
        samples: NDArray[np.int16]
        match self._format.encoding:
            case "s16le":
                samples = np.frombuffer(data, "<i2")
            case "mulaw":
                samples = decode_mu_law(np.frombuffer(data, np.uint8))
            case _:
                samples = decode_a_law(np.frombuffer(data, np.uint8))
        return samples.reshape(-1, self._format.channels)


class Framer:
    """Samples to whole frames; what does not fill one is kept."""

    def __init__(self, channels: int) -> None:
        self._rest: NDArray[np.int16] = np.zeros((0, channels), np.int16)

    @property
    def wanting(self) -> int:
        """Samples that the started frame wants; 0 if none is started."""
        return -len(self._rest) % FRAME_SAMPLES

    def push(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """All frames that are complete.

        Args:
            samples: shape (n, channels).

        Returns:
            Shape (k * 320, channels); k may be 0.
        """
        if len(self._rest):
            samples = np.concatenate((self._rest, samples))
        whole = len(samples) - len(samples) % FRAME_SAMPLES
        self._rest = samples[whole:]
        return samples[:whole]

    def flush(self) -> tuple[NDArray[np.int16], int]:
        """The last frame, filled up with silence.

        Returns:
            The frame, shape (320, channels), or (0, channels) where nothing was left; and how many of its samples are
            silence that the source did not send.
        """
        rest, self._rest = self._rest, self._rest[:0]
        if not len(rest):
            return rest, 0
        padded = FRAME_SAMPLES - len(rest)
        return np.pad(rest, ((0, padded), (0, 0))), padded
