"""Streams whose clients may come back on another connection: held by their session token while nobody is there."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final

from websockets.asyncio.server import ServerConnection

from callscope.access import Grant
from callscope.clock import wall_ns
from callscope.errors import IngestError, UnknownSession
from ingest import telemetry
from ingest.gateways.closing import SHUTTING_DOWN
from ingest.protocols.events import Opened
from ingest.source import Source

LOST: Final = "connection lost"


@dataclass(eq=False)
class LiveStream:
    """A source and whoever sends it, over however many connections.

    Attributes:
        token: who has it may go on with the stream.
        opened: what the client announced; it must announce the same again.
        grant: what it may do.
        source: the open streams.
        last_words: the message that tells of the end, once it has been reached.
        connection: who sends now; None while nobody is there.
        free: set while nobody is there.
    """

    token: str
    opened: Opened
    grant: Grant
    source: Source
    last_words: str | None = None
    connection: ServerConnection | None = None
    free: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: asyncio.Task[None] | None = None


class Resumption:
    """The sessions there are. Tokens are kept as hashes, so that looking one up tells nothing of the others."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, LiveStream] = {}

    def begin(self, opened: Opened, grant: Grant, source: Source, connection: ServerConnection) -> LiveStream:
        """A stream that can be resumed begins; nobody else has its token."""
        live = LiveStream(secrets.token_urlsafe(24), opened, grant, source, connection=connection)
        self._sessions[_key(live.token)] = live
        return live

    async def take(self, token: str, opened: Opened, grant: Grant, connection: ServerConnection) -> LiveStream:
        """Go on with a stream; a connection that it still has, perhaps half-open, is broken off.

        All that had come by the other connection is taken first, so that `live.source.taken` is what there is.

        Raises:
            UnknownSession: no stream has this token, or the hello announces something else.
        """
        live = self._sessions.get(_key(token))
        if live is None or live.grant.tenant != grant.tenant or live.opened != opened:
            raise UnknownSession(
                "No stream waits for this session: it has ended, or the hello announces something else. Open it anew."
            )
        while live.connection is not None:
            live.connection.transport.abort()
            await live.free.wait()
        if _key(token) not in self._sessions:
            raise UnknownSession("The stream of this session has ended meanwhile. Open it anew.")
        if live._waiting is not None:
            live._waiting.cancel()
            live._waiting = None
        live.connection = connection
        live.free.clear()
        telemetry.resumed(str(live.opened.streams[0]))
        return live

    def leave(self, live: LiveStream, resume_s: float) -> None:
        """Its connection is gone: wait for another, and end the stream if none comes.

        Args:
            live: the stream.
            resume_s: how long to wait.
        """
        live.connection = None
        live._waiting = asyncio.create_task(self._wait(live, resume_s))
        live.free.set()

    def end(self, live: LiveStream) -> None:
        """The stream went wrong and has been ended: nobody may go on with it."""
        self._sessions.pop(_key(live.token), None)
        live.connection = None
        live.free.set()

    async def close(self) -> None:
        """End all streams that wait for their clients, as a shutdown does."""
        waiting = [live for live in self._sessions.values() if live._waiting is not None]
        for live in waiting:
            assert live._waiting is not None
            live._waiting.cancel()
        await asyncio.gather(*(self._expire(live, SHUTTING_DOWN) for live in waiting))

    async def _wait(self, live: LiveStream, resume_s: float) -> None:
        await asyncio.sleep(resume_s)
        live._waiting = None
        await self._expire(live, LOST)

    async def _expire(self, live: LiveStream, reason: str) -> None:
        self._sessions.pop(_key(live.token), None)
        if live.last_words is not None:
            return
        try:
            await live.source.end(reason, wall_ns(), whole=False)
        except IngestError as error:
            telemetry.error(error.close_code, "nobody", str(error))


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
