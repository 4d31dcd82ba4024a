"""Genesys Cloud monitoring a call by AudioHook: a recording sent as it would send it, the handshake signed."""

from __future__ import annotations

import asyncio
import io
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from callscope import clock
from callscope.client.audiohook_messages import CHANNELS, Messages, Session, handshake
from callscope.client.recording import Recording
from callscope.client.sending import SendRefused
from ingest.protocols.audiohook_messages import RATE_HZ

PIECE: Final = RATE_HZ // 5
"""Samples in a piece of audio: 0.2 s, as the vendor sends it."""
_OPEN_S: Final = 5.0
_CLOSE_S: Final = 10.0
_FIRST_PING_S: Final = 1.0
_PING_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Skip:
    """A hole in what is sent.

    Attributes:
        at_s: where in the recording.
        for_s: how much of the recording is left out.
        kind: "paused" or "discarded".
    """

    at_s: float
    for_s: float
    kind: str


@dataclass(slots=True)
class Sent:
    """What came of a session.

    Attributes:
        channels: those the server chose.
        duration_s: the position at the end.
        longest_wait_s: the longest time a pong took.
    """

    channels: tuple[str, ...] = ()
    duration_s: float = 0.0
    longest_wait_s: float = 0.0


async def send(
    session: Session, recording: Recording, gateway: str, *, speed: float = 1.0, skips: tuple[Skip, ...] = ()
) -> Sent:
    """Play Genesys Cloud's part from the handshake to the close.

    Args:
        session: who calls, and with which key.
        recording: what is said: the left channel outside, the right one inside.
        gateway: the address, "ws://127.0.0.1:7070/audiohook".
        speed: 1 is real time; 0 is as fast as the gateway takes it.
        skips: holes, in order.

    Raises:
        SendRefused: the gateway cannot be reached, refused the session or ended it; with its reason.
    """
    headers = handshake(session, gateway, secrets.token_urlsafe(18), clock.calendar_ns() / 1e9)
    try:
        async with connect(
            gateway, additional_headers=headers, compression=None, ping_interval=None, max_size=1 << 17
        ) as connection:
            return await _Sending(connection, Messages(session), recording, speed, skips).run()
    except ConnectionClosed as closed:
        said = f"{closed.rcvd.reason} ({closed.rcvd.code})" if closed.rcvd else "it was lost"
        raise SendRefused(f"The gateway closed the connection: {said}") from closed
    except InvalidStatus as refused:
        body = (refused.response.body or b"").decode(errors="replace").strip()
        raise SendRefused(f"The gateway refused the session: {body} (HTTP {refused.response.status_code})") from refused
    except TimeoutError:
        raise SendRefused("The gateway did not answer in the time Genesys Cloud allows.") from None
    except OSError as error:
        raise SendRefused(
            f"No gateway answers at {gateway} ({error.strerror or error}). Is `callscope up` running there?"
        ) from error


async def probe(api_key: str, secret: bytes | None, gateway: str) -> Sent:
    """Only try the connection, as saving the integration does.

    Raises:
        SendRefused: it cannot be had.
    """
    silence = Recording("probe", np.zeros((0, 2), np.int16), RATE_HZ)
    return await send(Session.probe(api_key, secret), silence, gateway)


