import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from callscope import lifetime
from callscope.broker import guard


def guarded(*command: str, grace_s: float = 5.0, folder: str = "") -> tuple[subprocess.Popen[bytes], str]:
    process = lifetime.spawn(
        [sys.executable, "-I", "-S", guard.__file__, str(grace_s), folder, *command], stdout=subprocess.PIPE
    )
    assert process.stdout
    with process.stdout as told:
        return process, told.readline().decode().strip()


def test_the_program_ends_with_the_pipe_and_its_folder_goes(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    process, pid = guarded("sleep", "60", folder=str(folder))
    assert psutil.Process(int(pid)).name() == "sleep"
    assert process.stdin
    process.stdin.close()
    assert process.wait(5) == 128 + signal.SIGTERM
    assert not psutil.pid_exists(int(pid))
    assert not folder.exists()


def test_a_deaf_program_is_killed_after_the_grace() -> None:
    process, _ = guarded("sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60", grace_s=0.2)
    time.sleep(0.3)  # the trap is in place
    lifetime.stop(process)
    assert process.returncode == 128 + signal.SIGKILL


def test_sigint_and_sigterm_to_the_guard() -> None:
    process, pid = guarded("sleep", "60")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert psutil.pid_exists(int(pid))
    assert lifetime.stop(process) == 128 + signal.SIGTERM


def test_the_exit_code_is_the_programs_and_a_folder_it_died_in_is_kept(tmp_path: Path) -> None:
    process, _ = guarded("sh", "-c", "exit 3", folder=str(tmp_path))
    assert process.wait(5) == 3
    assert tmp_path.exists()
    lifetime.stop(process)


def test_a_program_that_cannot_run_is_an_error_not_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    process, answer = guarded("/nowhere/java")
    assert answer.startswith("error: ")
    assert process.wait(5) == 127
    assert capfd.readouterr().err == ""
    lifetime.stop(process)
