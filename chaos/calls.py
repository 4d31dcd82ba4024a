"""The load: seeded two-party calls, spoken in real time by clients that reconnect and resume."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Final

import numpy as np

from callscope.bench.conversation import Conversation, converse
from callscope.bench.generator import voices
from callscope.client.backoff import Backoff
from callscope.client.sender import Sender, SendRefused
from callscope.clock import monotonic

LEGS: Final = ("customer", "agent")
RATE_HZ: Final = 16_000
CHUNK: Final = RATE_HZ // 50
STAGGER_S: Final = 0.3
"""Between the beginnings of two lines' calls."""
KEPT_S: Final = 180.0
"""Audio that a client keeps until it is acknowledged: more than any fault lasts."""
_DIAL_AGAIN_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Line:
    """A pair of people who say the same in every round, so that each of their calls must give the same results.

    Attributes:
        name: goes into their calls' ids.
        conversation: what they say.
    """

    name: str
    conversation: Conversation

    def call_id(self, round_number: int) -> str:
        """The id of their call in a round."""
        return f"{self.name}-{round_number:03d}"


def line_of(call_id: str) -> str:
    """The line's name in a call's id."""
    return call_id.rpartition("-")[0]


def lines(number: int, seconds: float, seed: int) -> list[Line]:
    """Lay out conversations of the voices of the shipped call, 16 kHz.

    Args:
        number: how many, of two legs each.
        seconds: how long each.
        seed: the same one gives the same conversations.
    """
    seeds = np.random.default_rng(seed).integers(1 << 31, size=number)
    with as_file(files("callscope.demo") / "call.ogg") as path:
        ((spoken, rate_hz),) = voices([str(path)])
    assert rate_hz == RATE_HZ, "the gateway's own: nothing is resampled on the way"
    return [Line(f"line{n:02d}", converse(spoken, rate_hz, seconds, seed=int(own))) for n, own in enumerate(seeds)]


class Call:
    """One call of a line.

    Attributes:
        call_id: its id.
        pcm: what is said, 16 kHz, shape (samples, 2).
        spoken_s: how much has been said so far, seconds of media time.
        reconnects: how often its client had to connect anew.
        dropped: samples that the client gave up: none, or the run is void.
    """

    def __init__(self, line: Line, call_id: str) -> None:
        self.pcm = line.conversation.pcm
        self.call_id = call_id
        self.spoken_s = 0.0
        self.reconnects = 0
        self.dropped = 0

    @property
    def left_s(self) -> float:
        """How much is not said yet, seconds."""
        return len(self.pcm) / RATE_HZ - self.spoken_s

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self.spoken_s > 0 and self.left_s > 0

    async def speak(self, gateway: str, after_s: float, speed: float = 1.0) -> None:
        """Wait, dial until the call is taken, speak, and return when all of it is acknowledged.

        Args:
            gateway: its WebSocket address.
            after_s: how long to wait first.
            speed: 1 is real time.

        Raises:
            SendRefused: the gateway ended the call for good.
        """
        await asyncio.sleep(after_s)
        async with AsyncExitStack() as stack:
            sender = await self._dial(stack, gateway)
            began = monotonic()
            for end in range(CHUNK, len(self.pcm) + 1, CHUNK):
                await asyncio.sleep(max(0.0, began + end / RATE_HZ / speed - monotonic()))
                await sender.send(self.pcm[end - CHUNK : end].tobytes())
                self.spoken_s = end / RATE_HZ
            await sender.end()
            self.reconnects += sender.progress.reconnects
            self.dropped = sender.progress.dropped

    async def _dial(self, stack: AsyncExitStack, gateway: str) -> Sender:
        """A client tries its first connection once: who finds the line dead dials again, nothing was said yet."""
        while True:
            sender = Sender(
                gateway,
                self.call_id,
                LEGS,
                rate_hz=RATE_HZ,
                buffer_s=KEPT_S,
                when_full="wait",
                backoff=Backoff(longest_s=2.0),
            )
            try:
                return await stack.enter_async_context(sender)
            except SendRefused:
                self.reconnects += 1
                await asyncio.sleep(_DIAL_AGAIN_S)
