"""Sending a recording to the gateway in real time, or faster, as a telephony platform would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from callscope import clock
from callscope.client.recording import Recording
from callscope.errors import CallscopeError

CHUNK_S = 0.02
MAX_AHEAD_S = 5.0
"""When sending faster than real time: audio sent but not yet acknowledged, at most."""


class SendRefused(CallscopeError):
    """The gateway refused the call or ended it; carries its reason."""


@dataclass(slots=True)
class Sending:
    """How far a call has been sent, and how much of it is safe in Kafka.

    Attributes:
        sent_s: media time sent.
        published_s: media time that Kafka has acknowledged on every leg.
    """

    sent_s: float = 0.0
    published_s: float = 0.0
    _acknowledged: asyncio.Event = field(default_factory=asyncio.Event)


async def send(
    recording: Recording,
    gateway: str,
    call_id: str,
    legs: tuple[str, ...],
    *,
    speed: float = 1.0,
    limit_s: float | None = None,
    metadata: Mapping[str, str] | None = None,
    progress: Callable[[Sending], None] = lambda _: None,
) -> Sending:
    """Send a recording as one call and wait until the gateway has published all of it.

    Args:
        recording: what to send.
        gateway: the gateway's address, "ws://127.0.0.1:7070/v1/stream".
        call_id: the call's id.
        legs: one name per channel.
        speed: 1 is real time, 2 twice as fast; 0 is as fast as the gateway takes it.
        limit_s: send only so much; a shorter recording is repeated until then.
        metadata: what the call's start event shall say of it.
        progress: called after every chunk and acknowledgement.

    Raises:
        SendRefused: the gateway cannot be reached, refused the call, or ended it.
    """
    hello: dict[str, object] = {
        "type": "hello",
        "call_id": call_id,
        "encoding": "s16le",
        "rate_hz": recording.rate_hz,
        "channels": recording.channels,
        "metadata": dict(metadata or {}),
    }
    hello |= {"leg": legs[0]} if recording.channels == 1 else {"legs": list(legs)}
    state = Sending()
    try:
        async with connect(gateway, compression=None, ping_timeout=None) as connection:
            await connection.send(json.dumps(hello))
            await _expect(connection, "ready")
            listener = asyncio.create_task(_listen(connection, state, progress))
            try:
                await _pump(connection, recording, state, speed, limit_s, progress, listener)
                await connection.send(json.dumps({"type": "end"}))
                await listener
            finally:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
    except ConnectionClosed as closed:
        raise SendRefused(_why(closed, gateway)) from closed
    except OSError as error:
        raise SendRefused(
            f"No gateway answers at {gateway} ({error.strerror or error}). Is `callscope up` running there?"
        ) from error
    return state


async def _pump(
    connection: ClientConnection,
    recording: Recording,
    state: Sending,
    speed: float,
    limit_s: float | None,
    progress: Callable[[Sending], None],
    listener: asyncio.Task[None],
) -> None:
    chunk = round(recording.rate_hz * CHUNK_S)
    total = len(recording.pcm) if limit_s is None else round(limit_s * recording.rate_hz)
    started = clock.monotonic()
    position = 0
    while position < total and not listener.done():
        within = position % len(recording.pcm)
        samples = recording.pcm[within : within + min(chunk, total - position)]
        position += len(samples)
        state.sent_s = position / recording.rate_hz
        if speed > 0:
            # A chunk goes out when its last sample would have been spoken.
            await asyncio.sleep(max(0.0, started + state.sent_s / speed - clock.monotonic()))
        while state.sent_s - state.published_s > MAX_AHEAD_S and not listener.done():
            state._acknowledged.clear()
            waiting = asyncio.create_task(state._acknowledged.wait())
            await asyncio.wait({waiting, listener}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        await connection.send(samples.tobytes())
        progress(state)


async def _listen(connection: ClientConnection, state: Sending, progress: Callable[[Sending], None]) -> None:
    async for text in connection:
        message = json.loads(text)
        if message["type"] in ("ack", "ended"):
            state.published_s = min(leg["published_s"] for leg in message["streams"].values())
            state._acknowledged.set()
            progress(state)
        if message["type"] == "ended":
            return
        if message["type"] == "error":
            raise SendRefused(f"The gateway ended the call: {message['message']} ({message['code']})")


async def _expect(connection: ClientConnection, kind: str) -> None:
    message = json.loads(await connection.recv())
    if message["type"] != kind:
        raise SendRefused(f"The gateway refused the call: {message.get('message', message)}")


def _why(closed: ConnectionClosed, gateway: str) -> str:
    if closed.rcvd is None:
        return f"The connection to {gateway} was lost."
    reason = closed.rcvd.reason or "no reason given"
    return f"The gateway at {gateway} closed the connection: {reason} ({closed.rcvd.code})"
