import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from callscope import lifetime

OBEDIENT = (
    "from callscope.lifetime import end_with_parent; end_with_parent({grace}); {first}; "
    "print('ready', flush=True); {then}"
)
SLEEP = "import time; time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def child(then: str = SLEEP, grace: float = 10.0, first: str = "pass") -> subprocess.Popen[bytes]:
    program = OBEDIENT.format(grace=grace, first=first, then=then)
    started = lifetime.spawn([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert started.stdout
    with started.stdout as told:
        assert told.readline() == b"ready\n"
    return started


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_the_end_of_the_pipe_is_sigterm() -> None:
    process = child()
    assert process.stdin
    process.stdin.close()
    assert process.wait(5) == -signal.SIGTERM


def test_and_sigkill_after_the_grace() -> None:
    process = child(first=DEAF, grace=0.2)
    assert process.stdin
    process.stdin.close()
    assert process.wait(5) == -signal.SIGKILL


def test_stop_is_idempotent_and_forces_what_does_not_leave() -> None:
    process = child()
    assert lifetime.stop(process) == lifetime.stop(process) == -signal.SIGTERM
    stubborn = child(first=DEAF)
    assert lifetime.stop(stubborn, grace_s=0.2) == -signal.SIGKILL


def test_a_child_has_its_own_session_and_reads_nothing() -> None:
    process = child("import sys, os; assert sys.stdin.read() == ''; assert os.getsid(0) == os.getpid()")
    assert process.wait(10) == 0
    lifetime.stop(process)


def test_without_effect_where_standard_input_is_no_pipe() -> None:
    script = OBEDIENT.format(grace=0, first="pass", then="import time; time.sleep(0.3)")
    done = subprocess.run([sys.executable, "-c", script], stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0


def test_a_killed_parent_takes_its_child_along_though_others_inherited_from_it(tmp_path: Path) -> None:
    """The write end must be nowhere else: not in a sibling, not in a child forked without exec."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import multiprocessing, os, subprocess, sys, time\n"
        "from callscope import lifetime\n"
        f"command = [sys.executable, '-c', {OBEDIENT.format(grace=5, first='pass', then=SLEEP)!r}]\n"
        "child = lifetime.spawn(command, stdout=subprocess.DEVNULL)\n"
        "sibling = subprocess.Popen(['sleep', '60'], close_fds=False)\n"
        "forked = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))\n"
        "forked.start()\n"
        "time.sleep(0.5)\n"
        "print(child.pid, sibling.pid, forked.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid, *others = map(int, parent.stdout.readline().split())
        parent.kill()
    try:
        assert gone_within(pid, 5)
        assert all(psutil.pid_exists(other) for other in others)
    finally:
        for other in others:
            os.kill(other, signal.SIGKILL)
