"""Runs a program that knows nothing of its parent (Java), and ends it when the parent is gone.

Run as a script with nothing but the standard library, so that it starts in no time and depends on no path::

    python -I -S guard.py <grace, s> <folder to remove afterwards, or ""> <program> <argument>...

Standard input is a pipe whose write end only the parent has (see `callscope/lifetime.py`). At its end, or on SIGTERM,
the program gets SIGTERM and, after the grace, SIGKILL; then the folder is removed. The first line on standard output is
the program's process id, or "error: ..." when it cannot be run. The program writes to the guard's standard error and
inherits the other descriptors the guard was given (the lock of the data directory). Exits as the program did.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading


def main(grace_s: float, folder: str, command: list[str]) -> int:
    """Run, watch, end; returns the program's exit code, 128 + n for signal n."""
    leave = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: leave.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, stderr=2, close_fds=False)
    except OSError as error:
        _tell(f"error: {error}")
        return 127
    _tell(str(program.pid))

    def watch_parent() -> None:
        while os.read(0, 1024):
            pass
        leave.set()

    def end_when_told() -> None:
        leave.wait()
        program.terminate()
        try:
            program.wait(grace_s)
        except subprocess.TimeoutExpired:
            program.kill()

    for watch in (watch_parent, end_when_told):
        threading.Thread(target=watch, daemon=True).start()
    code = program.wait()
    if folder and leave.is_set():  # when the program died by itself, the parent wants to read its log first
        shutil.rmtree(folder)
    return code if code >= 0 else 128 - code


def _tell(line: str) -> None:
    """To the parent, which may be gone by now; then nobody needs to know."""
    try:
        os.write(1, f"{line}\n".encode())
    except BrokenPipeError:
        return


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
