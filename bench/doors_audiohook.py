"""Genesys AudioHook: mu-law at 8 kHz, two legs a session, 0.2 s a message; idle is a paused session with its pings."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

import numpy as np
from websockets.asyncio.client import connect

from callscope import clock
from callscope.client import audiohook
from callscope.client.audiohook_messages import Messages, Session, handshake
from callscope.client.recording import Recording

LEGS_A_CALL = 2
PING_S = 5.0
settings: dict[str, str] = {"ingest__idle_timeout_s": "3600"}
NOISE = np.random.default_rng(1).integers(-8_000, 8_000, (8_000, 2)).astype(np.int16)


async def talk(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One session in real time."""
    pcm = np.tile(NOISE, (int(np.ceil(seconds)), 1))[: round(seconds * 8_000)]
    await asyncio.sleep((hash(call) % 200) / 1_000)  # sessions are not in step
    await audiohook.send(Session("bench"), Recording(call, pcm, 8_000), _url(addresses))


async def idle(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One session that is paused."""
    session, url = Session("bench"), _url(addresses)
    messages = Messages(session)
    headers = handshake(session, url, uuid.uuid4().hex, clock.wall_ns() / 1e9)
    async with connect(url, additional_headers=headers, compression=None, ping_interval=None) as gateway:
        await gateway.send(messages.open(channels=2))
        await gateway.recv()
        await gateway.send(messages.message("paused"))
        until = clock.monotonic() + seconds
        while (left := until - clock.monotonic()) > 0:
            await gateway.send(messages.message("ping"))
            await gateway.recv()
            await asyncio.sleep(min(PING_S, left))


def _url(addresses: Sequence[str]) -> str:
    return addresses[0].replace("/v1/stream", "/audiohook")
