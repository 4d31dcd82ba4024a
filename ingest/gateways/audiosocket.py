"""Asterisk's AudioSocket: a TCP port, and each connection to `ingest.protocols.audiosocket` and the intake."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from typing import Final

from callscope.access import Grant
from callscope.clock import monotonic, wall_ns
from callscope.errors import ConfigError, IngestError, TimedOut, TooManyFromOne, TooManyStreams, Unauthorized
from callscope.streams import StreamId
from ingest import telemetry
from ingest.gateways.closing import CLOSE_TIMEOUT_S, SHUTTING_DOWN, why_failed
from ingest.gateways.gate import Gate
from ingest.gateways.listening import WATCH_S, take
from ingest.gateways.pace import Pace
from ingest.protocols.audiosocket import Admission, AudioSocketProtocol
from ingest.protocols.events import Ended, Opened
from ingest.protocols.hello import UNKNOWN_LEG
from ingest.protocols.websocket import close_reason
from ingest.source import Source

_READ_BYTES: Final = 64 * 1024
_KEEP_ALIVE_S: Final = 1.0
"""Asterisk's dialplan application gives up after 2 s in which nothing came or went: then we send silence."""


async def listen(gate: Gate) -> AudioSocketListener | None:
    """Open the port, where the settings name one.

    Raises:
        ConfigError: the port cannot be had.
    """
    host, port = gate.settings.ingest.host, gate.settings.ingest.audiosocket_port
    if port is None:
        return None
    listener = AudioSocketListener(gate)
    try:
        await listener.open(host, port)
    except OSError as error:
        raise ConfigError(
            f"The gateway cannot listen for AudioSocket on {host}:{port}: {error.strerror or error}. Set "
            "CALLSCOPE_INGEST__AUDIOSOCKET_PORT to a free port (0 picks one)."
        ) from error
    return listener


class AudioSocketListener:
    """The open port.

    Args:
        gate: what gateways work with.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self.port = 0
        self.address = ""

    async def open(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            OSError: the port cannot be had.
        """
        self._server = await asyncio.start_server(self._serve, host, port, limit=_READ_BYTES)
        host, self.port = self._server.sockets[0].getsockname()[:2]
        self.address = f"audiosocket://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def close(self) -> None:
        """Hang up every connection; return when all their streams have been ended."""
        assert self._server is not None
        self._server.close()
        for connection in self._connections.values():
            connection.stop()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer, self._gate)
        alike = sum(other.address == connection.address for other in self._connections.values())
        task = asyncio.create_task(connection.serve(len(self._connections), alike))
        self._connections[task] = connection
        task.add_done_callback(self._connections.pop)


