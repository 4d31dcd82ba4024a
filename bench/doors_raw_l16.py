"""jambonz, for all that send raw L16: 16 kHz, 20 ms a message, one leg a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from bench.doors_webrtc import sound
from callscope.client.pacing import at_rate
from callscope.simulate import raw_l16
from ingest.protocols.raw_l16 import DIALECTS

LEGS_A_CALL = 1
DIALECT = "jambonz"
settings: dict[str, str] = {"ingest__idle_timeout_s": "3600"}


async def talk(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One leg in real time."""
    await asyncio.sleep((hash(call) % 20) / 1_000)  # legs are not in step
    await raw_l16.send_call(at_rate(sound(seconds), 16_000), _gateway(addresses), DIALECT, call, ("customer",))


async def idle(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One leg that has said hello, and nothing more."""
    hello = raw_l16.hello(DIALECT, at_rate(sound(0.1), 16_000), call, ("customer",))
    subprotocol = DIALECTS[DIALECT].subprotocol
    assert hello is not None and subprotocol is not None
    async with connect(f"{_gateway(addresses)}/l16/{DIALECT}", subprotocols=[Subprotocol(subprotocol)]) as gateway:
        await gateway.send(hello)
        await asyncio.sleep(seconds)


def _gateway(addresses: Sequence[str]) -> str:
    return addresses[0].removesuffix("/v1/stream")
