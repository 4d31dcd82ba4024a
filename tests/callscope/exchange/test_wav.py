from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from callscope.exchange import wav
from callscope.exchange.wav import LegFiles, safe_name, stereo
from callscope.streams import StreamId
from schemas.v1.audio_pb2 import AudioFrame


def frame(start: int, samples: int = 320, *, leg: str = "agent", last: bool = False) -> AudioFrame:
    pcm = (np.arange(start, start + samples) % 30_000).astype("<i2")
    return AudioFrame(call_id="c", leg=leg, start=start, pcm=pcm.tobytes(), last=last)


@given(st.text(max_size=30))
def test_no_name_leads_elsewhere(name: str) -> None:
    safe = safe_name(name)
    assert "/" not in safe and "\\" not in safe and "\0" not in safe and safe not in (".", "..")


def test_names_that_are_fine_stay() -> None:
    assert safe_name("call-1@x.example+2") == "call-1@x.example+2"
    assert safe_name("..") == "%2E%2E" and safe_name("a/../b") == "a%2F..%2Fb"


def test_audio_that_comes_again_is_written_once(tmp_path: Path) -> None:
    files = LegFiles(tmp_path)
    for one in (frame(0), frame(0), frame(160), frame(960, last=True), frame(320)):
        files.add(one)
    files.close()
    pcm, _ = soundfile.read(tmp_path / "c" / "agent.wav", dtype="int16")
    assert pcm[:480].tolist() == list(range(480))
    assert not pcm[480:960].any() and pcm[960:].tolist() == list(range(960, 1_280))
    leg = files.legs[StreamId("c", "agent")]
    assert (leg.gaps, leg.gap_samples, leg.records, leg.ended) == (1, 480, 5, True)


def test_more_streams_than_files_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav, "_OPEN_FILES", 2)
    files = LegFiles(tmp_path)
    for start in (0, 320, 640):
        for leg in "abcde":
            files.add(frame(start, leg=leg))
    files.close()
    for leg in "abcde":
        assert soundfile.read(tmp_path / "c" / f"{leg}.wav", dtype="int16")[0].tolist() == list(range(960))


def test_a_media_time_that_cannot_be_does_not_fill_the_disk(tmp_path: Path) -> None:
    files = LegFiles(tmp_path)
    files.add(frame(0))
    files.add(frame(2**50))
    files.close()
    assert files.legs[StreamId("c", "agent")].cut
    assert soundfile.info(tmp_path / "c" / "agent.wav").frames == 320


def test_two_legs_of_different_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(100_000, 5, np.int16), 16_000)
    soundfile.write(tmp_path / "b.wav", np.full(70_000, 7, np.int16), 16_000)
    stereo([tmp_path / "a.wav", tmp_path / "b.wav"], tmp_path / "both.wav")
    both, _ = soundfile.read(tmp_path / "both.wav", dtype="int16")
    assert both.shape == (100_000, 2) and (both[:, 0] == 5).all()
    assert (both[:70_000, 1] == 7).all() and not both[70_000:, 1].any()
    assert [path.name for path in tmp_path.iterdir()] == ["both.wav"]
