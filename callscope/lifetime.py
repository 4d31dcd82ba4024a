"""Child processes that end with their parent, however it ends, in an order the parent decides.

The parent holds the write end of a pipe, the child has the read end as its standard input, and nothing is ever written.
When the parent closes its end, exits or is killed (SIGKILL, out of memory), the kernel closes the pipe, the child
reads the end of file and leaves. This needs no polling and works on every Unix.

Each child has a session of its own: Ctrl-C in the terminal reaches the parent alone, which then stops its children in
the order that loses nothing.

Parent::

    child = lifetime.spawn([sys.executable, "-m", "ingest", "--child"])
    ...
    lifetime.stop(child)

Child, before anything that could block::

    if child: lifetime.end_with_parent()

A program that is not ours and does not watch its standard input gets a guard in between, as in
`callscope/broker/guard.py`.
"""

from __future__ import annotations

import gc
import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final
from weakref import WeakSet

GRACE_S: Final = 10.0
"""How long a process may take to leave by itself after SIGTERM."""

YOUNG_OBJECTS: Final = 50_000
"""Allocations between two runs of the garbage collector; Python's 700 make it run hundreds of times a second here."""

_children: WeakSet[subprocess.Popen[bytes]] = WeakSet()


def spawn(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a child that is to end with this process; end it with `stop`.

    Args:
        argv: program and arguments. The program calls `end_with_parent`, or watches its standard input itself.
        env: its environment, None for this process' own; see `callscope.config.child_environment`.
        cwd: its working directory, None for this process' own.
        stdout: as `subprocess.Popen` has it; None inherits.
        stderr: likewise.
        pass_fds: further descriptors the child is to have.

    Raises:
        OSError: the program cannot be started.
    """
    child = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        env=env,
        cwd=cwd,
        pass_fds=pass_fds,
        start_new_session=True,
        bufsize=0,
    )
    _children.add(child)
    return child


def stop(child: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> int:
    """End a child: SIGTERM, `grace_s` seconds to leave, then SIGKILL. May be called again, and on one that has ended.

    Returns:
        Its exit code; negative is the number of the signal that ended it.
    """
    child.terminate()
    try:
        code = child.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.kill()
        code = child.wait()
    if child.stdin:
        child.stdin.close()
    return code


def end_with_parent(grace_s: float = GRACE_S) -> None:
    """Called once by a child at its start: SIGTERM to itself when its parent is gone, SIGKILL `grace_s` later.

    What SIGTERM does is the program's own affair, as when a supervisor sends it. Afterwards standard input reads as
    empty. Without effect where standard input is not a pipe, that is, when the program was started by hand.
    """
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return
    pipe = os.dup(0)  # not inheritable, so that this process' own children do not get it
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_leave_at_end_of_file, args=(pipe, grace_s), name="end-with-parent", daemon=True).start()


def settle_memory() -> None:
    """Called once by a program when it has loaded what it needs: that is not looked through for garbage any more."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)


def _leave_at_end_of_file(pipe: int, grace_s: float) -> None:
    while os.read(pipe, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    os.kill(os.getpid(), signal.SIGKILL)


def _close_write_ends() -> None:
    """A fork without exec (multiprocessing) copies the write ends; held there, they would outlive this process."""
    for child in _children:
        if child.stdin:
            child.stdin.close()


# Where a program is executed nothing leaks: Python's pipes are not inheritable (PEP 446).
os.register_at_fork(after_in_child=_close_write_ends)
