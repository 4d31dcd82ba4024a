"""Receiving results from the sink, over as many connections as it takes."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from callscope.client.backoff import Backoff
from callscope.errors import CallscopeError

_REMEMBERED: Final = 20_000
"""Ids of messages: one that comes again, as from another sink that forgot more than this one, is left out."""
_FOR_GOOD: Final = frozenset({1009, 4400})


class NoResults(CallscopeError):
    """The sink cannot be reached, or ended the subscription; carries its reason."""


@asynccontextmanager
async def subscription(
    sink: str,
    *,
    calls: Sequence[str] = (),
    kinds: Sequence[str] = (),
    token: str | None = None,
    backoff: Backoff | None = None,
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Subscribe to results; yields them as an iterator of messages (docs/results.md).

    When the connection is lost, or the sink is started anew, the iterator goes on with another one: it gives another
    "subscribed", with the calls that run then, and after it every final result that was missed, and nothing twice. How
    long a break may be, the sink decides; "too_old" names the partitions of which more was missed.

    Args:
        sink: the sink's address, "ws://127.0.0.1:7071/v1/results".
        calls: ids of the calls wanted; none means all.
        kinds: "call", "activity", "features", "insight"; none means all.
        token: to be let in with.
        backoff: pauses between attempts.

    Raises:
        NoResults: the sink cannot be reached the first time, or refused.
    """
    request: dict[str, Any] = {"type": "subscribe"}
    if calls:
        request["calls"] = list(calls)
    if kinds:
        request["kinds"] = list(kinds)
    following = _Following(sink, request, token, backoff or Backoff())
    try:
        await following.connect()
        async with aclosing(following.messages()) as messages:
            yield messages
    finally:
        await following.close()


class _Following:
    def __init__(self, sink: str, request: dict[str, Any], token: str | None, backoff: Backoff) -> None:
        self._sink = sink
        self._request = request
        self._at: dict[str, list[int | None]] = {}
        """By type of message and partition: the first record that we do not have."""
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._backoff = backoff
        self._connection: ClientConnection | None = None
        self._known: set[str] = set()
        self._order: deque[str] = deque()

    async def connect(self) -> None:
        """Open a connection and subscribe.

        Raises:
            NoResults: nobody answers, or refuses.
        """
        try:
            self._connection = await connect(
                self._sink, compression=None, max_queue=1024, additional_headers=self._headers
            )
            await self._connection.send(json.dumps({**self._request, "resume": self._at}))
        except InvalidStatus as error:
            said = (error.response.body or b"").decode(errors="replace").strip()
            raise NoResults(f"The sink at {self._sink} refused with {error.response.status_code}: {said}") from error
        except (OSError, InvalidHandshake, ConnectionClosed) as error:
            raise NoResults(
                f"No sink answers at {self._sink} ({getattr(error, 'strerror', None) or error}). "
                "Is `callscope up` running there?"
            ) from error

    async def messages(self) -> AsyncGenerator[dict[str, Any], None]:
        """All that comes.

        Raises:
            NoResults: the sink refused.
        """
        while True:
            assert self._connection is not None
            try:
                async for text in self._connection:
                    message = json.loads(text)
                    self._note_position(message)
                    if message["type"] != "position" and self._is_new(message):
                        self._backoff.reset()
                        yield message
            except ConnectionClosed as closed:
                if closed.rcvd is not None and closed.rcvd.code in _FOR_GOOD:
                    raise NoResults(
                        f"The sink at {self._sink} ended the subscription: {closed.rcvd.reason} ({closed.rcvd.code})"
                    ) from closed
            await self._come_back()

    async def close(self) -> None:
        """Leave."""
        if self._connection is not None:
            await self._connection.close()

    async def _come_back(self) -> None:
        while True:
            await asyncio.sleep(self._backoff.next_s())
            try:
                await self.connect()
            except NoResults as error:
                refused = error.__cause__
                if isinstance(refused, InvalidStatus) and refused.response.status_code in (401, 403):
                    raise
            else:
                return

    def _note_position(self, message: dict[str, Any]) -> None:
        if message["type"] in ("subscribed", "position"):
            self._at = message.get("at", {})
        elif message.get("at") is not None:
            partition, offset = message["at"]
            self._at[message["type"]][partition] = offset + 1

    def _is_new(self, message: dict[str, Any]) -> bool:
        name = message.get("id")
        if name is None:
            return True
        if name in self._known:
            return False
        self._known.add(name)
        self._order.append(name)
        if len(self._order) > _REMEMBERED:
            self._known.discard(self._order.popleft())
        return True
