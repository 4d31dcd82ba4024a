"""Writes what waits for one subscriber to its socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from websockets.asyncio.server import ServerConnection

from sinks import telemetry
from sinks.hub import Hub
from sinks.read_back import Past

STALL_TIMEOUT_S: Final = 20.0
"""A peer that reads nothing for so long is cut off; pings cannot tell, they wait in the same buffer."""
_BURST: Final = 64
"""Messages written before others get their turn."""


class TooSlow(Exception):
    """The subscriber does not keep up and has to go."""


class Pushing:
    """Writes what waits for one subscriber to its socket.

    Attributes:
        replied: set when the answer to the last request was written.
        is_behind: to be set when the subscriber may be behind: what it missed is then brought.
        sent: messages written.
    """

    def __init__(self, connection: ServerConnection, hub: Hub, clock_ns: Callable[[], int], past: Past | None) -> None:
        self.subscriber = hub.join(self._wake)
        self.replied = asyncio.Event()
        self.is_behind = asyncio.Event()
        self._hub = hub
        self._past = past
        self.sent = 0
        self._connection = connection
        self._clock_ns = clock_ns
        self._ready = asyncio.Event()
        self._too_slow = asyncio.Event()

    def _wake(self) -> None:
        self._ready.set()
        if self.subscriber.too_slow:
            self._too_slow.set()

    async def run(self) -> None:
        """Pushes until the connection ends.

        Raises:
            ConnectionClosed: it did.
            TooSlow: the peer reads nothing for `STALL_TIMEOUT_S`.
        """
        while True:
            await self._ready.wait()
            self._ready.clear()
            while len(self.subscriber):
                try:
                    async with asyncio.timeout(STALL_TIMEOUT_S):
                        await self._push_burst()
                except TimeoutError:
                    raise TooSlow from None
                await asyncio.sleep(0)

    async def watch_queue(self) -> None:
        """Waits, possibly for ever, until a final message found no room.

        Raises:
            TooSlow: that happened.
        """
        await self._too_slow.wait()
        raise TooSlow

    async def bring_back(self) -> None:
        """Brings what the subscriber missed, whenever it comes back.

        Raises:
            CannotResume: that cannot be read now.
        """
        while True:
            await self.is_behind.wait()
            self.is_behind.clear()
            if self._past is not None and self.subscriber.behind:
                await self._past.bring(self._hub, self.subscriber)

    async def _push_burst(self) -> None:
        for _ in range(_BURST):
            now_ns = self._clock_ns()
            outgoing = self.subscriber.next(now_ns)
            if outgoing is None:
                return
            await self._connection.send(outgoing.data, text=True)
            self.sent += 1
            message = outgoing.message
            if message is not None:
                latency_s = (now_ns - message.arrived_ns) / 1e9 if message.arrived_ns else None
                telemetry.result_pushed(message.type, latency_s)
            elif outgoing.is_reply:
                self.replied.set()
