from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from callscope import lifetime, restarts
from callscope.clock import monotonic
from callscope.supervisor import Addresses, ChildDied, System

NOWHERE = Addresses("", "", "", "", "")


@contextmanager
def running(code: str) -> Iterator[tuple[System, list[str]]]:
    """A system of one process that runs some Python, and what is said of it."""
    said: list[str] = []

    def start(name: str) -> subprocess.Popen[bytes]:
        return lifetime.spawn([sys.executable, "-c", code])

    system = System(NOWHERE, None, start, said.append)
    system.start("worker 1")
    try:
        yield system, said
    finally:
        lifetime.stop(system.children["worker 1"], 5.0)


def tend_until_another_runs(system: System, pid: int) -> None:
    deadline = monotonic() + 10
    while system.pids()["worker 1"] == pid:
        system.tend()
        assert monotonic() < deadline
        time.sleep(0.01)


def test_a_process_that_is_killed_is_started_again_and_that_is_said() -> None:
    with running("import time; time.sleep(60)") as (system, said):
        system.check()
        pid = system.pids()["worker 1"]
        os.kill(pid, signal.SIGKILL)
        tend_until_another_runs(system, pid)
        system.check()
    assert said == ["The worker 1 process ended by itself (killed by SIGKILL); starting it again in 0.0 s"]


def test_one_that_ends_at_every_start_ends_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "DELAYS_S", (0.0, 0.05))
    with running("raise SystemExit(3)") as (system, said):
        with pytest.raises(ChildDied, match=r"ended 3 times in a row soon after it was started \(exit code 3\)"):
            for _ in range(1_000):
                system.tend()
                time.sleep(0.01)
        assert len(said) == 2


def test_who_asks_whether_all_runs_is_told_that_it_does_not() -> None:
    with running("raise SystemExit(3)") as (system, _):
        system.children["worker 1"].wait()
        with pytest.raises(ChildDied, match=r"exit code 3"):
            system.check()
