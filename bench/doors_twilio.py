"""What a leg by Twilio Media Streams costs the gateway: CPU milliseconds per second of audio and leg, and when idle.

Run `python -m bench.doors_twilio [--calls 20] [--seconds 20]`. The gateway runs as a process of its own on a real
Kafka; its user and system time is counted. Calls come in real time, 20 ms of mu-law a message, two tracks each. Other
work on the machine disturbs the figures less than it would a clock, but it does.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import psutil
from websockets.asyncio.client import ClientConnection, connect

from callscope import clock, kafka
from callscope.broker import EmbeddedBroker
from callscope.client.twilio_messages import Messages
from callscope.config import child_environment, load

CHUNK_MS = 20
TRACKS = ("inbound", "outbound")


def measure(calls: int, seconds: int) -> Iterator[tuple[str, float]]:
    """What was measured, and its cost: CPU milliseconds per second and leg.

    Args:
        calls: at once, two legs each.
        seconds: how long.
    """
    broker = EmbeddedBroker(load().broker.model_copy(update={"port": None}), ephemeral=True)
    broker.start()
    try:
        kafka.ensure_topics(load(kafka=broker.bootstrap))
        environment = child_environment(kafka=broker.bootstrap, ingest__port="0", log_level="info")
        gateway = subprocess.Popen([sys.executable, "-m", "ingest"], env=environment, stderr=subprocess.PIPE, text=True)
        try:
            url = _address(gateway)
            process = psutil.Process(gateway.pid)
            legs = calls * len(TRACKS)
            yield "audio", asyncio.run(_cost_s(url, process, calls, seconds, speaking=True)) * 1e3 / seconds / legs
            yield (
                "connected, no audio",
                asyncio.run(_cost_s(url, process, calls, seconds, speaking=False)) * 1e3 / seconds / legs,
            )
        finally:
            gateway.terminate()
            gateway.communicate()
    finally:
        broker.stop()


async def _cost_s(url: str, process: psutil.Process, calls: int, seconds: int, *, speaking: bool) -> float:
    """CPU seconds of the gateway between the beginning and the end of the audio."""
    peers = [Messages("twilio", f"bench-{speaking}-{n}", TRACKS, "mulaw", 8_000) for n in range(calls)]
    connections = [await connect(url, compression=None) for _ in peers]
    for connection, peer in zip(connections, peers, strict=True):
        for text in peer.opening():
            await connection.send(text)
    await asyncio.sleep(1.0)
    before = sum(process.cpu_times()[:2])
    if speaking:
        await asyncio.gather(
            *(_speak(*pair, n / calls, seconds) for n, pair in enumerate(zip(connections, peers, strict=True)))
        )
    else:
        await asyncio.sleep(seconds)
    spent = sum(process.cpu_times()[:2]) - before
    for connection, peer in zip(connections, peers, strict=True):
        await connection.send(peer.closing()[0])
        await connection.wait_closed()
    return float(spent)


async def _speak(connection: ClientConnection, peer: Messages, phase: float, seconds: int) -> None:
    samples = np.random.default_rng(0).integers(0, 256, 8_000, np.uint8).tobytes()
    began = clock.monotonic() + phase * CHUNK_MS / 1e3
    size = 8 * CHUNK_MS
    for n in range(seconds * 1_000 // CHUNK_MS):
        await asyncio.sleep(max(0.0, began + n * CHUNK_MS / 1e3 - clock.monotonic()))
        for track in TRACKS:
            at = n * size % len(samples)
            await connection.send(peer.media(track, n * CHUNK_MS, samples[at : at + size]))


def _address(gateway: subprocess.Popen[str]) -> str:
    assert gateway.stderr is not None
    for line in gateway.stderr:
        if found := re.search(r"gateway listening on (ws://\S+?)/v1/stream", line):
            return found.group(1) + "/twilio"
    raise SystemExit("The gateway ended before it listened.")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="CPU of the gateway for legs by Twilio Media Streams.")
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    for what, cost_ms in measure(options.calls, options.seconds):
        print(f"{what:<22} {cost_ms:6.2f} ms per second and leg")


if __name__ == "__main__":
    main()
