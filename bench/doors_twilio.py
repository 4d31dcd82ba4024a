"""Twilio Media Streams, for every vendor of its dialect: mu-law at 8 kHz, both tracks on one connection, 20 ms each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from callscope import clock
from callscope.client.twilio_messages import Messages

LEGS_A_CALL = 2
CHUNK_MS = 20
TRACKS = ("inbound", "outbound")
settings: dict[str, str] = {"ingest__idle_timeout_s": "3600"}
NOISE = np.random.default_rng(0).integers(0, 256, 8_000, np.uint8).tobytes()


async def talk(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One call in real time."""
    peer = _peer(call)
    size = 8 * CHUNK_MS
    async with connect(_url(addresses), compression=None) as gateway:
        await _open(gateway, peer)
        began = clock.monotonic() + (hash(call) % CHUNK_MS) / 1_000  # calls are not in step
        for n in range(round(seconds * 1_000 / CHUNK_MS)):
            await asyncio.sleep(max(0.0, began + n * CHUNK_MS / 1_000 - clock.monotonic()))
            at = n * size % len(NOISE)
            for track in TRACKS:
                await gateway.send(peer.media(track, n * CHUNK_MS, NOISE[at : at + size]))
        for text in peer.closing():
            await gateway.send(text)
        await gateway.wait_closed()


async def idle(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One call that has started, and says nothing."""
    async with connect(_url(addresses), compression=None) as gateway:
        await _open(gateway, _peer(call))
        await asyncio.sleep(seconds)


def _peer(call: str) -> Messages:
    return Messages("twilio", f"bench-{call}", TRACKS, "mulaw", 8_000)


async def _open(gateway: ClientConnection, peer: Messages) -> None:
    for text in peer.opening():
        await gateway.send(text)


def _url(addresses: Sequence[str]) -> str:
    return addresses[0].replace("/v1/stream", "/twilio")
