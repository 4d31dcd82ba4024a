"""Asterisk's WebSocket channel: mu-law at 8 kHz, 20 ms a message, one connection a leg."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from bench.doors_webrtc import sound
from callscope.simulate import chan_websocket

LEGS_A_CALL = 1
settings: dict[str, str] = {"ingest__idle_timeout_s": "3600"}


async def talk(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One leg in real time."""
    await asyncio.sleep((hash(call) % 20) / 1_000)  # legs are not in step
    await chan_websocket.send_call(sound(seconds), _url(addresses), call, ("customer",))


async def idle(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One leg that has begun, and says nothing."""
    said = chan_websocket.messages(sound(0.0), "ulaw", call, "customer", speed=0, as_json=True, press=False)
    async with connect(_url(addresses), subprotocols=[Subprotocol(chan_websocket.SUBPROTOCOL)]) as gateway:
        await gateway.send(await anext(said))
        await asyncio.sleep(seconds)


def _url(addresses: Sequence[str]) -> str:
    return addresses[0].replace("/v1/stream", "/asterisk")
