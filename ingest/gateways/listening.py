"""The shell of WebSocket protocols in which only the other side talks: from the first message to its close frame."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from callscope.access import Grant, bearer_token
from callscope.clock import monotonic, wall_ns
from callscope.errors import BadHello, IngestError, TimedOut
from ingest.gateways import closing
from ingest.gateways.gate import Gate
from ingest.gateways.watching import receive_and_watch
from ingest.gateways.websocket import Connection
from ingest.protocols.events import Audio, Ended, Event, Marked, Missing, Opened
from ingest.protocols.websocket import close_reason
from ingest.source import Source

WATCH_S: Final = 0.5
"""How often a connection is looked at for lost records and silence."""
_ENDS: Final = (1000, 1001, 1005)
"""Close codes by which the other side says that this was all: normal, going away, none given."""
_MOST_PARAMETERS: Final = 32


async def listen_to(connection: Connection, gate: Gate, receive: Callable[[str | bytes], list[Event]]) -> None:
    """Speak one connection's protocol to its end.

    Args:
        connection: admitted.
        gate: what gateways work with.
        receive: the protocol: a message to its events, the first of which is Opened; raises an IngestError.
    """
    try:
        await _Listening(connection, gate, receive).run()
    except IngestError as error:
        await closing.refuse(connection, error)
    except ConnectionClosed as closed:
        closing.count(connection, closed)


def query_of(connection: Connection) -> dict[str, str]:
    """The parameters of the address that the connection came by.

    Raises:
        BadHello: there are too many.
    """
    assert connection.request is not None
    try:
        return dict(parse_qsl(urlsplit(connection.request.path).query, max_num_fields=_MOST_PARAMETERS))
    except ValueError:
        raise BadHello(f"The address has more than {_MOST_PARAMETERS} parameters.") from None


async def admit(request: Request, gate: Gate) -> Grant | None:
    """Let in whoever has a token to publish: as Bearer, as the password of Basic, or as `?token=`.

    Asterisk, FreeSWITCH and jambonz send a user name and a password; the name is not looked at.

    Raises:
        Unauthorized: no token, or not one of ours.
        Forbidden: it does not allow to publish.
    """
    authorization = request.headers.get("Authorization")
    return gate.access.grant(_password(authorization) or bearer_token(authorization, request.path), "publish")


def _password(authorization: str | None) -> str | None:
    """The password of Basic authentication, RFC 7617; None where that is not what came."""
    scheme, _, value = (authorization or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None


async def take(source: Source, event: Event, arrived_ns: int) -> None:
    """Hand an event between the opening and the end to its source.

    Raises:
        NotPublished: Kafka does not take it.
    """
    match event:
        case Audio(data):
            await source.audio(data, arrived_ns)
        case Missing(samples, reason):
            await source.missing(samples, reason, arrived_ns)
        case Marked():
            await source.mark(event)
        case _:
            raise AssertionError(f"no shell of these protocols expects {event}")


class _Listening:
    def __init__(self, connection: Connection, gate: Gate, receive: Callable[[str | bytes], list[Event]]) -> None:
        self._socket = connection
        self._settings = gate.settings.ingest
        self._intake = gate.intake
        self._receive = receive
        self._waiting_since: float | None = None

    async def run(self) -> None:
        opened, *first = await self._hello()
        assert isinstance(opened, Opened)
        source = await self._intake.open(opened, self._socket.granted)
        reason, whole = "gateway error", False
        try:
            for event in first:
                await take(source, event, wall_ns())
            await receive_and_watch(self._receive_all(source), self._watch(source))
            reason, whole = "end", True
        except IngestError as error:
            reason = closing.why_failed(error)
            raise
        except ConnectionClosed as closed:
            reason, whole = _ending(closed)
            if not whole:
                raise
        finally:
            await source.end(reason, wall_ns(), whole=whole)
        await source.delivered()
        await self._socket.close()

    async def _hello(self) -> list[Event]:
        limit_s = self._settings.hello_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return self._receive(await self._socket.recv())
        except TimeoutError:
            raise TimedOut(f"Nothing came within {limit_s:g} s of the connection.") from None

    async def _receive_all(self, source: Source) -> None:
        """Hand on events until the end. What is not read here waits in the socket."""
        while True:
            self._waiting_since = monotonic()
            message = await self._socket.recv()
            self._waiting_since = None
            for event in self._receive(message):
                if isinstance(event, Ended):
                    return
                await take(source, event, wall_ns())

    async def _watch(self, source: Source) -> None:
        """Find lost records and silent clients, for ever."""
        limit_s = self._settings.idle_timeout_s
        while True:
            await asyncio.sleep(min(WATCH_S, limit_s))
            source.check()
            if self._waiting_since is not None and monotonic() - self._waiting_since > limit_s:
                raise TimedOut(f"Nothing came for {limit_s:g} s. Send silence while there is nothing to hear.")


def _ending(closed: ConnectionClosed) -> tuple[str, bool]:
    """Why the stream ended, for `call.events`, and whether that is an end as it should be."""
    if closed.rcvd is None or not closed.rcvd_then_sent:
        return closing.why_closed(closed), False
    if closed.rcvd.code in _ENDS:
        return "end", True
    return f"closed by the source: {closed.rcvd.code} {close_reason(closed.rcvd.reason)}".rstrip(), False
