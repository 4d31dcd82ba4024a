"""The WebSocket gateway: moves messages between sockets, `ingest.protocols.websocket` and the intake."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import prometheus_client
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from callscope import telemetry
from callscope.clock import monotonic, wall_ns
from callscope.config import Ingest
from callscope.errors import IngestError, TimedOut
from ingest.intake import Intake, Source
from ingest.protocols.events import Audio, Consented, Ended, Opened
from ingest.protocols.websocket import WebSocketProtocol, close_reason, error_code, error_message

PATH: Final = "/v1/stream"
GOING_AWAY: Final = 1001
SHUTTING_DOWN: Final = "gateway shutting down"
_QUEUED_MESSAGES: Final = 8
_CLOSE_TIMEOUT_S: Final = 3.0


async def listen(settings: Ingest, intake: Intake) -> Server:
    """Open the port and serve every connection until the server is closed.

    To stop, `server.close(code=GOING_AWAY, reason=SHUTTING_DOWN)` and `await server.wait_closed()`: it returns when all
    streams have been ended.

    Raises:
        OSError: the port cannot be had.
    """

    async def handle(socket: ServerConnection) -> None:
        await _Connection(socket, settings, intake).serve()

    def answer(socket: ServerConnection, request: Request) -> Response | None:
        return _http(socket, request, settings)

    return await serve(
        handle,
        settings.host,
        settings.port,
        process_request=answer,
        compression=None,
        max_size=settings.max_message_bytes,
        max_queue=_QUEUED_MESSAGES,
        open_timeout=settings.hello_timeout_s,
        close_timeout=_CLOSE_TIMEOUT_S,
        ping_interval=None,  # a client that has gone silent is found by the idle time-out
        server_header=None,
    )


def _http(socket: ServerConnection, request: Request, settings: Ingest) -> Response | None:
    """Answer plain HTTP requests; None lets the WebSocket handshake go on."""
    match request.path.partition("?")[0]:
        case "/healthz":
            return socket.respond(HTTPStatus.OK, "ok\n")
        case "/metrics":
            response = socket.respond(HTTPStatus.OK, prometheus_client.generate_latest().decode())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = prometheus_client.CONTENT_TYPE_LATEST
            return response
        case path if path != PATH:
            return socket.respond(HTTPStatus.NOT_FOUND, f"Audio streams are received at {PATH}.\n")
    # Room beyond the streams, so that one too many can still be told so over its WebSocket.
    if len(socket.server.all_connections) >= 2 * settings.max_streams:
        return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections. Try again later.\n")
    return None


class _Connection:
    """One client's connection, from the hello to the close frame."""

    def __init__(self, socket: ServerConnection, settings: Ingest, intake: Intake) -> None:
        self._socket = socket
        self._settings = settings
        self._intake = intake
        self._protocol = WebSocketProtocol()
        self._waiting_since: float | None = None

    async def serve(self) -> None:
        try:
            opened = await self._hello()
            source = await self._intake.open(opened)
            await self._stream(source)
        except IngestError as error:
            await self._refuse(error)
        except ConnectionClosed as closed:
            self._count(closed)

    async def _hello(self) -> Opened:
        try:
            async with asyncio.timeout(self._settings.hello_timeout_s):
                message = await self._socket.recv()
        except TimeoutError:
            raise TimedOut(
                f"No hello came within {self._settings.hello_timeout_s:g} s. Send it as soon as the connection is open."
            ) from None
        event = self._protocol.receive(message)
        assert isinstance(event, Opened)
        return event

    async def _stream(self, source: Source) -> None:
        """Receive until the end, and end the source whatever happens."""
        reason = "gateway error"
        whole = False
        try:
            await self._socket.send(self._protocol.ready(self._settings.ack_interval_s))
            await self._receive_and_watch(source)
            reason, whole = "end", True
        except IngestError as error:
            reason = f"{error_code(error).replace('_', ' ')}: {error}"
            raise
        except ConnectionClosed as closed:
            reason = _why(closed)
            raise
        finally:
            await source.end(reason, wall_ns(), whole=whole)
        await source.delivered()
        await self._socket.send(self._protocol.ended(source.published(), source.padded))
        await self._socket.close()

    async def _receive_and_watch(self, source: Source) -> None:
        receive = asyncio.create_task(self._receive(source))
        watch = asyncio.create_task(self._watch(source))
        try:
            await asyncio.wait((receive, watch), return_when=asyncio.FIRST_COMPLETED)
            if not receive.done():
                await watch
            await receive
        finally:
            receive.cancel()
            watch.cancel()
            await asyncio.gather(receive, watch, return_exceptions=True)

    async def _receive(self, source: Source) -> None:
        """Hand on audio until the client says that this was all. What is not read here waits in the socket."""
        while True:
            self._waiting_since = monotonic()
            message = await self._socket.recv()
            self._waiting_since = None
            match self._protocol.receive(message):
                case Audio(data):
                    await source.audio(data, wall_ns())
                case Consented() as consented:
                    await self._socket.send(self._protocol.consented(consented, await source.consent(consented)))
                case Ended():
                    return

    async def _watch(self, source: Source) -> None:
        """Send acknowledgements; find lost records and silent clients.

        Ends quietly when the connection is closed: what had come before is still to be received.
        """
        limit_s = self._settings.idle_timeout_s
        while True:
            await asyncio.sleep(self._settings.ack_interval_s)
            source.check()
            if self._waiting_since is not None and monotonic() - self._waiting_since > limit_s:
                raise TimedOut(f"Nothing came for {limit_s:g} s. Send silence while there is nothing to hear.")
            if ack := self._protocol.ack(source.published()):
                try:
                    async with asyncio.timeout(limit_s):
                        await self._socket.send(ack)
                except ConnectionClosed:
                    return
                except TimeoutError:
                    raise TimedOut(f"Acknowledgements have not been read for {limit_s:g} s.") from None

    async def _refuse(self, error: IngestError) -> None:
        telemetry.ingest_error(error.close_code, self._peer, close_reason(str(error)))
        with suppress(ConnectionClosed, TimeoutError):  # a client that is gone, or does not read; closing finds out
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._socket.send(error_message(error))
        closing = asyncio.create_task(self._socket.close(error.close_code, close_reason(str(error))))
        with suppress(ConnectionClosed):
            while True:  # the client's close frame comes after all that it had sent before
                await self._socket.recv()
        await closing

    def _count(self, closed: ConnectionClosed) -> None:
        """Count what the WebSocket layer closed by itself, such as a message that was too large (1009)."""
        if _closed_by_us(closed) and closed.sent is not None and closed.sent.code != GOING_AWAY:
            telemetry.ingest_error(closed.sent.code, self._peer, closed.sent.reason)

    @property
    def _peer(self) -> str:
        return str(self._socket.remote_address[0]) if self._socket.remote_address else "unknown"


def _closed_by_us(closed: ConnectionClosed) -> bool:
    return closed.sent is not None and not closed.rcvd_then_sent


def _why(closed: ConnectionClosed) -> str:
    """Why a stream ended that its client did not end, for `call.events`."""
    if not _closed_by_us(closed) or closed.sent is None:
        return "connection lost"
    if closed.sent.code == GOING_AWAY:
        return SHUTTING_DOWN
    return f"closed by the gateway: {closed.sent.code} {closed.sent.reason}"
