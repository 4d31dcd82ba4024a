"""Load: many calls at once through the whole system, and the latency of every result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from callscope.client import results
from callscope.client.recording import Recording
from callscope.client.sending import Sending, send
from callscope.client.telling import Tally
from callscope.supervisor import Addresses

SETTLE_S = 3.0
"""How long to wait for the last results after the last audio."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a load run came to.

    Attributes:
        legs: how many at once.
        seconds: of audio a leg.
        tally: every result and its latency.
        behind_s: the furthest that published audio lagged behind sent audio at the end, over the calls.
    """

    legs: int
    seconds: float
    tally: Tally
    behind_s: float


async def run(
    recording: Recording,
    addresses: Addresses,
    legs: int,
    seconds: float,
    progress: Callable[[float], None] = lambda _: None,
) -> Load:
    """Send `legs` legs in real time, as two-party calls (and one single leg if the number is odd).

    Args:
        recording: a stereo call; every call begins at another point of it.
        addresses: the running system.
        legs: how many at once.
        seconds: how long each.
        progress: called with the seconds sent so far.

    Raises:
        SendRefused: the gateway refused a call.
        NoResults: the sink cannot be reached.
    """
    tally = Tally()
    calls = [2] * (legs // 2) + [1] * (legs % 2)
    sent: dict[int, Sending] = {}

    async def listen() -> None:
        async with results.subscription(addresses.results) as messages:
            listening.set()
            async for message in messages:
                tally.add(message)

    def note(call: int) -> Callable[[Sending], None]:
        def take(state: Sending) -> None:
            sent[call] = state
            progress(min(other.sent_s for other in sent.values()))

        return take

    async def one(call: int, channels: int) -> None:
        await asyncio.sleep(call * 0.02 / max(1, len(calls)))  # spread over one frame, as real calls are
        offset = len(recording.pcm) * call // len(calls)
        pcm = np.roll(recording.pcm, -offset, axis=0)[:, :channels].copy()
        shifted = Recording(recording.name, pcm, recording.rate_hz)
        names = ("customer", "agent")[:channels]
        await send(shifted, addresses.gateway, f"load-{call:03d}", names, limit_s=seconds, progress=note(call))

    listening = asyncio.Event()
    listener = asyncio.create_task(listen())
    try:
        await asyncio.wait({asyncio.create_task(listening.wait()), listener}, return_when=asyncio.FIRST_COMPLETED)
        if listener.done():
            await listener
        try:
            async with asyncio.TaskGroup() as group:
                for call, channels in enumerate(calls):
                    group.create_task(one(call, channels))
        except ExceptionGroup as several:
            raise several.exceptions[0] from several  # one refused call says why for all
        await asyncio.sleep(SETTLE_S)
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
    return Load(legs, seconds, tally, max(state.sent_s - state.published_s for state in sent.values()))
