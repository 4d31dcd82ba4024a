from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from callscope.client import recording
from callscope.client.recording import UnreadableRecording


def write(path: Path, seconds: float, rate_hz: int, channels: int) -> Path:
    tone = np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate_hz)) / rate_hz) * 0.5
    soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate_hz)
    return path


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_a_rate_the_gateway_takes_is_left_alone(tmp_path: Path, rate_hz: int) -> None:
    audio = recording.read(write(tmp_path / "call.wav", 1.0, rate_hz, 2))
    assert (audio.rate_hz, audio.channels, audio.name) == (rate_hz, 2, "call")
    assert audio.duration_s == pytest.approx(1.0)


def test_another_rate_is_converted(tmp_path: Path) -> None:
    audio = recording.read(write(tmp_path / "call.flac", 1.0, 22_050, 1))
    assert audio.rate_hz == 16_000
    assert audio.pcm.shape == (16_000, 1)
    assert audio.pcm.dtype == np.int16


def test_what_is_not_audio_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not audio")
    with pytest.raises(UnreadableRecording, match=r"notes\.txt cannot be read as audio"):
        recording.read(tmp_path / "notes.txt")


def test_more_channels_than_legs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRecording, match="has 4 channels"):
        recording.read(write(tmp_path / "surround.wav", 0.1, 16_000, 4))


def test_no_audio_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRecording, match="holds no audio"):
        recording.read(write(tmp_path / "empty.wav", 0.0, 16_000, 1))
