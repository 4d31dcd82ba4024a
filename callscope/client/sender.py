"""A client that sends one source of audio and stays with it: it reconnects, resumes, and says what was lost.

async with Sender(gateway, "call-17", ("customer", "agent"), rate_hz=8_000) as sender:
async for pcm in source:
await sender.send(pcm)
await sender.end()
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from callscope import clock
from callscope.client.backoff import Backoff
from callscope.client.buffer import SendBuffer
from callscope.errors import CallscopeError

_GOODBYE_S: Final = 1.0
_UNDECIDED_S: Final = 0.25
"""Audio that a gateway may have without acknowledging it: it waits for the rest of a frame, or in a resampler."""
_UNKNOWN_SESSION: Final = "unknown_session"
_STILL_OPEN: Final = "stream_exists"
_GO_ON_HTTP: Final = frozenset({429, 500, 502, 503, 504})
_GO_ON_CODES: Final = frozenset({1001, 1005, 1006, 1011, 1012, 1013, 1014})


class SendRefused(CallscopeError):
    """The gateway refused the call or ended it; carries its reason."""


@dataclass(slots=True)
class Progress:
    """How far a source is, in samples per channel at its own rate.

    Attributes:
        taken: handed to `send`.
        acknowledged: safe in Kafka.
        dropped: given up because the buffer was full; those that the gateway had not received are a gap in the stream.
        reconnects: attempts to make the connection anew.
        restarts: times the gateway did not know the session any more and the stream was opened anew, its media time
            going on where it was.
    """

    taken: int = 0
    acknowledged: int = 0
    dropped: int = 0
    reconnects: int = 0
    restarts: int = 0


class _Lost(Exception):
    """The connection is gone; trying again may help."""


class Sender:
    """Sends one source to the gateway over as many connections as it takes. Belongs to one event loop.

    Audio is kept until the gateway has acknowledged it, at most `buffer_s` of it. When that is full, `when_full`
    decides: "wait" holds `send` back (for files), "drop" gives up the oldest (for live sound, which cannot wait); what
    was given up becomes a gap.

    Args:
        gateway: "ws://127.0.0.1:7070/v1/stream".
        call_id: the call's id.
        legs: one name per channel.
        rate_hz: samples a second and channel.
        encoding: "s16le", "mulaw" or "alaw".
        metadata: what the call's start event shall say.
        token: to be let in with.
        buffer_s: audio kept at most.
        when_full: see above.
        give_up_s: how long the gateway may be away before `send` and `end` fail; None: for ever.
        silence_s: sent audio that is neither acknowledged nor answered for so long means a dead connection.
        backoff: pauses between attempts.
    """

    def __init__(
        self,
        gateway: str,
        call_id: str,
        legs: tuple[str, ...],
        *,
        rate_hz: int,
        encoding: Literal["s16le", "mulaw", "alaw"] = "s16le",
        metadata: Mapping[str, str] | None = None,
        token: str | None = None,
        buffer_s: float = 30.0,
        when_full: Literal["wait", "drop"] = "drop",
        give_up_s: float | None = None,
        silence_s: float = 15.0,
        backoff: Backoff | None = None,
    ) -> None:
        self.progress = Progress()
        self._gateway = gateway
        self._hello: dict[str, Any] = {
            "type": "hello",
            "call_id": call_id,
            "legs": list(legs),
            "encoding": encoding,
            "rate_hz": rate_hz,
            "channels": len(legs),
            "metadata": dict(metadata or {}),
            "resumable": True,
        }
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._rate_hz = rate_hz
        self._step = len(legs) * (2 if encoding == "s16le" else 1)
        self._buffer = SendBuffer(round(buffer_s * rate_hz), self._step)
        self._waits = when_full == "wait"
        self._give_up_s = give_up_s
        self._silence_s = silence_s
        self._backoff = backoff or Backoff()
        self._session: str | None = None
        self._ending = False
        self._ended: dict[str, Any] | None = None
        self._changed = asyncio.Event()
        self._more = asyncio.Event()
        self._heard_at = 0.0
        self._opened: asyncio.Future[None] | None = None
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            SendRefused: nobody is there, or refuses; the first time that is not tried again.
        """
        self._opened = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._run(self._opened))
        await asyncio.wait((self._opened, self._running), return_when=asyncio.FIRST_COMPLETED)
        if self._running.done():
            self._running.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave; without `end` before it, the gateway ends the stream as one that was broken off."""
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def send(self, data: bytes) -> None:
        """Hand over audio: whole samples of all channels.

        Raises:
            SendRefused: the gateway refused the stream for good, or was away for too long.
            ValueError: not whole samples.
        """
        if len(data) % self._step:
            raise ValueError(f"{len(data)} bytes are not whole samples of {self._step} bytes")
        while self._waits and not self._buffer.has_room(len(data) // self._step):
            await self._change()
        self._check()
        self._buffer.put(data)
        self.progress.taken, self.progress.dropped = self._buffer.end, self._buffer.dropped
        self._wake()

    async def end(self) -> Mapping[str, Any]:
        """Say that this was all; return the gateway's last word, its `ended`, when everything is safe.

        Raises:
            SendRefused: as `send`.
        """
        self._ending = True
        self._wake()
        while self._ended is None:
            await self._change()
        return self._ended

    async def _change(self) -> None:
        assert self._running is not None
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait((changed, self._running), return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        self._check()
        self._changed.clear()

    def _check(self) -> None:
        if self._running is not None and self._running.done() and self._ended is None:
            self._running.result()

    def _wake(self) -> None:
        self._changed.set()
        self._more.set()

    async def _run(self, opened: asyncio.Future[None]) -> None:
        """Connection after connection, until the end or until it makes no sense any more."""
        away_since: float | None = None
        while self._ended is None:
            try:
                await self._connection(opened)
            except _Lost as lost:
                if not opened.done():
                    raise SendRefused(str(lost)) from lost
                now = clock.monotonic()
                away_since = now if away_since is None or self._heard_at > away_since else away_since
                if self._give_up_s is not None and now - away_since > self._give_up_s:
                    raise SendRefused(f"{lost} It was tried again for {self._give_up_s:g} s.") from lost
                self.progress.reconnects += 1
                await asyncio.sleep(self._backoff.next_s())

    async def _connection(self, opened: asyncio.Future[None]) -> None:
        """One connection, until everything is sent and confirmed.

        Raises:
            _Lost: it broke; or the gateway cannot take it now.
            SendRefused: the gateway refused for good.
        """
        try:
            connection = await connect(
                self._gateway, compression=None, ping_interval=None, additional_headers=self._headers, open_timeout=10
            )
        except InvalidStatus as error:
            status = error.response.status_code
            said = (error.response.body or b"").decode(errors="replace").strip()
            text = f"The gateway at {self._gateway} answered with {status}: {said}"
            if status in _GO_ON_HTTP:
                raise _Lost(text) from error
            raise SendRefused(text) from error
        except (OSError, InvalidHandshake) as error:  # a TimeoutError is an OSError
            raise _Lost(
                f"No gateway answers at {self._gateway} ({getattr(error, 'strerror', None) or error}). "
                "Is `callscope up` running there?"
            ) from error
        try:
            position = await self._greet(connection)
            self._backoff.reset()
            if not opened.done():
                opened.set_result(None)
            await self._exchange(connection, position)
            async with asyncio.timeout(_GOODBYE_S):
                await connection.wait_closed()
        except TimeoutError:
            pass  # all is safe; whether the gateway says goodbye does not matter
        except ConnectionClosed as closed:
            raise self._closed(closed) from closed
        except asyncio.CancelledError:  # we leave on purpose: the gateway need not wait for us
            with suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE_S):
                    await connection.close()
            raise
        finally:
            # Not close(): a dead peer would be waited for.
            connection.transport.abort()

    async def _greet(self, connection: ClientConnection) -> int:
        """Say hello; the sample from which on the gateway needs audio."""
        hello = self._hello if self._session is None else {**self._hello, "resume": self._session}
        await connection.send(json.dumps(hello))
        try:
            async with asyncio.timeout(self._silence_s):
                ready = self._understood(await connection.recv())
        except TimeoutError:
            raise _Lost(f"The gateway at {self._gateway} did not answer the hello.") from None
        resumed = self._session is not None
        self._session = ready.get("session")
        return int(ready.get("received", 0)) if resumed else 0

    async def _exchange(self, connection: ClientConnection, position: int) -> None:
        self._heard_at = clock.monotonic()
        tasks = [
            asyncio.create_task(self._pump(connection, position)),
            asyncio.create_task(self._listen(connection)),
            asyncio.create_task(self._watch()),
        ]
        try:
            done, _ = await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(self, connection: ClientConnection, position: int) -> None:
        """Send what the buffer holds from `position` on, and then what comes; say where it begins after a break."""
        expected = position
        with_end = False
        while not with_end:
            self._more.clear()
            piece = self._buffer.after(position)
            if piece is None:
                with_end = self._ending
                if with_end:
                    await connection.send('{"type":"end"}')
                else:
                    await self._more.wait()
                continue
            at, data = piece
            if at != expected:
                await connection.send(json.dumps({"type": "at", "sample": at}))
            await connection.send(data)
            position = expected = at + len(data) // self._step

    async def _listen(self, connection: ClientConnection) -> None:
        async for text in connection:
            message = self._understood(text)
            self._heard_at = clock.monotonic()
            if message["type"] in ("ack", "ended"):
                published_s = min(leg["published_s"] for leg in message["streams"].values())
                self._buffer.acknowledge(int(published_s * self._rate_hz))
                self.progress.acknowledged = self._buffer.first
            if message["type"] == "ended":
                self._buffer.acknowledge(self._buffer.end)
                self.progress.acknowledged = self._buffer.end
                self._ended = message
                self._wake()
                return
            self._wake()
        raise ConnectionClosed(None, None)

    async def _watch(self) -> None:
        """Find a connection on which audio goes out and nothing comes back."""
        waiting_since: float | None = None
        while True:
            await asyncio.sleep(self._silence_s / 10)
            now = clock.monotonic()
            waits = self._buffer.held > _UNDECIDED_S * self._rate_hz or self._ending
            waiting_since = (waiting_since or now) if waits else None
            if waiting_since is not None and now - max(waiting_since, self._heard_at) > self._silence_s:
                raise _Lost(f"Nothing came back from {self._gateway} for {self._silence_s:g} s.")

    def _understood(self, text: str | bytes) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(text)
        if message["type"] != "error":
            return message
        said = f"The gateway ended the stream: {message['message']} ({message['code']})"
        if message["code"] == _UNKNOWN_SESSION:
            self._session = None
            self.progress.restarts += 1
            raise _Lost(said)
        if message.get("retriable") or (message["code"] == _STILL_OPEN and self.progress.reconnects):
            raise _Lost(said)
        raise SendRefused(said)

    def _closed(self, closed: ConnectionClosed) -> Exception:
        if closed.rcvd is None:
            return _Lost(f"The connection to {self._gateway} was lost.")
        text = f"The gateway at {self._gateway} closed the connection: {closed.rcvd.reason} ({closed.rcvd.code})"
        return _Lost(text) if closed.rcvd.code in _GO_ON_CODES else SendRefused(text)
