from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from callscope.config import load
from callscope.errors import BadReplay
from callscope.replay.plan import Plan, RunFolder
from callscope.replay.run import Progress, carry_out, draw_up, shared_out
from tests.signals import hush, join, voice


@given(st.dictionaries(st.integers(0, 31), st.integers(0, 1_000), max_size=16), st.integers(1, 8))
def test_partitions_are_shared_out_evenly(left: dict[int, int], workers: int) -> None:
    shares = shared_out(left, workers)
    assert Counter(number for share in shares for number in share) == Counter(n for n in left if left[n])
    assert len(shares) == min(workers, sum(map(bool, left.values())))
    loads = [sum(left[number] for number in share) for share in shares]
    assert max(loads, default=0) - min(loads, default=0) <= max(left.values(), default=0)


def test_the_rate() -> None:
    assert Progress(10, 20, 300.0, 2.0).rate == 150.0
    assert Progress(0, 20, 0.0, 0.0).rate == 0.0


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "one.wav"
    soundfile.write(path, np.stack([join(hush(0.5), voice(1.0), hush(0.5))] * 2, axis=1), 16_000)
    return path


def test_settings_may_not_change_under_a_run(recording: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "r")
    plan = Plan("r", "files", "none", paths=[str(recording)], legs=["customer", "agent"])
    draw_up(load(), plan, folder)
    with pytest.raises(BadReplay, match=r"The settings under \[processors\] are not those that run r began with"):
        carry_out(load(processors={"detect": {"on_threshold": 0.9}}), folder, 1)
    with pytest.raises(BadReplay, match="There is a run r already"):
        draw_up(load(), plan, folder)


def test_a_folder_for_results_must_be_empty(recording: Path, tmp_path: Path) -> None:
    plan = Plan("r", "files", "folder", paths=[str(recording)], legs=["customer", "agent"], folder=str(tmp_path))
    with pytest.raises(BadReplay, match=r"is not empty\. Name a new folder"):
        draw_up(load(), plan, RunFolder(tmp_path, "r"))


def test_what_fails_in_a_worker_is_said(recording: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "r")
    draw_up(load(), Plan("r", "files", "none", paths=[str(recording)], legs=["customer", "agent"]), folder)
    recording.write_bytes(b"no audio any more")
    with pytest.raises(
        BadReplay, match=r"one\.wav cannot be read as audio .*`callscope replay --resume r --state .*` goes on"
    ):
        carry_out(load(), folder, 1)
