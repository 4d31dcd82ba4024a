"""MediaRecorder: WebM with Opus at 64 kbit/s, a chunk every 100 ms, one connection a leg."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from websockets.asyncio.client import connect

from bench.doors_webrtc import sound
from callscope.simulate.webm import send

LEGS_A_CALL = 1
settings: dict[str, str] = {"ingest__idle_timeout_s": "3600"}


async def talk(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One leg in real time."""
    await send(sound(seconds), addresses[0], call, ("customer",))


async def idle(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One leg whose recorder says nothing."""
    hello = {"type": "hello", "call_id": call, "leg": "customer", "encoding": "webm-opus", "rate_hz": 48_000}
    async with connect(addresses[0], compression=None) as gateway:
        await gateway.send(json.dumps(hello))
        await asyncio.sleep(seconds)
