"""Whether workers grow with the calls that they have served: memory of every process after 100 and after 1,000 calls.

Run `python -m bench.churn [--calls 1000] [--at-once 15]`. Calls of two legs and a few seconds come and go in real time,
with speech on both legs; memory is read when nobody is calling, so what running calls need is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from importlib.resources import as_file, files
from typing import Final

import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table
from websockets.asyncio.client import connect

from callscope import supervisor
from callscope.bench.conversation import converse
from callscope.bench.generator import CHUNK_S, LEGS, voices
from callscope.config import load
from callscope.lifetime import end_with_parent

CALL_S: Final = 4.0
SETTLE_S: Final = 5.0


async def call(gateway: str, call_id: str, chunks: list[bytes], rate_hz: int) -> None:
    """One call, in real time, until the gateway confirms its end."""
    async with connect(gateway, compression=None) as socket:
        hello = {"type": "hello", "call_id": call_id, "encoding": "s16le", "rate_hz": rate_hz, "channels": 2}
        await socket.send(json.dumps({**hello, "legs": list(LEGS)}))
        began = time.monotonic()
        for number, chunk in enumerate(chunks):
            await asyncio.sleep(max(0.0, began + (number + 1) * CHUNK_S - time.monotonic()))
            await socket.send(chunk)
        await socket.send('{"type":"end"}')
        async for text in socket:
            if json.loads(text)["type"] == "ended":
                return
    raise RuntimeError(f"The gateway did not confirm the end of {call_id}")


async def serve(gateway: str, first: int, last: int, at_once: int, recording: str) -> None:
    """Let the calls from `first` to `last` happen, so many at once."""
    ((legs, rate_hz),) = voices([recording])
    chunk = round(rate_hz * CHUNK_S)
    turns = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with turns:
            pcm = converse(legs, rate_hz, CALL_S, seed=number).pcm
            chunks = [pcm[at : at + chunk].tobytes() for at in range(0, len(pcm), chunk)]
            await call(gateway, f"churn-{number:05d}", chunks, rate_hz)

    tasks = [asyncio.create_task(one(number)) for number in range(first, last)]
    for task in track(tasks, f"calls {first + 1} to {last}", console=Console(stderr=True)):
        await task


def resident_mb(pids: dict[str, int]) -> dict[str, float]:
    """Resident memory by process."""
    return {name: psutil.Process(pid).memory_info().rss / 2**20 for name, pid in pids.items()}


def main() -> None:
    """Serve the calls and show the memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--at-once", type=int, default=15, help="calls of two legs at a time")
    arguments = parser.parse_args()
    end_with_parent()
    notes = Console(stderr=True, highlight=False)
    looks: list[tuple[int, dict[str, float]]] = []
    with (
        as_file(files("callscope.demo") / "call.ogg") as shipped,
        supervisor.running(load(), chained=False, ephemeral=True, free_ports=True, say=notes.print) as system,
    ):
        served = 0
        for upto in sorted({100, arguments.calls // 2, arguments.calls}):
            asyncio.run(serve(system.addresses.gateway, served, upto, arguments.at_once, str(shipped)))
            served = upto
            time.sleep(SETTLE_S)
            looks.append((served, resident_mb(system.pids())))
    table = Table("calls served", *looks[0][1])
    for calls, memory in looks:
        table.add_row(str(calls), *(f"{mb:.0f} MB" for mb in memory.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
