"""WebRTC's voice-activity detector."""

from __future__ import annotations

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from processors.records import FRAME_SAMPLES, RATE_HZ, Pcm


class WebRtcDetector:
    """Gaussian mixtures over six sub-band energies, below 4 kHz; decides, bit for bit as the reference does.

    Args:
        aggressiveness: 0 (least) to 3, how readily it calls a hop non-speech.
        hop: samples in 10, 20 or 30 ms.
        rate_hz: 8000, 16000, 32000 or 48000.
    """

    name = "webrtc"

    def __init__(self, aggressiveness: int = 2, hop: int = FRAME_SAMPLES, rate_hz: int = RATE_HZ) -> None:
        if not webrtcvad.valid_rate_and_frame_length(rate_hz, hop):
            raise ValueError(f"WebRTC's detector takes 10, 20 or 30 ms at a time, not {hop} samples at {rate_hz} Hz")
        self.hop = hop
        self._aggressiveness = aggressiveness
        self._rate_hz = rate_hz
        self.reset()

    def probabilities(self, pcm: Pcm) -> NDArray[np.float64]:
        """1.0 for each hop it takes for speech, else 0.0; see `Detector`."""
        raw = pcm.tobytes()
        size = self.hop * pcm.itemsize
        return np.array(
            [self._vad.is_speech(raw[at : at + size], self._rate_hz) for at in range(0, len(raw), size)], np.float64
        )

    def reset(self) -> None:
        """Start afresh; the library has no reset, and a new instance costs microseconds."""
        self._vad = webrtcvad.Vad(self._aggressiveness)
