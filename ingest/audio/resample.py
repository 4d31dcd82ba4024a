"""Conversion to 16 kHz, in a stream, by soxr.

Which of soxr's engines does it, and why (2026-11, python-soxr 1.1.0, 20 ms messages; "held" is how much audio that has
arrived has not come out yet):

======== ======================= ================ ==================== =========================
input    engine                  held, min to max flat up to           places a tone
======== ======================= ================ ==================== =========================
8 kHz    fixed ratio, HQ         13 to 115 ms     3.6 kHz              exactly
8 kHz    variable ratio          30 ms, steady    3.6 kHz              exactly
24 kHz   fixed ratio, HQ         6 to 37 ms       7.3 kHz              exactly
24 kHz   variable ratio          10 ms, steady    7.9 kHz              0.1 ms late
44.1 kHz fixed ratio, HQ         6 to 40 ms       7.3 kHz              exactly
48 kHz   fixed ratio, HQ         6 to 37 ms       7.3 kHz              exactly
======== ======================= ================ ==================== =========================

The fixed-ratio engine filters in blocks of a discrete Fourier transform. Upsampling telephone audio, such a block is
100 ms long: that alone would use up the time a result may take. So 8 kHz goes through the variable-ratio engine (at a
ratio that never varies), whose noise of -120 dB is as far below 16 bits; other rates go through the fixed one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

RATE_HZ: Final = 16_000
"""Rate of all audio behind the gateway, Hz."""


class Resampler:
    """One stream's conversion to 16 kHz; its channels stay aligned to the sample.

    Output sample n is the sound at n / 16000 seconds. At 16 kHz the samples pass through unchanged.
    The output does not depend on how the input was cut into pieces.

    Args:
        rate_hz: rate of the input, Hz.
        channels: number of channels, at least 1.
    """

    def __init__(self, rate_hz: int, channels: int) -> None:
        self._channels = channels
        self._stream: soxr.ResampleStream | None = None
        if rate_hz != RATE_HZ:
            # In float32 and rounded here, because soxr dithers int16 output, and then chunking shows in the last bit.
            self._stream = soxr.ResampleStream(
                rate_hz, RATE_HZ, channels, dtype="float32", quality="HQ", vr=rate_hz < RATE_HZ
            )

    def push(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """Convert what can be converted yet.

        Args:
            samples: shape (n, channels).

        Returns:
            Shape (m, channels) at 16 kHz; m may be 0.
        """
        if self._stream is None:
            return samples
        return _to_int16(self._stream.resample_chunk(samples.astype(np.float32)))

    def flush(self) -> NDArray[np.int16]:
        """What is still held, shape (m, channels); the stream's length is then that of the input to half a sample.

        Nothing may be pushed afterwards.
        """
        empty: NDArray[np.int16] = np.zeros((0, self._channels), np.int16)
        if self._stream is None:
            return empty
        return _to_int16(self._stream.resample_chunk(empty.astype(np.float32), last=True))


def _to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.clip(np.rint(samples), -32_768, 32_767).astype(np.int16)
