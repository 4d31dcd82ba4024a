"""What AudioSocket, chan_websocket and raw L16 cost the gateway: CPU per second of audio, and of a connection at rest.

`python -m bench.doors_listening [--legs 20] [--seconds 20]`: an embedded Kafka, the gateway as a process of its own,
and the simulators here, which send in real time. CPU is the gateway process' own, user and system, with librdkafka's
threads, less what the process takes without any connection. A leg at rest is connected and named, and sends nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import uuid4

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from callscope.broker import EmbeddedBroker
from callscope.broker.ports import free_ports
from callscope.client.pacing import at_rate
from callscope.client.recording import Recording
from callscope.config import child_environment, load
from callscope.kafka import ensure_topics
from callscope.simulate import audiosocket, chan_websocket, raw_l16

WARM_S = 3.0


async def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="CPU of the doors that only listen.")
    parser.add_argument("--legs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    broker = EmbeddedBroker(load().broker.model_copy(update={"port": None}), ephemeral=True)
    broker.start()
    web, audio = free_ports(2)
    try:
        ensure_topics(load(kafka=broker.bootstrap))
        gateway = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ingest",
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=child_environment(
                kafka=broker.bootstrap,
                ingest__port=str(web),
                ingest__audiosocket_port=str(audio),
                ingest__idle_timeout_s="3600",
            ),
        )
        try:
            await _measure_all(psutil.Process(gateway.pid), web, audio, options.legs, options.seconds)
        finally:
            gateway.terminate()
            await gateway.wait()
    finally:
        broker.stop()


async def _measure_all(process: psutil.Process, web: int, audio: int, legs: int, seconds: float) -> None:
    await _until_open(web)
    await _until_open(audio)
    wide = _speech(seconds + 2 * WARM_S)
    narrow = at_rate(wide, 8_000)
    host = "127.0.0.1"

    async def over_audiosocket(recording: Recording, _: str) -> None:
        await audiosocket.send(recording, host, audio, uuid4())

    def over_chan_websocket(codec: str) -> Callable[[Recording, str], Awaitable[None]]:
        async def send(recording: Recording, call: str) -> None:
            await chan_websocket.send_call(recording, f"ws://{host}:{web}/asterisk", call, ("customer",), codec=codec)

        return send

    async def over_jambonz(recording: Recording, call: str) -> None:
        await raw_l16.send_call(recording, f"ws://{host}:{web}", "jambonz", call, ("customer",))

    table = Table(title=f"{legs} legs, {seconds:g} s, 20 ms messages")
    table.add_column("door")
    table.add_column("CPU, ms per second of audio", justify="right")
    console = Console()
    base = await _cpu(process, seconds)
    console.print(f"the gateway without a connection: {1_000 * base / seconds:.2f} ms per second")
    for name, recording, send in (
        ("AudioSocket, 8 kHz", narrow, over_audiosocket),
        ("AudioSocket, 16 kHz", wide, over_audiosocket),
        ("chan_websocket, ulaw", narrow, over_chan_websocket("ulaw")),
        ("chan_websocket, slin16", wide, over_chan_websocket("slin16")),
        ("raw L16 (jambonz), 16 kHz", wide, over_jambonz),
    ):
        calls = [asyncio.ensure_future(send(recording, f"bench-{uuid4().hex}")) for _ in range(legs)]
        await asyncio.sleep(WARM_S)
        spent = await _cpu(process, seconds) - base
        table.add_row(name, f"{1_000 * spent / seconds / legs:.2f}")
        await asyncio.gather(*calls)
    rest = await _at_rest(audio, legs, lambda: _cpu(process, seconds))
    table.add_row("AudioSocket, a leg at rest (per second)", f"{1_000 * (rest - base) / seconds / legs:.3f}")
    console.print(table)


async def _at_rest(port: int, legs: int, measure: Callable[[], Awaitable[float]]) -> float:
    """What `measure` says while so many legs are connected, have sent a little, and now send nothing."""
    writers = []
    for _ in range(legs):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(audiosocket.packet(0x01, uuid4().bytes) + audiosocket.packet(0x10, bytes(320)))
        writers.append(writer)
    await asyncio.sleep(WARM_S)
    measured = await measure()
    for writer in writers:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return measured


async def _cpu(process: psutil.Process, seconds: float) -> float:
    before = process.cpu_times()
    await asyncio.sleep(seconds)
    after = process.cpu_times()
    return float(after.user - before.user + after.system - before.system)


async def _until_open(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.1)


def _speech(seconds: float) -> Recording:
    """Noise of the level of speech: nothing here looks at what is said."""
    samples = np.random.default_rng(0).normal(0, 1_000, (round(seconds * 16_000), 1))
    return Recording("noise", samples.round().astype(np.int16), 16_000)


if __name__ == "__main__":
    asyncio.run(main())
