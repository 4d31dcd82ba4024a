"""A subscriber to all results that comes back when it is cut off, and what it was told: docs/results.md to the letter.

It forgives nothing: where the client library leaves out what it had already, this one counts it.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Final

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from callscope.clock import monotonic

FINDINGS: Final = frozenset({"activity", "features", "insight"})
"""Messages that stand for results; those of the other types tell of the calls themselves."""
AGAIN_S: Final = 0.5
"""Between two attempts to connect."""


class Subscriber:
    """Follows everything; belongs to one event loop.

    Attributes:
        heard_s: call id → leg → media time up to which something was told, seconds.
        reconnects: how often it came back.
        dropped: interim results that the sink said it left out, to make room for newer ones.
    """

    def __init__(self) -> None:
        self._finals: dict[str, Counter[str]] = defaultdict(Counter)
        self._at: dict[str, list[int | None]] = {}
        self._heard_at = 0.0
        self._is_subscribed = False
        self.heard_s: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.reconnects = 0
        self.dropped = 0
        self._too_old: list[str] = []

    async def follow(self, sink: str) -> None:
        """Receive, over as many connections as it takes, until cancelled."""
        while True:
            try:
                async with connect(sink, compression=None, max_queue=4096, open_timeout=5) as socket:
                    await socket.send(json.dumps({"type": "subscribe", "resume": self._at}))
                    async for text in socket:
                        self._take(json.loads(text))
            except (OSError, InvalidHandshake, ConnectionClosed):  # a TimeoutError is an OSError
                pass
            self._is_subscribed = False
            self.reconnects += 1
            await asyncio.sleep(AGAIN_S)

    async def quiet(self, seconds: float) -> None:
        """Return when it is subscribed and no result has come for so long."""
        while not self._is_subscribed or monotonic() < self._heard_at + seconds:  # noqa: ASYNC110  # awaits that nothing happens
            await asyncio.sleep(seconds / 10)

    def take_too_old(self) -> list[str]:
        """Partitions of which the sink said, since this was last asked, that it cannot bring all that was missed."""
        gone, self._too_old = self._too_old, []
        return gone

    def take(self, call_id: str) -> Counter[str]:
        """The final results of a call that is over, by their ids without the call's, and how often each came."""
        self.heard_s.pop(call_id, None)
        return Counter({name.removeprefix(call_id): n for name, n in self._finals.pop(call_id, Counter()).items()})

    def _take(self, message: Mapping[str, Any]) -> None:
        if message["type"] in ("subscribed", "position"):
            self._at = message["at"]
            if message["type"] == "subscribed":  # what was missed comes next
                self._is_subscribed, self._heard_at = True, monotonic()
            self._too_old += message.get("too_old", ())
        elif message.get("at") is not None:
            partition, offset = message["at"]
            self._at[message["type"]][partition] = offset + 1
        if message["type"] == "dropped":
            self.dropped += message["count"]
        if message["type"] not in FINDINGS:
            return
        self._heard_at = monotonic()
        call_id = message["call_id"]
        if message["is_final"]:
            self._finals[call_id][message["id"]] += 1
        legs = self.heard_s[call_id]
        legs[message["leg"]] = max(legs[message["leg"]], message["start"] + message["duration"])
