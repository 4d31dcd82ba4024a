"""Callscope's own WebSocket protocol: 16 kHz PCM, 20 ms a message, one leg a connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from callscope import clock

LEGS_A_CALL = 1
settings: dict[str, str] = {"ingest__idle_timeout_s": "3600"}
FRAME = np.random.default_rng(1).integers(-8_000, 8_000, 320).astype("<i2").tobytes()


async def talk(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One leg in real time."""
    async with connect(addresses[0], compression=None) as gateway:
        await _hello(gateway, call)
        listening = asyncio.create_task(_listen(gateway))
        began = clock.monotonic() + (hash(call) % 20) / 1_000  # legs are not in step
        for frame in range(round(seconds / 0.02)):
            await asyncio.sleep(max(0.0, began + frame * 0.02 - clock.monotonic()))
            await gateway.send(FRAME)
        await gateway.send('{"type":"end"}')
        await listening


async def idle(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One leg that says nothing."""
    async with connect(addresses[0], compression=None) as gateway:
        await _hello(gateway, call)
        await asyncio.sleep(seconds)


async def _hello(gateway: ClientConnection, call: str) -> None:
    hello = {"type": "hello", "call_id": call, "leg": "customer", "encoding": "s16le", "rate_hz": 16_000}
    await gateway.send(json.dumps(hello))
    await gateway.recv()


async def _listen(gateway: ClientConnection) -> None:
    async for _ in gateway:
        pass
