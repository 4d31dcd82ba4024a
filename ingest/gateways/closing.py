"""How a WebSocket connection ends: refusals told in full, close codes counted, reasons for `call.events`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from callscope.errors import IngestError
from ingest import telemetry
from ingest.protocols.websocket import close_reason, error_code

GOING_AWAY: Final = 1001
SHUTTING_DOWN: Final = "gateway shutting down"
CONNECTION_LOST: Final = "connection lost"
CLOSE_TIMEOUT_S: Final = 3.0


async def refuse(connection: ServerConnection, error: IngestError, last_words: str | None = None) -> None:
    """Close with the error's code and reason, and count it.

    Args:
        connection: the client's.
        error: what was wrong.
        last_words: a text message to go before the close frame, in protocols that have one.
    """
    reason = close_reason(str(error))
    telemetry.error(error.close_code, peer(connection), reason)
    if last_words is not None:
        with suppress(ConnectionClosed, TimeoutError):  # a client that is gone, or does not read; closing finds out
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await connection.send(last_words)
    closing = asyncio.create_task(connection.close(error.close_code, reason))
    with suppress(ConnectionClosed):
        while True:  # the client's close frame comes after all that it had sent before
            await connection.recv()
    await closing


def count(connection: ServerConnection, closed: ConnectionClosed) -> None:
    """Count what the WebSocket layer closed by itself, such as a message that was too large (1009)."""
    if _closed_by_us(closed) and closed.sent is not None and closed.sent.code != GOING_AWAY:
        telemetry.error(closed.sent.code, peer(connection), closed.sent.reason)


def why_failed(error: IngestError) -> str:
    """Why a stream ended that went wrong, for `call.events`."""
    return f"{error_code(error).replace('_', ' ')}: {error}"


def why_closed(closed: ConnectionClosed) -> str:
    """Why a stream ended that its client did not end, for `call.events`."""
    if not _closed_by_us(closed) or closed.sent is None:
        return CONNECTION_LOST
    if closed.sent.code == GOING_AWAY:
        return SHUTTING_DOWN
    return f"closed by the gateway: {closed.sent.code} {closed.sent.reason}"


def was_cut(closed: ConnectionClosed) -> bool:
    """Whether neither side meant the connection to end: its client may come back."""
    if closed.sent is not None and not closed.rcvd_then_sent:
        return False
    return closed.rcvd is None or closed.rcvd.code not in (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY)


def peer(connection: ServerConnection) -> str:
    """The other side's address, for logs."""
    return str(connection.remote_address[0]) if connection.remote_address else "unknown"


def _closed_by_us(closed: ConnectionClosed) -> bool:
    return closed.sent is not None and not closed.rcvd_then_sent
