"""Callscope's own WebSocket protocol: moves messages between a socket, `ingest.protocols.websocket` and the intake."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from websockets.exceptions import ConnectionClosed

from callscope.clock import monotonic, wall_ns
from callscope.errors import IngestError, NotPublished, TimedOut
from ingest.gateways import closing
from ingest.gateways.gate import Gate
from ingest.gateways.pace import Pace
from ingest.gateways.resumption import LiveStream
from ingest.gateways.watching import receive_and_watch
from ingest.gateways.websocket import Connection
from ingest.protocols.events import Audio, Consented, Ended, Marked, Missing, Opened, Placed
from ingest.protocols.websocket import WebSocketProtocol, error_message
from ingest.source import Source

_CATCH_UP_BURST_S: Final = 1.0
"""Audio that a client that came back may send at once."""
_KEPT_AGAIN_S: Final = 2.0
"""While Kafka is away a client hears so often that what it sent is kept: silence would look like a dead line."""
_EVENTS_A_TURN: Final = 25
"""A long chunk of a recording is many packets, and other connections have their turn between them."""


async def serve(connection: Connection, gate: Gate) -> None:
    """One client's connection, from the hello to the close frame."""
    await _Stream(connection, gate).serve()


class _Stream:
    def __init__(self, connection: Connection, gate: Gate) -> None:
        self._socket = connection
        self._settings = gate.settings.ingest
        self._intake = gate.intake
        self._sessions = gate.sessions
        self._protocol = WebSocketProtocol()
        self._waiting_since: float | None = None
        self._acknowledged_at = monotonic()
        self._live: LiveStream | None = None
        self._pace: Pace | None = None

    async def serve(self) -> None:
        try:
            opened = await self._hello()
            if self._protocol.resume is not None:
                await self._resume(self._protocol.resume, opened)
                return
            source = await self._intake.open(opened, self._socket.granted)
            if self._protocol.resumable and self._settings.resume_s:
                self._live = self._sessions.begin(opened, self._socket.granted, source, self._socket)
            await self._stream(source)
        except IngestError as error:
            await closing.refuse(self._socket, error, error_message(error))
        except ConnectionClosed as closed:
            closing.count(self._socket, closed)

    async def _hello(self) -> Opened:
        try:
            async with asyncio.timeout(self._settings.hello_timeout_s):
                message = await self._socket.recv()
        except TimeoutError:
            raise TimedOut(
                f"No hello came within {self._settings.hello_timeout_s:g} s. Send it as soon as the connection is open."
            ) from None
        (event,) = self._protocol.receive(message)
        assert isinstance(event, Opened)
        return event

    async def _resume(self, token: str, opened: Opened) -> None:
        """Go on with a stream whose connection was lost, or tell once more that it has ended."""
        live = await self._sessions.take(token, opened, self._socket.granted, self._socket)
        self._live = live
        rate_hz, step = opened.audio_format.rate_hz, opened.audio_format.step_bytes
        self._pace = Pace(
            rate_hz * step * self._settings.catch_up_speed,
            burst=rate_hz * step * _CATCH_UP_BURST_S,
        )
        if live.last_words is None:
            await self._stream(live.source)
            return
        try:
            await self._socket.send(self._ready(live.source))
            await self._socket.send(live.last_words)
            await self._socket.close()
        finally:
            self._sessions.leave(live, self._settings.resume_s)

    async def _stream(self, source: Source) -> None:
        """Receive until the end, and end the source whatever happens, unless its client may come back."""
        reason = "gateway error"
        whole = False
        may_come_back = False
        try:
            await self._socket.send(self._ready(source))
            if self._protocol.resume is not None:
                await source.place(source.taken, wall_ns())
                await source.mark(Marked("reconnected"))
            await receive_and_watch(self._receive(source), self._watch(source))
            reason, whole = "end", True
        except IngestError as error:
            reason = closing.why_failed(error)
            may_come_back = isinstance(error, NotPublished) and source.can_go_on
            raise
        except ConnectionClosed as closed:
            reason = closing.why_closed(closed)
            may_come_back = closing.was_cut(closed)
            raise
        finally:
            if may_come_back and self._live is not None:
                self._sessions.leave(self._live, self._settings.resume_s)
            else:
                await self._end(source, reason, whole=whole)
        await self._socket.send(self._protocol.ended(source.published(), source.padded))
        await self._socket.close()

    async def _end(self, source: Source, reason: str, *, whole: bool) -> None:
        """End the streams; where that was asked for and went well, a client that comes back is told so once more."""
        live = self._live
        try:
            await source.end(reason, wall_ns(), whole=whole)
            if whole:
                await self._delivered(source)
                if live is not None:
                    live.last_words = self._protocol.ended(source.published(), source.padded)
        finally:
            if live is not None and live.last_words is not None:
                self._sessions.leave(live, self._settings.resume_s)
            elif live is not None:
                self._sessions.end(live)

    async def _delivered(self, source: Source) -> None:
        """Wait until Kafka has everything; while it is away, go on saying how much of it is kept."""
        acknowledging = asyncio.create_task(self._acknowledge(source))
        try:
            await source.delivered(in_kafka=True)
        finally:
            acknowledging.cancel()
            await asyncio.gather(acknowledging, return_exceptions=True)

    async def _acknowledge(self, source: Source) -> None:
        with suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(self._settings.ack_interval_s)
                if ack := self._ack(source):
                    await self._socket.send(ack)

    def _ack(self, source: Source) -> str | None:
        again = monotonic() - self._acknowledged_at >= _KEPT_AGAIN_S
        ack = self._protocol.ack(source.published(), source.kept(), again=again)
        if ack is not None:
            self._acknowledged_at = monotonic()
        return ack

    def _ready(self, source: Source) -> str:
        if self._live is None:
            return self._protocol.ready(self._settings.ack_interval_s)
        return self._protocol.ready(
            self._settings.ack_interval_s, self._live.token, self._settings.resume_s, source.taken
        )

    async def _receive(self, source: Source) -> None:
        """Hand on audio until the client says that this was all. What is not read here waits in the socket."""
        while True:
            self._waiting_since = monotonic()
            message = await self._socket.recv()
            self._waiting_since = None
            for number, event in enumerate(self._protocol.receive(message)):
                if number % _EVENTS_A_TURN == _EVENTS_A_TURN - 1:
                    await asyncio.sleep(0)
                match event:
                    case Audio(data):
                        if self._pace is not None:
                            await asyncio.sleep(self._pace.delay_s(len(data), monotonic()))
                        await source.audio(data, wall_ns())
                    case Missing(samples, reason):
                        await source.missing(samples, reason, wall_ns())
                    case Placed(sample):
                        await source.place(sample, wall_ns())
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
            if ack := self._ack(source):
                try:
                    async with asyncio.timeout(limit_s):
                        await self._socket.send(ack)
                except ConnectionClosed:
                    return
                except TimeoutError:
                    raise TimedOut(f"Acknowledgements have not been read for {limit_s:g} s.") from None
