"""Genesys AudioHook: moves messages between a socket, `ingest.protocols.audiohook` and the intake.

Reading and publishing are tasks of their own, so that "opened" and "pong" never wait for Kafka. Between them is a queue
of 10 s of audio; when it is full, the socket is not read.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from websockets.exceptions import ConnectionClosed

from callscope.clock import monotonic, wall_ns
from callscope.errors import IngestError, NotPublished, TimedOut, Unauthorized
from ingest import telemetry
from ingest.gateways import closing
from ingest.gateways.audiohook_access import ORGANIZATION_ID, SESSION_ID
from ingest.gateways.audiohook_conversations import Held, Key, conversations_of
from ingest.gateways.gate import Gate
from ingest.gateways.websocket import Connection
from ingest.protocols.audiohook import SOURCE, AudioHookEvent, AudioHookProtocol, Begun, ClientError, DisconnectReason
from ingest.protocols.audiohook_messages import RATE_HZ
from ingest.protocols.events import Audio, Ended, Marked, Missing, Opened
from ingest.protocols.websocket import close_reason
from ingest.source import Source

_QUEUED_BYTES: Final = 160_000
"""10 s of two channels."""
_EVENT_BYTES: Final = 1_000
"""What an event other than audio counts in the queue."""
_LEAVE_S: Final = 5.0
_DELIVER_S: Final = 8.0
"""The vendor waits 10 s for "closed"."""
_POLL_S: Final = 0.25


async def serve(connection: Connection, gate: Gate) -> None:
    """One session, from the handshake to the close frame."""
    await _Session(connection, gate).serve()


class _Session:
    def __init__(self, connection: Connection, gate: Gate) -> None:
        assert connection.request is not None
        headers = connection.request.headers
        self._socket = connection
        self._settings = gate.settings.ingest
        self._intake = gate.intake
        self._conversations = conversations_of(gate.intake)
        self._id = headers[SESSION_ID]
        self._protocol = AudioHookProtocol(
            self._id, headers[ORGANIZATION_ID], self._settings.audiohook.legs, monotonic()
        )
        self._queue: asyncio.Queue[tuple[AudioHookEvent, int] | None] = asyncio.Queue()
        self._queued_bytes = 0
        self._room = asyncio.Event()
        self._waiting_since = monotonic()
        self._has_begun = False
        self._key: Key | None = None
        self._held: Held | None = None

    async def serve(self) -> None:
        try:
            await self._run()
            await self._close()
        except IngestError as error:
            await self._refuse(error)
        except ConnectionClosed as closed:
            closing.count(self._socket, closed)
            why = closing.why_closed(closed)
            if why != closing.CONNECTION_LOST or not await self._succeeded():
                await self._end(why)
        finally:
            await self._end("gateway error")

    async def _run(self) -> None:
        """Run the tasks until one of them is done; what was read is worked off, whatever became of the reading."""
        read = asyncio.create_task(self._read())
        publish = asyncio.create_task(self._publish())
        watch = asyncio.create_task(self._watch())
        tasks = (publish, read, watch)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not publish.done():
                read.cancel()
                self._queue.put_nowait(None)
            await publish
            for task in (read, watch):
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        """Answer what is to be answered at once, and queue the rest, until the client closes the session."""
        while True:
            while self._queued_bytes >= _QUEUED_BYTES:
                self._room.clear()
                await self._room.wait()
            message = await self._socket.recv()
            self._waiting_since = monotonic()
            events = self._protocol.receive(message, self._waiting_since)
            if Begun() in events:
                await self._begin(events)
            for answer in self._protocol.answers():
                await self._socket.send(answer)
            for event in events:
                self._queued_bytes += _size(event)
                self._queue.put_nowait((event, wall_ns()))
                if isinstance(event, Ended):
                    return

    async def _begin(self, events: list[AudioHookEvent]) -> None:
        self._has_begun = True
        earlier = None
        for event in events:
            if isinstance(event, Opened):
                self._key = (self._socket.granted.tenant, event.call_id, event.metadata["participant_id"])
                earlier = self._conversations.find(self._key)
        goes_on = earlier is not None and earlier.session_id in self._protocol.continued
        await self._socket.send(self._protocol.opened(earlier.position if earlier and goes_on else None))
        if self._protocol.is_probe:
            telemetry.probe(SOURCE, closing.peer(self._socket))

    async def _publish(self) -> None:
        """Hand on what was read, in order, until the end of it."""
        while (item := await self._queue.get()) is not None:
            event, arrived_ns = item
            await self._work_off(event, arrived_ns)
            self._queued_bytes -= _size(event)
            self._room.set()
            if isinstance(event, Ended):
                return

    async def _work_off(self, event: AudioHookEvent, arrived_ns: int) -> None:
        match event:
            case Opened():
                await self._open(event, arrived_ns)
            case ClientError(code, message):
                telemetry.client_error(SOURCE, closing.peer(self._socket), code, message)
            case Audio(data) if self._held is not None:
                await self._held.source.audio(data, arrived_ns)
                self._held.heard_at, self._held.position = monotonic(), self._protocol.position
            case Missing(samples, reason) if self._held is not None:
                await self._held.source.missing(samples, reason, arrived_ns)
                self._held.heard_at, self._held.position = monotonic(), self._protocol.position
            case Marked() if self._held is not None:
                await self._held.source.mark(event)

    async def _open(self, opened: Opened, arrived_ns: int) -> None:
        """Begin the streams, or go on with those of the conversation's earlier session."""
        assert self._key is not None
        earlier = self._conversations.find(self._key)
        if earlier is None:
            source = await self._intake.open(opened, self._socket.granted)
            self._held = self._conversations.hold(self._key, Held(source, opened, self._id.lower()))
            return
        await self._conversations.take_over(earlier, opened, _LEAVE_S)
        source = earlier.source
        self._held = self._conversations.hold(self._key, Held(source, opened, self._id.lower()))
        away_s = monotonic() - earlier.heard_at
        missing = round(away_s * RATE_HZ)
        if earlier.session_id in self._protocol.continued:
            missing = max(0, self._protocol.opened_at - earlier.position)
        telemetry.reconnected(opened.call_id, away_s)
        await source.mark(Marked("reconnected"))
        await source.missing(missing, "lost", arrived_ns)

    async def _watch(self) -> None:
        """Find lost records and silent clients; return when another session wants the conversation."""
        while self._held is None or not self._held.wanted.is_set():
            await asyncio.sleep(_POLL_S)
            if self._held is not None:
                self._held.source.check()
            limit_s = self._settings.idle_timeout_s if self._has_begun else self._settings.hello_timeout_s
            if self._queued_bytes < _QUEUED_BYTES and monotonic() - self._waiting_since > limit_s:
                raise TimedOut(f"Nothing came for {limit_s:g} s, not even a ping.")

    async def _close(self) -> None:
        """The session has come to its end in good order: by the client's "close", or because another takes over."""
        if self._protocol.close_reason is None:
            self._hand_over()
            await self._end("taken over")  # if the other one has gone meanwhile
            await self._ask_to_close("completed", "The conversation goes on in another session.")
            await self._socket.close()
            return
        source = self._held.source if self._held is not None else None
        if self._protocol.close_reason != "reconnect":
            await self._end("end" if self._protocol.close_reason == "end" else f"closed: {self._protocol.close_reason}")
        if source is not None:
            await _delivered(source)
        await self._say_closed()
        await self._socket.close()
        if self._protocol.close_reason == "reconnect" and not await self._succeeded():
            await self._end("closed: reconnect")

    async def _refuse(self, error: IngestError) -> None:
        """Ask the client to close the session, and close the connection with the error's code if it does not."""
        reason = close_reason(str(error))
        telemetry.error(error.close_code, closing.peer(self._socket), reason)
        with suppress(NotPublished):  # which may be the error itself; it is told already
            await self._end(closing.why_failed(error))
        await self._ask_to_close("unauthorized" if isinstance(error, Unauthorized) else "error", str(error))
        await self._socket.close(error.close_code, reason)

    async def _ask_to_close(self, reason: DisconnectReason, info: str) -> None:
        with suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(self._settings.audiohook.close_timeout_s):
                await self._socket.send(self._protocol.disconnect(reason, info))
                while self._protocol.close_reason is None:
                    self._protocol.receive(await self._socket.recv())
                await self._say_closed()

    async def _say_closed(self) -> None:
        """Say "closed", and wait for the client to close the connection, as it is its part to."""
        with suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(self._settings.audiohook.close_timeout_s):
                await self._socket.send(self._protocol.closed())
                while True:
                    await self._socket.recv()

    async def _succeeded(self) -> bool:
        """Keep the streams for the conversation's next session; whether one came in time."""
        deadline = monotonic() + self._settings.resume_s
        while self._held is not None and monotonic() < deadline and self._socket.server.is_serving():
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._held.wanted.wait()
                return self._hand_over()
        return False

    def _hand_over(self) -> bool:
        """Give the source up if another session still wants it."""
        if self._held is None or not self._held.wanted.is_set():
            return False
        self._held.released.set()
        self._held = None
        return True

    async def _end(self, reason: str) -> None:
        """End the streams, if they are this session's and have not been ended."""
        held, self._held = self._held, None
        if held is None:
            return
        assert self._key is not None
        self._conversations.let_go(self._key, held)
        await held.source.end(reason, wall_ns(), whole=False)


async def _delivered(source: Source) -> None:
    try:
        async with asyncio.timeout(_DELIVER_S):
            await source.delivered()
    except TimeoutError:
        raise NotPublished(f"Kafka did not acknowledge the end within {_DELIVER_S:g} s.") from None


def _size(event: AudioHookEvent) -> int:
    return len(event.data) if isinstance(event, Audio) else _EVENT_BYTES
