"""How long results stay away when a worker is killed: kill -9 under load, until every stream has fresh ones again.

Run `make bench-recovery`, or `python -m bench.recovery [--legs 20] [--kills 3] [--chained] [--alone]`. Starts a system
of its own, sends the demo call on as many legs in real time, subscribes to all results, and kills a worker now and
then. Fresh is a result of audio that arrived after the kill; each stream says several a second, also while nobody
speaks. Printed is the time from the kill to the first fresh result of each stream: of those that the dead worker had,
and of all others.

With `--alone` dead workers are not started again, as where a machine has gone: the others take over when the group has
missed the dead one for `processors.session_timeout_s`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import threading
from importlib.resources import as_file, files
from typing import Any

from rich.console import Console
from rich.table import Table

from callscope import supervisor
from callscope.client import recording, results
from callscope.client.recording import Recording
from callscope.client.sending import send
from callscope.clock import wall_ns
from callscope.config import load
from callscope.supervisor import System

LEGS = ("customer", "agent")
APART_S = 20.0
SETTLE_S = 12.0


class Watch:
    """The newest arrival that each stream had a result of, and since when."""

    def __init__(self) -> None:
        self.killed_ns = 0
        self.fresh_s: dict[str, float] = {}
        self.streams: set[str] = set()

    def kill(self, pid: int) -> None:
        """Now."""
        self.fresh_s = {}
        os.kill(pid, signal.SIGKILL)
        self.killed_ns = wall_ns()

    async def follow(self, system: System) -> None:
        """Take in all results."""
        async with results.subscription(system.addresses.results, kinds=["activity"]) as messages:
            async for message in messages:
                self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] != "activity":
            return
        stream, arrived_ns = message["stream"], message["ledger"]["arrived_ns"]
        self.streams.add(stream)
        if self.killed_ns and arrived_ns > self.killed_ns and stream not in self.fresh_s:
            self.fresh_s[stream] = (wall_ns() - self.killed_ns) / 1e9


def _tend(system: System, stop: threading.Event) -> None:
    while not stop.wait(0.1):
        system.tend()


async def measure(system: System, call: Recording, legs: int, kills: int, again: bool, console: Console) -> None:
    """Load it, kill, print."""
    watch, stop = Watch(), threading.Event()
    tending = threading.Thread(target=_tend, args=(system, stop), daemon=True)
    if again:
        tending.start()
    seconds = SETTLE_S + kills * APART_S
    following = asyncio.create_task(watch.follow(system))
    sending = [
        asyncio.create_task(send(call, system.addresses.gateway, f"call-{n}", LEGS, speed=1.0, limit_s=seconds))
        for n in range(legs // 2)
    ]
    table = Table("killed", "streams", "first s", "median s", "last s", "without")
    workers = [name for name in system.children if name not in ("sink", "gateway")]
    try:
        await asyncio.sleep(SETTLE_S)
        for number in range(kills):
            victim = workers[number % len(workers)]
            watch.kill(system.children[victim].pid)
            await asyncio.sleep(APART_S)
            took = sorted(watch.fresh_s.values())
            late = [s for s in took if s > 1.0]
            for name, times in ((victim, late), ("(others)", [s for s in took if s <= 1.0])):
                if times:
                    row = (times[0], times[len(times) // 2], times[-1])
                    without = len(watch.streams) - len(took) if name == victim else 0
                    table.add_row(name, str(len(times)), *(f"{s:.2f}" for s in row), str(without))
    finally:
        stop.set()
        following.cancel()
        for task in sending:
            task.cancel()
        await asyncio.gather(following, *sending, return_exceptions=True)
    console.print(table)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--legs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--chained", action="store_true")
    parser.add_argument("--alone", action="store_true", help="dead workers are not started again")
    asked = parser.parse_args()
    console = Console()
    with as_file(files("callscope.demo") / "call.ogg") as path:
        call = recording.read(path)
    settings = load(topics={"partitions": 8})
    with supervisor.running(
        settings, chained=asked.chained, ephemeral=True, free_ports=True, say=console.print, workers=asked.workers
    ) as system:
        asyncio.run(measure(system, call, asked.legs, asked.kills, not asked.alone, console))


if __name__ == "__main__":
    main()
