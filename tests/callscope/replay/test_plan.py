from __future__ import annotations

import json
from pathlib import Path

import pytest

from callscope.config import load
from callscope.errors import BadReplay
from callscope.replay.plan import Leg, Part, PartitionState, Plan, RunFolder, configuration_of

PART = Part(1, 5, 9, 4)
PLAN = Plan("r", "export", "folder", paths=["/x"], folder="/y", calls=["c"], tenant="t", speed=2.0, parts=[PART])


def test_plan_and_state_come_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "all", "r")
    assert not folder.exists()
    folder.write_plan(PLAN)
    assert folder.exists() and folder.plan() == PLAN
    assert folder.state(PART) == PartitionState(5, 5)
    state = PartitionState(8, 6, unreadable=1, legs={"c/customer": Leg(7, 3, 960, 960, digest="d")})
    folder.write_state(1, state)
    assert folder.state(PART) == state


def test_runs_that_are_not_there_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(BadReplay, match=r"holds no run r\. There are none\."):
        RunFolder(tmp_path, "r").plan()
    folder = RunFolder(tmp_path, "there")
    folder.write_plan(PLAN)
    with pytest.raises(BadReplay, match=r"holds no run r\. There are there\."):
        RunFolder(tmp_path, "r").plan()
    (tmp_path / "there" / "partition-1.json").write_text("{")
    with pytest.raises(BadReplay, match="Without that file the partition begins anew"):
        folder.state(PART)
    (tmp_path / "there" / "run.json").write_text(json.dumps({**PLAN.to_json(), "version": 9}))
    with pytest.raises(BadReplay, match="it is of format 9, this Callscope knows 1"):
        folder.plan()


@pytest.mark.parametrize("run", ["", "a/b", "..", "a.b", "x" * 65])
def test_what_is_no_id_of_a_run(run: str, tmp_path: Path) -> None:
    with pytest.raises(BadReplay, match="is no id of a run"):
        RunFolder(tmp_path, run)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadReplay, match=r"cannot be written: .* `--state` names another place"):
        RunFolder(tmp_path / "file", "r").write_plan(PLAN)


def test_the_configuration_is_what_results_depend_on() -> None:
    usual = configuration_of(load())
    assert configuration_of(load(ingest={"port": 1}, processors={"overload": {"shed": False}})) == usual
    assert configuration_of(load(processors={"detect": {"on_threshold": 0.6}})) != usual
    assert configuration_of(load(processors={"infer": {"enabled": ["arousal"]}})) != usual