class _Connection:
    """One channel's connection, from the UUID to the hanging up; `address` is Asterisk's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: Gate) -> None:
        self._reader = reader
        self._writer = writer
        self._gate = gate
        self._settings = gate.settings.ingest
        peer = writer.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "unknown"
        limits = self._settings.limits
        self._pace = Pace(limits.bytes_per_s, limits.bytes_per_s)
        self._protocol = AudioSocketProtocol(self._admit)
        self._grant: Grant | None = None
        self._source: Source | None = None
        self._quiet_since = monotonic()
        self._is_taking = False
        self._stopped = asyncio.Event()

    async def serve(self, others: int, alike: int) -> None:
        """Speak to the end.

        Args:
            others: how many connections there are besides this one.
            alike: how many of them are from the same address.
        """
        reason, whole = "gateway error", False
        try:
            if alike >= self._settings.limits.connections_per_address:
                raise TooManyFromOne(f"This address has {alike} AudioSocket connections, which is the limit.")
            if others >= 2 * self._settings.max_streams:
                raise TooManyStreams(f"{others} AudioSocket connections are open already. Try again later.")
            reason, whole = await self._receive_and_watch()
        except IngestError as error:
            reason = why_failed(error)
            self._count(error)
        finally:
            await self._end(reason, whole=whole)

    def stop(self) -> None:
        """Receive no more; `serve` then ends the stream and hangs up."""
        self._stopped.set()

    def _admit(self, call: uuid.UUID) -> Admission:
        """Whose audio a UUID stands for: it was registered, or it is itself a token, or nobody needs one."""
        registration = self._gate.registrations.take(call, monotonic())
        if registration is not None:
            self._grant = registration.grant
            return Admission(registration.stream, registration.metadata)
        try:
            self._grant = self._gate.access.grant(str(call), "publish")
        except Unauthorized:
            raise Unauthorized(
                "That UUID is not registered, or was used, or is too old, and it is no token. Register one for every "
                "connection, just before it."
            ) from None
        call_id = str(call) if self._gate.access.is_open else f"audiosocket-{uuid.uuid4().hex[:12]}"
        return Admission(StreamId(call_id, UNKNOWN_LEG))

    async def _receive_and_watch(self) -> tuple[str, bool]:
        """Receive until the end, or until something is wrong, or until we are stopped.

        Returns:
            Why it ended, for `call.events`, and whether Asterisk sent everything.
        """
        receive = asyncio.create_task(self._receive())
        watch = asyncio.create_task(self._watch())
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait((receive, watch, stopped), return_when=asyncio.FIRST_COMPLETED)
            if receive.done():
                return receive.result()
            if watch.done():
                watch.result()
            return SHUTTING_DOWN, False
        finally:
            for task in (receive, watch, stopped):
                task.cancel()
            await asyncio.gather(receive, watch, stopped, return_exceptions=True)

    async def _receive(self) -> tuple[str, bool]:
        """Hand on events until the end; returns as `_receive_and_watch` does."""
        while True:
            self._is_taking = False
            try:
                data = await self._reader.read(_READ_BYTES)
            except OSError:
                return "connection lost", False
            if not data:
                return ("end", True) if self._protocol.is_between_packets else ("connection lost", False)
            self._is_taking = True
            self._quiet_since = monotonic()
            arrived_ns = wall_ns()
            if delay_s := self._pace.delay_s(len(data), self._quiet_since):
                telemetry.held_back()
                await asyncio.sleep(delay_s)
            for event in self._protocol.receive(data):
                match event:
                    case Opened():
                        assert self._grant is not None
                        self._source = await self._gate.intake.open(event, self._grant)
                    case Ended():
                        return "end", True
                    case _:
                        assert self._source is not None
                        await take(self._source, event, arrived_ns)

    async def _watch(self) -> None:
        """Keep a quiet Asterisk from giving up; find lost records and connections that are dead, for ever."""
        connected = monotonic()
        limit_s, hello_s = self._settings.idle_timeout_s, self._settings.hello_timeout_s
        while True:
            await asyncio.sleep(min(WATCH_S, limit_s, hello_s))
            if self._source is not None:
                self._source.check()
            if not self._protocol.is_named and monotonic() - connected > hello_s:
                raise TimedOut(f"No UUID came within {hello_s:g} s of the connection.")
            quiet_s = 0.0 if self._is_taking else monotonic() - self._quiet_since
            if quiet_s > limit_s:
                raise TimedOut(f"Nothing came for {limit_s:g} s.")
            if quiet_s >= _KEEP_ALIVE_S and self._protocol.is_named:
                self._writer.write(self._protocol.silence())

    async def _end(self, reason: str, *, whole: bool) -> None:
        """End the stream, if there is one, and hang up."""
        try:
            if self._source is not None:
                await self._source.end(reason, wall_ns(), whole=whole)
                if whole:
                    await self._source.delivered()
        except IngestError as error:
            self._count(error)
        finally:
            await self._hang_up()

    async def _hang_up(self) -> None:
        """Say that it is over, and wait for Asterisk to close.

        What it still sends is read, or else the system would reset the connection, and a reset makes the dialplan
        application fail, which hangs up the caller; a hang-up lets the dialplan go on.
        """
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                self._writer.write(self._protocol.hang_up())
                self._writer.write_eof()
                while await self._reader.read(_READ_BYTES):
                    pass
                self._writer.close()
                await self._writer.wait_closed()
        self._writer.transport.abort()

    def _count(self, error: IngestError) -> None:
        telemetry.error(error.close_code, self.address, close_reason(str(error)))
