from __future__ import annotations

import asyncio
import http.server
import subprocess
import sys
import threading
import time

import pytest

from callscope.probe import is_well
from callscope.watchdog import BEAT_S, EXIT_CODE, LoopBeat, Patience, Watchdog


def test_only_what_stands_all_the_time_counts() -> None:
    patience = Patience(3)
    assert patience.look({"a": "a stands", "b": "b stands"}) is None
    assert patience.look({"a": "a stands"}) is None
    assert patience.longest == 2
    assert patience.look({"b": "b stands", "c": "c stands"}) is None
    assert patience.look({"b": "b stands"}) is None
    assert patience.look({"b": "b still stands", "c": "c stands"}) == "b still stands"


async def test_a_loop_that_runs_is_not_complained_of() -> None:
    beat = LoopBeat()
    beating = asyncio.create_task(beat.run())
    await asyncio.sleep(0)
    assert beat.check() == {}
    assert beat.check() == {"event loop": "the event loop hangs"}
    await asyncio.sleep(2 * BEAT_S)
    assert beat.check() == {}
    beating.cancel()


def test_what_hangs_is_ended_and_what_does_not_is_left_alone() -> None:
    ended = threading.Event()
    hangs = threading.Event()
    watchdog = Watchdog(0.2, [lambda: {"it": "it hangs"} if hangs.is_set() else {}], ended.set)
    watchdog.start()
    assert not ended.wait(0.5)
    assert watchdog.is_content
    hangs.set()
    assert ended.wait(10)
    assert not watchdog.is_content


def test_no_patience_is_no_watchdog() -> None:
    ended = threading.Event()
    watchdog = Watchdog(0, [lambda: {"it": "it hangs"}], ended.set)
    watchdog.start()
    assert not ended.wait(0.2)


HANGING = """
import asyncio, time
from callscope import watchdog
beat = watchdog.LoopBeat()
async def main():
    beating = asyncio.create_task(beat.run())
    await asyncio.sleep(0.1)
    watchdog.Watchdog(3.0, [beat.check]).start()
    await asyncio.sleep(1.0)
    print("runs", flush=True)
    time.sleep(60)
asyncio.run(main())
"""


def test_a_program_whose_event_loop_hangs_ends_and_says_why() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, timeout=30, check=False)
    assert ended.returncode == EXIT_CODE
    assert ended.stdout == b"runs\n"
    assert b"the event loop hangs; it is safe to start it again" in ended.stderr


@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False)])
def test_a_probe_tells_a_good_answer_from_a_bad_one(status: int, well: bool) -> None:
    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert is_well(f"http://127.0.0.1:{server.server_port}/readyz") is well
    finally:
        server.shutdown()
        server.server_close()
    assert not is_well(f"http://127.0.0.1:{server.server_port}/readyz"), "nobody is there any more"


def test_time_passes_by_looks_not_by_the_clock() -> None:
    """A program that is stopped as a whole is not ended when it goes on."""
    ended, looks = threading.Event(), iter([{}, {"it": "stands"}, {}])

    def check() -> dict[str, str]:
        found = next(looks, {})
        if found:
            time.sleep(0.6)  # as long as twelve looks
        return found

    watchdog = Watchdog(0.3, [check], ended.set)
    watchdog.start()
    assert not ended.wait(1.5)
    watchdog.stop()
