"""CPU of the gateway per second of audio and leg, and of a connected silent leg: WebRTC, MediaRecorder's WebM.

    python -m bench.webrtc [recording] [--legs 10]

The gateway is a process of its own, on a Kafka of its own; the senders are this process.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import psutil

from callscope import kafka, lifetime
from callscope.broker import EmbeddedBroker
from callscope.client import recording
from callscope.client.recording import Recording
from callscope.config import child_environment, load
from callscope.simulate import webm, webrtc
from callscope.supervisor import can_listen

WINDOW_S = 10.0
SETTLE_S = 3.0


def one_leg(call: Recording, seconds: float) -> Recording:
    """The first leg, repeated until it is long enough."""
    samples = np.resize(call.pcm[:, :1], (round(seconds * call.rate_hz), 1))
    return Recording(call.name, np.ascontiguousarray(samples), call.rate_hz)


async def measure(name: str, process: psutil.Process, legs: int, sending: list[asyncio.Task[None]]) -> None:
    """Print what the process spends while the legs are sent."""
    await asyncio.sleep(SETTLE_S)
    before = sum(process.cpu_times()[:2])
    await asyncio.sleep(WINDOW_S)
    spent_s = sum(process.cpu_times()[:2]) - before
    for task in sending:
        task.cancel()
    results = await asyncio.gather(*sending, return_exceptions=True)
    failed = [result for result in results if isinstance(result, Exception)]
    resident = process.memory_info().rss / 1e6
    print(
        f"{name:<28} {legs:>3} legs  {spent_s / WINDOW_S / max(legs, 1) * 1e3:6.2f} ms per second and leg"
        f"  {resident:6.0f} MB resident  {len(failed)} failed"
    )
    await asyncio.sleep(1.0)


async def run(call: Recording, legs: int, gateway: str, offers: str, pid: int) -> None:
    """All measurements, one after the other."""
    process = psutil.Process(pid)
    leg = one_leg(call, WINDOW_S + 2 * SETTLE_S + 5)
    await measure("nobody", process, 0, [])
    for lossless, name in ((True, "WebRTC"), (False, "WebRTC, connected, silent")):
        sending = [
            asyncio.create_task(
                webrtc.send(
                    leg,
                    offers,
                    f"bench-{lossless}-{n}",
                    ("customer",),
                    is_lost=lambda _, number, lossless=lossless: not lossless,  # type: ignore[misc]
                )
            )
            for n in range(legs)
        ]
        await measure(name, process, legs, sending)
    sending = [asyncio.create_task(webm.send(leg, gateway, f"bench-webm-{n}", ("customer",))) for n in range(legs)]
    await measure("MediaRecorder, WebM", process, legs, sending)


def main() -> None:
    """Start Kafka and the gateway, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", nargs="?", type=Path)
    parser.add_argument("--legs", type=int, default=10)
    arguments = parser.parse_args()
    with as_file(files("callscope.demo") / "call.ogg") as shipped:
        call = recording.read(arguments.recording or shipped)
    with EmbeddedBroker(load().broker.model_copy(update={"port": None}), ephemeral=True) as broker:
        kafka.ensure_topics(load(kafka=broker.bootstrap))
        ports = [can_listen("127.0.0.1", 0), can_listen("127.0.0.1", 0)]
        environment = child_environment(
            kafka=broker.bootstrap,
            ingest__port=str(ports[0]),
            ingest__webrtc__port=str(ports[1]),
            log_level="error",
        )
        child = lifetime.spawn([sys.executable, "-m", "ingest"], env=environment)
        try:
            gateway, offers = f"ws://127.0.0.1:{ports[0]}/v1/stream", f"http://127.0.0.1:{ports[1]}/v1/webrtc"
            asyncio.run(run(call, arguments.legs, gateway, offers, child.pid))
        finally:
            lifetime.stop(child, 15.0)


if __name__ == "__main__":
    main()
