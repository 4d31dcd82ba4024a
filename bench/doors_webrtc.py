"""WebRTC: a track of Opus at 96 kbit/s, 20 ms a packet, a peer a leg. The import of aiortc is in the figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from callscope.client.recording import Recording
from callscope.simulate.webrtc import send

LEGS_A_CALL = 1
settings: dict[str, str] = {"ingest__idle_timeout_s": "3600", "ingest__webrtc__port": "0"}


def sound(seconds: float) -> Recording:
    """A leg of noise that comes and goes, so that no packet is an easy one."""
    rng = np.random.default_rng(1)
    swell = np.abs(np.sin(np.arange(round(seconds * 48_000)) / 9_000))
    return Recording("noise", (rng.normal(0, 3_000, (len(swell), 1)) * swell[:, None]).astype(np.int16), 48_000)


async def talk(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One leg in real time."""
    await send(sound(seconds), _offers(addresses), call, ("customer",))


async def idle(addresses: Sequence[str], call: str, seconds: float) -> None:
    """One peer that is connected, and whose packets are all lost."""
    await send(sound(seconds), _offers(addresses), call, ("customer",), is_lost=lambda leg, number: True)


def _offers(addresses: Sequence[str]) -> str:
    return next(address for address in addresses if address.endswith("/v1/webrtc"))
