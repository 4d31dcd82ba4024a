"""WebRTC's voice-activity detector.

Its models of noise and speech adapt for ever, so that what it says would depend on all audio since the stream began. It
is renewed now and then (`processors.stages.detectors.renewal`), as an existing system is that is started again.
"""

from __future__ import annotations

import math

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from processors.records import FRAME_SAMPLES, RATE_HZ, Pcm
from processors.stages.detectors.renewal import Birth, Renewal, Step

RENEW_AFTER_S = 60.0
"""Models older than that are renewed at the next silence,"""
RENEW_ANYWAY_AFTER_S = 120.0
"""and these without waiting for any."""
SILENT_S = 0.3
"""Silence: so long no hop was speech."""
WARM_UP_S = 10.0
"""Fresh models take over when they have heard so much."""


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
        self._renewal = Renewal(
            *(math.ceil(s * rate_hz / hop) for s in (RENEW_AFTER_S, RENEW_ANYWAY_AFTER_S, SILENT_S, WARM_UP_S))
        )
        self.reset()

    def probabilities(self, pcm: Pcm) -> NDArray[np.float64]:
        """1.0 for each hop it takes for speech, else 0.0; see `Detector`."""
        raw = pcm.tobytes()
        size = self.hop * pcm.itemsize
        return np.array([self._judge(raw[at : at + size]) for at in range(0, len(raw), size)], np.float64)

    def reset(self) -> None:
        """Start afresh; the library has no reset, and a new instance costs microseconds."""
        self._vad = webrtcvad.Vad(self._aggressiveness)
        self._young: webrtcvad.Vad | None = None
        self._renewal.begin()

    def birth(self) -> Birth:
        """See `Detector`."""
        return Birth(self._renewal.age_hops)

    def begin(self, birth: Birth, before: Pcm) -> None:
        """See `Detector`."""
        self.reset()

    def _judge(self, hop: bytes) -> bool:
        voiced = bool(self._vad.is_speech(hop, self._rate_hz))
        if self._young is not None:
            self._young.is_speech(hop, self._rate_hz)
        match self._renewal.heard(silent=not voiced):
            case Step.BEGIN:
                self._young = webrtcvad.Vad(self._aggressiveness)
            case Step.TAKE_OVER:
                self._vad, self._young = self._young, None
        return voiced
