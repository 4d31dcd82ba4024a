"""jambonz, FreeSWITCH's modules and Vonage: each connection to `ingest.protocols.raw_l16`, the dialect by its path."""

from __future__ import annotations

import uuid
from typing import Final

from callscope.errors import BadHello
from ingest.gateways import closing
from ingest.gateways.gate import Gate
from ingest.gateways.listening import admit, listen_to, query_of
from ingest.gateways.websocket import Connection, Route
from ingest.protocols.raw_l16 import DIALECTS, Dialect, RawL16Protocol

PATH: Final = "/l16/"
"""Before the name of the dialect."""


async def serve(connection: Connection, gate: Gate) -> None:
    """One call's connection."""
    assert connection.route is not None
    dialect = DIALECTS[connection.route.path.removeprefix(PATH)]
    try:
        protocol = RawL16Protocol(dialect, query_of(connection), f"{dialect.name}-{uuid.uuid4().hex[:12]}")
    except BadHello as error:
        await closing.refuse(connection, error)
        return
    await listen_to(connection, gate, protocol.receive)


def _route(dialect: Dialect) -> Route:
    subprotocols = () if dialect.subprotocol is None else (dialect.subprotocol,)
    return Route(PATH + dialect.name, serve, admit, subprotocols)


ROUTES: Final = tuple(_route(dialect) for dialect in DIALECTS.values())
"""One for each dialect."""
