from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from processors.stages.detectors import WebRtcDetector
from tests.signals import hush, join, voice

WEBRTC_DATA = Path(__file__).parents[5] / "shared" / "data" / "webrtcvad"


def test_hears_a_voice_and_not_a_quiet_line() -> None:
    detector = WebRtcDetector(2)
    quiet, loud = detector.probabilities(join(hush(0.5))), detector.probabilities(join(voice(1.0)))
    assert not quiet.any()
    assert loud.mean() > 0.9


@pytest.mark.parametrize("hop_ms", [10, 20, 30])
def test_the_same_audio_gives_the_same_decisions_in_any_portions(hop_ms: int) -> None:
    hop = hop_ms * 16
    pcm = join(hush(0.3), voice(0.66), hush(0.3), voice(0.3, seed=1))[: 48 * 480]
    at_once = WebRtcDetector(2, hop).probabilities(pcm)
    detector = WebRtcDetector(2, hop)
    one_by_one = [detector.probabilities(pcm[at : at + hop]) for at in range(0, len(pcm), hop)]
    assert np.array_equal(at_once, np.concatenate(one_by_one))
    assert 0 < at_once.mean() < 1


def test_a_reset_forgets() -> None:
    pcm = join(voice(0.5))
    detector = WebRtcDetector(2)
    first = detector.probabilities(pcm)
    detector.reset()
    assert np.array_equal(detector.probabilities(pcm), first)


def test_a_hop_that_webrtc_cannot_take_is_refused() -> None:
    with pytest.raises(ValueError, match="10, 20 or 30 ms"):
        WebRtcDetector(2, hop=512)


@pytest.mark.skipif(not WEBRTC_DATA.exists(), reason="the recordings are not on this machine")
@pytest.mark.parametrize("mode", range(4))
def test_decides_bit_for_bit_as_the_reference_does(mode: int) -> None:
    pcm = np.fromfile(WEBRTC_DATA / "test-audio.raw", np.int16)
    with (WEBRTC_DATA / "expected.csv").open(newline="") as file:
        expected = {int(row["mode"]): row["decisions_per_30ms_frame"] for row in csv.DictReader(file)}[mode]
    detector = WebRtcDetector(mode, hop=240, rate_hz=8_000)
    heard = detector.probabilities(pcm[: len(pcm) // 240 * 240])
    assert "".join(str(int(p)) for p in heard)[: len(expected)] == expected
