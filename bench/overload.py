"""What happens when too many call: a load within the limit, half as much again for two minutes, and the load of before.

Run `python -m bench.overload --limit 40 [--seconds 120] [--json]`. `--limit` is the machine's, as `callscope bench`
finds it. Every phase is a step of `callscope bench` on the same running system, so it says what was lost, came twice or
was shed; beside that, when workers began and ceased to leave work out, as a subscriber to system messages was told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
from importlib.resources import as_file, files
from typing import Any

from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import connect

from callscope import clock, supervisor
from callscope.bench.run import run_step
from callscope.config import load
from callscope.lifetime import end_with_parent

RECOVERED_WITHIN_S = 10.0
NORMAL_S = 30.0


class Announcements:
    """What the sink tells of workers that leave work out, and when; a thread of its own."""

    def __init__(self, results: str) -> None:
        self.heard: list[tuple[float, str, tuple[str, ...]]] = []
        """When (monotonic seconds), the worker, and what it leaves out from now on."""
        self._results = results
        threading.Thread(target=lambda: asyncio.run(self._listen()), name="announcements", daemon=True).start()

    async def _listen(self) -> None:
        async with connect(self._results, compression=None) as socket:
            await socket.send('{"type":"subscribe","kinds":["system"]}')
            async for text in socket:
                message = json.loads(text)
                if message["type"] == "system":
                    self.heard.append((clock.monotonic(), message["worker"], tuple(message["shed"])))

    def calm_from(self) -> float | None:
        """When the last worker ceased to leave anything out; None while one does."""
        newest = {worker: (at, shed) for at, worker, shed in self.heard}
        if any(shed for _, shed in newest.values()):
            return None
        return max((at for at, _ in newest.values()), default=0.0)


def main() -> None:
    """Run the three phases and report them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=40, help="legs that the machine carries")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long there are too many")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    end_with_parent()
    notes = Console(stderr=True, highlight=False)
    settings = load()
    phases: list[dict[str, Any]] = []
    with (
        as_file(files("callscope.demo") / "call.ogg") as shipped,
        supervisor.running(settings, chained=False, ephemeral=True, free_ports=True, say=notes.print) as system,
    ):
        announcements = Announcements(system.addresses.results)
        for name, legs, seconds in (
            ("normal", arguments.limit, NORMAL_S),
            ("150 %", arguments.limit * 3 // 2, arguments.seconds),
            ("normal again", arguments.limit, NORMAL_S),
        ):
            notes.print(f"{name}: {legs} legs for {seconds:.0f} s …")
            began = clock.monotonic()
            step = run_step(
                settings, system, legs, seconds, [shipped], 1, [f"{settings.processors.group}-fused"], lambda _: None
            )
            calm = announcements.calm_from()
            phases.append(
                {
                    "phase": name,
                    "announced": sum(bool(shed) for at, _, shed in announcements.heard if at >= began),
                    "calm_after_s": None if calm is None else round(max(0.0, calm - began), 1),
                    **step.as_json(),
                }
            )
    if arguments.json:
        print(json.dumps(phases, indent=2))
        return
    table = Table(
        "phase", "legs", "VAD p50 ms", "VAD p99 ms", "all p99 ms", "lost", "twice", "shed", "announced", "calm after s"
    )
    for phase in phases:
        activity = phase["by_type"]["activity"]
        table.add_row(
            phase["phase"],
            *(str(value) for value in (phase["legs"], activity["p50_ms"], activity["p99_ms"], phase["p99_ms"])),
            *(str(phase[name]) for name in ("lost", "duplicated", "shed", "announced", "calm_after_s")),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
