"""Speech is what is loud: a level threshold over an adaptive noise floor."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from processors.records import FRAME_SAMPLES, RATE_HZ, Pcm
from processors.stages.detectors.renewal import Birth

_SILENCE_DBFS = -100.0
_FLOOR_RISES_DB_PER_S = 3.0
_FLOOR_FALLS_BY = 0.5
"""Share of the way down to a lower level that the floor goes in a hop."""
_DB_PER_UNIT = 3.0
"""Steepness of the probability: this far above the threshold it is 0.73, three times as far 0.95."""


class EnergyDetector:
    """Compares each hop's level with a threshold that a noisy line raises.

    The noise floor falls quickly to what is quieter and rises slowly under what is louder, so that it settles on the
    noise between words. The threshold is `threshold_dbfs`, or `margin_db` above the floor where that is higher; at
    the threshold the probability is 0.5.

    Args:
        threshold_dbfs: level from which a hop is speech on a quiet line, dB re full scale.
        margin_db: how far above the floor speech is at least.
        hop: samples a judgement is about.
        rate_hz: of the audio.
    """

    name = "energy"

    def __init__(
        self,
        threshold_dbfs: float = -40.0,
        margin_db: float = 8.0,
        hop: int = FRAME_SAMPLES,
        rate_hz: int = RATE_HZ,
    ) -> None:
        self.hop = hop
        self._threshold_dbfs = threshold_dbfs
        self._margin_db = margin_db
        self._rise_db = _FLOOR_RISES_DB_PER_S * hop / rate_hz
        self.reset()

    def probabilities(self, pcm: Pcm) -> NDArray[np.float64]:
        """See `Detector`."""
        wide = pcm.reshape(-1, self.hop).astype(np.int64)
        energies = (wide * wide).sum(axis=1).tolist()  # in integers: exact in any order
        return np.array([self._judge(energy) for energy in energies], np.float64)

    def reset(self) -> None:
        """Forget the noise floor."""
        self._floor_dbfs = _SILENCE_DBFS

    def birth(self) -> Birth:
        """See `Detector`: the noise floor is all there is."""
        return Birth(0, floor_dbfs=self._floor_dbfs)

    def begin(self, birth: Birth, before: Pcm) -> None:
        """See `Detector`."""
        self.reset()
        if birth.floor_dbfs is not None:
            self._floor_dbfs = birth.floor_dbfs

    def _judge(self, energy: int) -> float:
        level = 10 * math.log10(energy / self.hop / 32_768**2) if energy else _SILENCE_DBFS
        threshold = max(self._threshold_dbfs, self._floor_dbfs + self._margin_db)
        if level < self._floor_dbfs:
            self._floor_dbfs += (level - self._floor_dbfs) * _FLOOR_FALLS_BY
        else:
            self._floor_dbfs = min(level, self._floor_dbfs + self._rise_db)
        return 1 / (1 + math.exp((threshold - level) / _DB_PER_UNIT))
