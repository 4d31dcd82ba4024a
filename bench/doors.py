"""What each door costs: CPU of the gateway per second of audio and leg, and of a connected leg on which nothing comes.

Run `python -m bench.doors [--legs 20] [--seconds 10] [door ...]`. A door is a module `bench/doors_<name>.py`, named in
DOORS, with `settings`, environment settings for the gateway such as `{"ingest__grpc__port": "0"}`, LEGS_A_CALL, and two
coroutines that speak the peer's part for one call:

    async def talk(addresses, call, seconds): LEGS_A_CALL legs of real-time audio, and the end
    async def idle(addresses, call, seconds): connected, and nothing said

`addresses` are those the gateway says that it listens at. The gateway is a process of its own on an own Kafka; its
process time is counted, so other work on the machine disturbs the figures less than it would a clock, but it does.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import re
import sys
from types import ModuleType

import psutil
from rich.console import Console
from rich.table import Table

from callscope import kafka
from callscope.broker import EmbeddedBroker
from callscope.config import child_environment, load

DOORS = (
    "websocket",
    "audiohook",
    "twilio",
    "grpc",
    "webex",
    "audiosocket",
    "chan_websocket",
    "raw_l16",
    "webrtc",
    "webm",
)
LISTENING = re.compile(r"gateway listening on (\S+)")
SETTLE_S = 1.0


async def cost_s(door: ModuleType, part: str, calls: int, seconds: float, bootstrap: str) -> float:
    """The gateway's CPU seconds while so many calls do a part."""
    environment = child_environment(kafka=bootstrap, ingest__port="0", **door.settings)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ingest",
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert process.stderr is not None
    addresses: list[str] = []
    try:
        while not addresses:
            line = (await process.stderr.readline()).decode()
            if not line:
                raise SystemExit("the gateway ended by itself")
            addresses += LISTENING.findall(line)
        draining = asyncio.create_task(_drain(process.stderr, addresses))
        await asyncio.sleep(SETTLE_S)
        meter = psutil.Process(process.pid)
        before = meter.cpu_times()
        await asyncio.gather(*(getattr(door, part)(addresses, f"call-{n}", seconds) for n in range(calls)))
        after = meter.cpu_times()
        draining.cancel()
        return float(after.user + after.system - before.user - before.system)
    finally:
        process.terminate()
        await process.wait()


async def _drain(stderr: asyncio.StreamReader, addresses: list[str]) -> None:
    while line := await stderr.readline():
        addresses += LISTENING.findall(line.decode())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="CPU of the gateway, by door.")
    parser.add_argument("doors", nargs="*", choices=[[], *DOORS], help="all of them, if none is named")
    parser.add_argument("--legs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    table = Table(title=f"{options.legs} legs, {options.seconds:g} s")
    for column in ("door", "ms per second of audio", "ms per second of an idle leg"):
        table.add_column(column)
    console = Console()
    with EmbeddedBroker(load().broker.model_copy(update={"port": None}), ephemeral=True) as broker:
        kafka.ensure_topics(load(kafka=broker.bootstrap))
        for name in options.doors or DOORS:
            door = importlib.import_module(f"bench.doors_{name}")
            row = []
            for part in ("talk", "idle"):
                calls = max(1, options.legs // door.LEGS_A_CALL)
                spent = asyncio.run(cost_s(door, part, calls, options.seconds, broker.bootstrap))
                row.append(f"{1_000 * spent / (calls * door.LEGS_A_CALL * options.seconds):.2f}")
            table.add_row(name, *row)
    console.print(table)


if __name__ == "__main__":
    main()
