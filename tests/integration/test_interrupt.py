"""Ctrl-C, whenever it comes: nothing is left running, nothing is spilled, and the next start works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from callscope.clock import monotonic
from callscope.config import Settings, child_environment

pytestmark = pytest.mark.integration


def started_by(pid: int) -> dict[int, psutil.Process]:
    try:
        return {child.pid: child for child in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return {}


@pytest.mark.parametrize(
    ("after", "number"),
    [
        ("nothing", signal.SIGINT),
        ("Kafka", signal.SIGINT),
        ("Ready", signal.SIGINT),
        ("Ready", signal.SIGTERM),
    ],
)
def test_an_interrupt_ends_everything_quietly(
    after: str, number: signal.Signals, tmp_path: Path, kafka: Settings
) -> None:
    log = tmp_path / "log"
    environment = child_environment(broker__data_dir=str(tmp_path / "kafka"), ingest__port="0", sink__port="0")
    with log.open("wb") as out:
        system = subprocess.Popen(
            [sys.executable, "-m", "callscope", "up"],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    seen: dict[int, psutil.Process] = {}
    deadline = monotonic() + 60
    while after != "nothing" and after not in log.read_text():
        seen |= started_by(system.pid)
        assert monotonic() < deadline and system.poll() is None, log.read_text()
    seen |= started_by(system.pid)
    os.killpg(system.pid, number)  # as a terminal does: the whole foreground group
    system.wait(30)
    _, alive = psutil.wait_procs(list(seen.values()), timeout=5)
    assert alive == []
    assert "Traceback" not in log.read_text() and "rror" not in log.read_text()
