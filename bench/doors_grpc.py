"""The door of `bench.doors` that is our own gRPC service: two legs a call, PCM at 16 kHz, 20 ms a message."""

from __future__ import annotations

import asyncio
from typing import Final

import grpc
import numpy as np

from callscope import clock
from schemas.v1.analysis_pb2 import AudioChunk, StreamStart
from schemas.v1.analysis_pb2_grpc import VoiceAnalysisStub

settings: Final = {"ingest__grpc__port": "0"}
LEGS_A_CALL: Final = 2
CHUNK_S: Final = 0.02
_WORKERS_ABSENT_S: Final = 0.5


def target(addresses: list[str]) -> str:
    """Host and port of the gRPC listener."""
    return next(address for address in addresses if address.startswith("grpc://")).removeprefix("grpc://")


async def talk(addresses: list[str], call: str, seconds: float) -> None:
    """Two legs in real time. No workers run here, so it does not wait for results."""
    async with grpc.aio.insecure_channel(target(addresses)) as channel:
        streaming = VoiceAnalysisStub(channel).StreamAnalysis()
        await streaming.write(_start(call))
        message = AudioChunk(audio=np.zeros((round(16_000 * CHUNK_S), 2), "<i2").tobytes())
        began = clock.monotonic()
        for tick in range(round(seconds / CHUNK_S)):
            await asyncio.sleep(max(0.0, began + tick * CHUNK_S - clock.monotonic()))
            await streaming.write(message)
        streaming.cancel()
        await asyncio.sleep(_WORKERS_ABSENT_S)


async def idle(addresses: list[str], call: str, seconds: float) -> None:
    """A call that is open and sends nothing."""
    async with grpc.aio.insecure_channel(target(addresses)) as channel:
        streaming = VoiceAnalysisStub(channel).StreamAnalysis()
        await streaming.write(_start(call))
        await asyncio.sleep(seconds)
        streaming.cancel()


def _start(call: str) -> AudioChunk:
    legs = ["customer", "agent"]
    return AudioChunk(start=StreamStart(call_id=call, legs=legs, encoding=StreamStart.S16LE, rate_hz=16_000))
