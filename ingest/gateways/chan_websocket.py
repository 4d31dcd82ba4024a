"""Asterisk's WebSocket channel: each connection to `ingest.protocols.chan_websocket`."""

from __future__ import annotations

from typing import Final

from callscope.errors import BadHello
from ingest.gateways import closing
from ingest.gateways.gate import Gate
from ingest.gateways.listening import listen_to, query_of
from ingest.gateways.websocket import Connection
from ingest.protocols.chan_websocket import ChanWebSocketProtocol

PATH: Final = "/asterisk"
SUBPROTOCOL: Final = "media"
"""What Asterisk's own examples ask for in websocket_client.conf; any other is left unanswered, which it takes too."""


async def serve(connection: Connection, gate: Gate) -> None:
    """One channel's connection."""
    try:
        protocol = ChanWebSocketProtocol(query_of(connection))
    except BadHello as error:
        await closing.refuse(connection, error)
        return
    await listen_to(connection, gate, protocol.receive)