class _Sending:
    def __init__(
        self,
        connection: ClientConnection,
        messages: Messages,
        recording: Recording,
        speed: float,
        skips: tuple[Skip, ...],
    ) -> None:
        self._connection = connection
        self._messages = messages
        self._pcm = _at_8_khz(recording)
        self._speed = speed
        self._skips = list(skips)
        self._sent = Sent()
        self._pinged_at: float | None = None
        self._asked_to_leave: str | None = None

    async def run(self) -> Sent:
        async with asyncio.timeout(_OPEN_S):
            await self._connection.send(self._messages.open(self._pcm.shape[1]))
            opened = await self._hear()
        if opened["type"] != "opened":
            raise SendRefused(f"The gateway answered with {opened['type']!r}: {opened['parameters']}")
        media = opened["parameters"]["media"]
        self._sent.channels = tuple(media[0]["channels"]) if media else ()
        listener = asyncio.create_task(self._listen())
        pinger = asyncio.create_task(self._ping())
        try:
            await self._stream()
            pinger.cancel()
            reason = "end" if self._asked_to_leave is None else "disconnect"
            await self._connection.send(self._messages.message("close", {"reason": reason}))
            async with asyncio.timeout(_CLOSE_S):
                await listener
        finally:
            listener.cancel()
            pinger.cancel()
            await asyncio.gather(listener, pinger, return_exceptions=True)
        self._sent.duration_s = self._messages.position / RATE_HZ
        if self._asked_to_leave is not None:
            raise SendRefused(f"The gateway ended the session: {self._asked_to_leave}")
        return self._sent

    async def _stream(self) -> None:
        chosen = [CHANNELS.index(name) for name in self._sent.channels if CHANNELS.index(name) < self._pcm.shape[1]]
        if not chosen:
            return
        started = clock.monotonic()
        at = 0
        while at < len(self._pcm) and self._asked_to_leave is None:
            if self._skips and at >= self._skips[0].at_s * RATE_HZ:
                skip = self._skips.pop(0)
                skipped = min(round(skip.for_s * RATE_HZ), len(self._pcm) - at)
                at += skipped
                await self._skip(skip.kind, skipped, started + at / RATE_HZ / (self._speed or 1.0))
                continue
            upto = min(at + PIECE, len(self._pcm))
            if self._skips:
                upto = max(at + 1, min(upto, round(self._skips[0].at_s * RATE_HZ)))
            if self._speed > 0:
                await asyncio.sleep(max(0.0, started + upto / RATE_HZ / self._speed - clock.monotonic()))
            await self._connection.send(_mu_law(self._pcm[at:upto, chosen]))
            self._messages.position += upto - at
            at = upto

    async def _skip(self, kind: str, samples: int, until: float) -> None:
        if kind == "paused":
            await self._connection.send(self._messages.message("paused"))
        if self._speed > 0:
            await asyncio.sleep(max(0.0, until - clock.monotonic()))
        await self._connection.send(self._messages.skip("resumed" if kind == "paused" else kind, samples))

    async def _ping(self) -> None:
        await asyncio.sleep(_FIRST_PING_S)
        with suppress(ConnectionClosed):  # whoever sends audio finds out too, and says why
            while True:
                if self._pinged_at is not None:
                    self._asked_to_leave = f"no pong came within {_PING_S:g} s"
                    return
                self._pinged_at = clock.monotonic()
                await self._connection.send(self._messages.message("ping"))
                await asyncio.sleep(_PING_S)

    async def _listen(self) -> None:
        """Until "closed"."""
        while True:
            message = await self._hear()
            match message["type"]:
                case "closed":
                    return
                case "pong" if self._pinged_at is not None:
                    waited_s = clock.monotonic() - self._pinged_at
                    self._sent.longest_wait_s = max(self._sent.longest_wait_s, waited_s)
                    self._pinged_at = None
                case "disconnect":
                    said = message["parameters"]
                    self._asked_to_leave = said.get("info") or said["reason"]

    async def _hear(self) -> dict[str, Any]:
        text = await self._connection.recv()
        if isinstance(text, bytes):
            raise SendRefused("The gateway sent binary data, which AudioHook servers do not.")
        try:
            return self._messages.read(text)
        except (ValueError, KeyError) as error:
            raise SendRefused(f"The gateway does not keep to AudioHook: {error}") from error


def _at_8_khz(recording: Recording) -> NDArray[np.int16]:
    if recording.rate_hz == RATE_HZ or not len(recording.pcm):
        return recording.pcm
    converted: NDArray[np.int16] = soxr.resample(recording.pcm, recording.rate_hz, RATE_HZ)
    return converted


def _mu_law(pcm: NDArray[np.int16]) -> bytes:
    raw = io.BytesIO()
    soundfile.write(raw, pcm, RATE_HZ, format="RAW", subtype="ULAW")
    return raw.getvalue()
