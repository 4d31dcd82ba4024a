"""A subscriber to all results that resumes, and what it was told: final results, how often, and how fresh they are."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Final

from callscope.client import results
from callscope.client.backoff import Backoff
from callscope.clock import monotonic

FINDINGS: Final = frozenset({"activity", "features", "insight"})
"""Messages that stand for results; those of the other types tell of the calls themselves."""


class Subscriber:
    """Follows everything; belongs to one event loop.

    Attributes:
        heard_s: call id → leg → media time up to which something was told, seconds.
    """

    def __init__(self) -> None:
        self._finals: dict[str, Counter[str]] = defaultdict(Counter)
        self.heard_s: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._heard_at = 0.0

    async def follow(self, sink: str) -> None:
        """Receive, over as many connections as it takes, until cancelled.

        Raises:
            NoResults: the sink cannot be reached the first time.
        """
        async with results.subscription(sink, backoff=Backoff(longest_s=1.0)) as messages:
            async for message in messages:
                self._take(message)

    async def quiet(self, seconds: float) -> None:
        """Return when no result has come for so long."""
        while (left := self._heard_at + seconds - monotonic()) > 0:  # noqa: ASYNC110  # awaits that nothing happens
            await asyncio.sleep(left)

    def take(self, call_id: str) -> Counter[str]:
        """The final results of a call that is over, by their ids without the call's, and how often each came."""
        self.heard_s.pop(call_id, None)
        return Counter({name.removeprefix(call_id): n for name, n in self._finals.pop(call_id, Counter()).items()})

    def _take(self, message: Mapping[str, Any]) -> None:
        if message["type"] not in FINDINGS:
            return
        self._heard_at = monotonic()
        call_id = message["call_id"]
        if message["is_final"]:
            self._finals[call_id][message["id"]] += 1
        legs = self.heard_s[call_id]
        legs[message["leg"]] = max(legs[message["leg"]], message["start"] + message["duration"])
