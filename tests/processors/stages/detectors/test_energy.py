from __future__ import annotations

import numpy as np
import pytest

from processors.records import Pcm
from processors.stages.detectors import EnergyDetector

HOP = 320


def noise(dbfs: float, seconds: float) -> Pcm:
    """White noise of that level."""
    deviation = 32_768 * 10 ** (dbfs / 20)
    return np.asarray(np.random.default_rng(0).normal(0, deviation, round(seconds * 16_000)).round(), np.int16)


@pytest.mark.parametrize(("dbfs", "speech"), [(-35.0, True), (-45.0, False)])
def test_on_a_quiet_line_speech_is_what_is_louder_than_the_threshold(dbfs: float, speech: bool) -> None:
    heard = EnergyDetector(-40.0).probabilities(np.concatenate((noise(-75, 1), noise(dbfs, 0.5))))
    assert (heard[:50] < 0.01).all()
    assert ((heard[50:] >= 0.5) == speech).all()


def test_on_a_noisy_line_the_floor_raises_the_threshold() -> None:
    detector = EnergyDetector(-40.0, margin_db=8)
    noisy = detector.probabilities(noise(-35, 30))
    assert noisy[0] > 0.5  # nothing is known of the line yet
    assert (noisy[-500:] < 0.5).all()
    assert (detector.probabilities(noise(-20, 0.5)) > 0.5).all()
    assert (detector.probabilities(noise(-35, 0.5)) < 0.5).all()


def test_the_floor_falls_back_quickly() -> None:
    detector = EnergyDetector(-40.0)
    detector.probabilities(noise(-30, 30))
    detector.probabilities(noise(-75, 0.2))
    assert (detector.probabilities(noise(-35, 0.2)) > 0.5).all()


def test_digital_silence_is_silence() -> None:
    assert (EnergyDetector().probabilities(np.zeros(5 * HOP, np.int16)) < 1e-6).all()


def test_portions_and_a_reset() -> None:
    pcm = np.concatenate([noise(level, 0.2) for level in (-70, -20, -50, -30)])
    at_once = EnergyDetector().probabilities(pcm)
    detector = EnergyDetector()
    for _ in range(2):
        parts = [detector.probabilities(pcm[at : at + 2 * HOP]) for at in range(0, len(pcm), 2 * HOP)]
        assert np.concatenate(parts).tobytes() == at_once.tobytes()
        detector.reset()
