"""CPU of the gateway per second of audio over gRPC, and of a connected call that sends nothing.

Runs the gateway as a process of its own on an embedded Kafka, and this process as the client:
`python -m bench.doors_grpc [--legs 20] [--seconds 20] [--chunk-ms 20]`
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import grpc
import numpy as np
import psutil

from callscope import clock, kafka, lifetime
from callscope.broker import EmbeddedBroker
from callscope.config import child_environment, load
from callscope.simulate.webex import requests
from callscope.supervisor import can_listen
from schemas.v1.analysis_pb2 import AudioChunk, StreamStart
from schemas.v1.analysis_pb2_grpc import VoiceAnalysisStub
from schemas.webex.conversationaudioforking_pb2_grpc import ConversationAudioStub

SETTLE_S = 1.0


async def analysis(channel: grpc.aio.Channel, number: int, seconds: float, chunk_s: float) -> float:
    """One leg of PCM at 16 kHz in real time; the seconds of audio that were sent."""
    call = VoiceAnalysisStub(channel).StreamAnalysis()
    start = StreamStart(call_id=f"bench-{number}", legs=["customer"], encoding=StreamStart.S16LE, rate_hz=16_000)
    await call.write(AudioChunk(start=start))
    piece = np.zeros(round(16_000 * chunk_s), "<i2").tobytes()
    began = clock.monotonic()
    for tick in range(round(seconds / chunk_s)):
        await asyncio.sleep(max(0.0, began + tick * chunk_s - clock.monotonic()))
        await call.write(AudioChunk(audio=piece))
    call.cancel()
    return seconds


async def webex(channel: grpc.aio.Channel, number: int, seconds: float, chunk_s: float) -> float:
    """Both legs of a conversation at 8 kHz, in real time."""
    call = ConversationAudioStub(channel).StreamConversationAudio()
    pcm = np.zeros((round(8_000 * seconds), 2), np.int16)
    began, captured_ns = clock.monotonic(), clock.wall_ns()
    for place, message in enumerate(requests(pcm, 8_000, f"bench-{number}", "bench", captured_ns, chunk_s)):
        await asyncio.sleep(max(0.0, began + place // 2 * chunk_s - clock.monotonic()))
        await call.write(message)
    await call.done_writing()
    await call.read()
    return 2 * seconds


async def idle(channel: grpc.aio.Channel, number: int, seconds: float, chunk_s: float) -> float:
    """A call that is open and sends nothing; the seconds that it was."""
    call = VoiceAnalysisStub(channel).StreamAnalysis()
    start = StreamStart(call_id=f"bench-{number}", legs=["customer"], encoding=StreamStart.S16LE, rate_hz=16_000)
    await call.write(AudioChunk(start=start))
    await asyncio.sleep(seconds)
    call.cancel()
    return seconds


async def measure(port: int, gateway: psutil.Process, legs: int, seconds: float, chunk_s: float) -> None:
    """One line for each kind of call."""
    base_s = await cpu_s(gateway, asyncio.sleep(seconds))
    print(f"no call: {base_s / seconds * 1_000:.1f} ms CPU a second (the results reader's and the producer's polling)")
    kinds: tuple[tuple[str, Callable[..., Coroutine[Any, Any, float]]], ...] = (
        ("VoiceAnalysis, PCM 16 kHz, one leg", analysis),
        ("Webex media forking, LINEAR16 8 kHz, both legs", webex),
        ("VoiceAnalysis, connected and idle", idle),
    )
    for name, kind in kinds:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            calls = asyncio.gather(*(kind(channel, number, seconds, chunk_s) for number in range(legs)))
            used_s = await cpu_s(gateway, calls) - base_s
            sent_s = sum(calls.result())
        print(
            f"{name}: {used_s / sent_s * 1_000:.2f} ms CPU per second, {chunk_s * 1_000:.0f} ms a message, {legs} calls"
        )
        await asyncio.sleep(SETTLE_S)


async def cpu_s(process: psutil.Process, work: Awaitable[object]) -> float:
    """CPU seconds the process uses while some work is done."""
    before = process.cpu_times()
    await work
    after = process.cpu_times()
    return (after.user + after.system) - (before.user + before.system)


def main() -> None:
    """Start what is needed, measure, end it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--legs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--chunk-ms", type=float, default=20.0)
    arguments = parser.parse_args()
    chunk_s = arguments.chunk_ms / 1_000
    broker = EmbeddedBroker(load().broker.model_copy(update={"port": None}), ephemeral=True)
    broker.start()
    port = can_listen("127.0.0.1", 0)
    assert port is not None
    try:
        kafka.ensure_topics(load(kafka=broker.bootstrap))
        environment = child_environment(
            kafka=broker.bootstrap, ingest__port="0", ingest__grpc__port=str(port), log_level="error"
        )
        gateway = lifetime.spawn([sys.executable, "-m", "ingest"], env=environment)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                grpc.channel_ready_future(channel).result(timeout=30)
            asyncio.run(measure(port, psutil.Process(gateway.pid), arguments.legs, arguments.seconds, chunk_s))
        finally:
            lifetime.stop(gateway)
    finally:
        broker.stop()


if __name__ == "__main__":
    main()
