"""Registering AudioSocket connections: a plain HTTP request on the WebSocket port, answered with the UUID to use.

It is a GET with parameters, because that is what the WebSocket port takes and what `CURL()` in a dialplan sends.
"""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Final

from websockets.http11 import Request, Response

from callscope.access import Grant
from callscope.clock import monotonic
from callscope.errors import BadHello, IngestError, StreamExists, TooManyStreams
from callscope.streams import StreamId
from ingest import telemetry
from ingest.gateways import closing
from ingest.gateways.gate import Gate
from ingest.gateways.listening import query_of
from ingest.gateways.websocket import Connection
from ingest.protocols.hello import given_name, metadata_of
from ingest.registrations import Registration

PATH: Final = "/asterisk/audiosocket"
_STATUSES: Final[dict[type[IngestError], HTTPStatus]] = {
    BadHello: HTTPStatus.BAD_REQUEST,
    StreamExists: HTTPStatus.CONFLICT,
    TooManyStreams: HTTPStatus.SERVICE_UNAVAILABLE,
}


def answer(connection: Connection, request: Request, gate: Gate) -> Response:
    """Register what the parameters name, and answer with its UUID and nothing else.

    Args:
        connection: admitted.
        request: its parameters are `call_id`, `leg`, perhaps `uuid`, and others to be kept as metadata.
        gate: what gateways work with.
    """
    try:
        call = _registered(connection, gate)
    except (BadHello, StreamExists, TooManyStreams) as error:
        status = _STATUSES[type(error)]
        telemetry.error(status.value, closing.peer(connection), str(error))
        return connection.respond(status, f"{error}\n")
    response = connection.respond(HTTPStatus.OK, str(call))
    response.headers["Cache-Control"] = "no-store"
    return response


def _registered(connection: Connection, gate: Gate) -> uuid.UUID:
    query = query_of(connection)
    stream = StreamId(given_name(query.pop("call_id", ""), "call_id"), given_name(query.pop("leg", ""), "leg"))
    call = _uuid(query.pop("uuid", None))
    grant: Grant = connection.granted
    gate.registrations.add(call, Registration(stream, grant, metadata_of(query)), monotonic())
    return call


def _uuid(given: str | None) -> uuid.UUID:
    """The given one, or a new one that nobody can guess."""
    if given is None:
        return uuid.uuid4()
    try:
        return uuid.UUID(given)
    except ValueError:
        raise BadHello(f"uuid cannot be {given[:64]!r}. It is written 40325ec2-5efd-4bd3-805f-53576e581d13.") from None
