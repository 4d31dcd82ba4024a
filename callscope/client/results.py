"""Receiving results from the sink, and saying them in a line each."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from callscope.errors import CallscopeError


class NoResults(CallscopeError):
    """The sink cannot be reached, or ended the subscription; carries its reason."""


@asynccontextmanager
async def subscription(
    sink: str, *, calls: Sequence[str] = (), kinds: Sequence[str] = ()
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Subscribe to results; yields them as an iterator of messages (docs/results.md).

    Args:
        sink: the sink's address, "ws://127.0.0.1:7071/v1/results".
        calls: ids of the calls wanted; none means all.
        kinds: "call", "activity", "features", "insight"; none means all.

    Raises:
        NoResults: the sink cannot be reached, or refused.
    """
    request: dict[str, Any] = {"type": "subscribe"}
    if calls:
        request["calls"] = list(calls)
    if kinds:
        request["kinds"] = list(kinds)
    try:
        async with connect(sink, compression=None, max_queue=1024) as connection:
            await connection.send(json.dumps(request))
            yield _messages(connection, sink)
    except OSError as error:
        raise NoResults(
            f"No sink answers at {sink} ({error.strerror or error}). Is `callscope up` running there?"
        ) from error


async def _messages(connection: ClientConnection, sink: str) -> AsyncIterator[dict[str, Any]]:
    try:
        async for text in connection:
            yield json.loads(text)
    except ConnectionClosed as closed:
        reason = closed.rcvd.reason if closed.rcvd else "the connection was lost"
        raise NoResults(f"The sink at {sink} ended the subscription: {reason}") from closed
