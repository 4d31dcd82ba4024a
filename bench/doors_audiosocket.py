"""Asterisk's AudioSocket: 16-bit samples at 8 kHz, 20 ms a packet, one TCP connection a leg."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

from bench.doors_webrtc import sound
from callscope.client.pacing import at_rate
from callscope.simulate import audiosocket
from ingest.protocols.audiosocket import UUID_, packet

LEGS_A_CALL = 1
settings: dict[str, str] = {"ingest__audiosocket_port": "0", "ingest__idle_timeout_s": "3600"}


async def talk(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One leg in real time."""
    await asyncio.sleep((hash(call) % 20) / 1_000)  # legs are not in step
    await audiosocket.send(at_rate(sound(seconds), 8_000), *_address(addresses), uuid4())


async def idle(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One leg that is named, and says nothing."""
    _, writer = await asyncio.open_connection(*_address(addresses))
    writer.write(packet(UUID_, uuid4().bytes))
    await asyncio.sleep(seconds)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def _address(addresses: Sequence[str]) -> tuple[str, int]:
    (address,) = [address for address in addresses if address.startswith("audiosocket://")]
    host, _, port = address.removeprefix("audiosocket://").rpartition(":")
    return host, int(port)
