"""A browser's MediaRecorder: chunks of WebM (or Ogg) with Opus over our WebSocket protocol, one connection a leg."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import av
import click
import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from callscope.client import recording
from callscope.client.recording import Recording
from callscope.client.sending import SendRefused
from callscope.clock import monotonic

RATE_HZ: Final = 48_000
CHUNK_S: Final = 0.1
_FRAME: Final = 960
Container = Literal["webm", "ogg"]
_OPTIONS: Final[dict[str, dict[str, str]]] = {
    "webm": {"live": "1", "cluster_time_limit": str(round(CHUNK_S * 1_000)), "flush_packets": "1"},
    "ogg": {"page_duration": str(round(CHUNK_S * 1e6)), "flush_packets": "1"},
}


class _Growing:
    """Something a container is written to that cannot be read back or sought in."""

    def __init__(self) -> None:
        self._new = bytearray()

    def write(self, data: bytes) -> int:
        self._new += data
        return len(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        new = bytes(self._new)
        self._new.clear()
        return new


def chunks(pcm: NDArray[np.int16], container: Container) -> Iterator[tuple[float, bytes]]:
    """A recording as it grows.

    Args:
        pcm: one leg at 48 kHz, shape (n,).
        container: which.

    Yields:
        How much sound has been recorded, seconds, and the bytes that are new.
    """
    growing = _Growing()
    step = round(CHUNK_S * RATE_HZ)
    with av.open(growing, "w", format=container, options=_OPTIONS[container]) as output:
        stream = output.add_stream("libopus", rate=RATE_HZ, layout="mono", options={"application": "voip"})
        stream.codec_context.bit_rate = 64_000
        for at in range(0, len(pcm), step):
            for begin in range(at, min(at + step, len(pcm)), _FRAME):
                frame = av.AudioFrame.from_ndarray(pcm[None, begin : begin + _FRAME], format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, begin, Fraction(1, RATE_HZ)
                output.mux(stream.encode(frame))
            yield min(at + step, len(pcm)) / RATE_HZ, growing.take()
        output.mux(stream.encode(None))
    yield len(pcm) / RATE_HZ, growing.take()


async def send(
    call: Recording,
    url: str,
    call_id: str,
    legs: tuple[str, ...],
    *,
    container: Container = "webm",
    speed: float = 1.0,
    token: str | None = None,
) -> None:
    """Send a recording, each leg over a connection of its own, and wait until all of it is published.

    Args:
        call: what to send.
        url: the gateway's address, "ws://127.0.0.1:7070/v1/stream".
        call_id: the call's id.
        legs: one name per channel.
        container: "webm" or "ogg".
        speed: 1 is real time; 0 as fast as the gateway takes it.
        token: if the gateway wants one.

    Raises:
        SendRefused: the gateway cannot be reached, refused a leg, or ended it.
    """
    samples = recording.resampled(call, RATE_HZ)
    try:
        async with asyncio.TaskGroup() as group:
            for channel, leg in enumerate(legs):
                group.create_task(_send_leg(samples[:, channel], url, call_id, leg, container, speed, token))
    except* ConnectionClosed as closed:
        error = closed.exceptions[0]
        reason = error.rcvd.reason if isinstance(error, ConnectionClosed) and error.rcvd else "the connection was lost"
        raise SendRefused(f"The gateway at {url} ended the call: {reason}") from None
    except* OSError as failed:
        raise SendRefused(f"No gateway answers at {url} ({failed.exceptions[0]}).") from None


async def _send_leg(
    pcm: NDArray[np.int16], url: str, call_id: str, leg: str, container: Container, speed: float, token: str | None
) -> None:
    hello = {
        "type": "hello",
        "call_id": call_id,
        "leg": leg,
        "encoding": f"{container}-opus",
        "rate_hz": RATE_HZ,
    }
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with connect(url, compression=None, ping_timeout=None, additional_headers=headers) as connection:
        await connection.send(json.dumps(hello))
        began = monotonic()
        for recorded_s, new in chunks(np.ascontiguousarray(pcm), container):
            if speed:
                await asyncio.sleep(max(0.0, began + recorded_s / speed - monotonic()))
            if new:
                await connection.send(new)
        await connection.send(json.dumps({"type": "end"}))
        async for text in connection:
            message = json.loads(text)
            if message["type"] == "error":
                raise SendRefused(f"The gateway ended leg {leg}: {message['message']} ({message['code']})")
            if message["type"] == "ended":
                return


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", default="ws://127.0.0.1:7070/v1/stream", show_default=True, help="The gateway's address.")
@click.option("--call-id", help="Default: the file's name and a random part.")
@click.option("--legs", default="customer,agent", show_default=True, help="Names of the channels, left first.")
@click.option("--container", type=click.Choice(["webm", "ogg"]), default="webm", show_default=True)
@click.option("--speed", type=click.FloatRange(0, 1000), default=1.0, show_default=True, help="0: as fast as it goes.")
@click.option("--token", help="If the gateway wants one.")
def command(
    file: Path, url: str, call_id: str | None, legs: str, container: Container, speed: float, token: str | None
) -> None:
    """A browser's MediaRecorder over our WebSocket protocol (docs/protocols/webrtc.md)."""
    audio = recording.read(file)
    identity = call_id or f"{audio.name[:100]}-{uuid.uuid4().hex[:6]}"
    names = tuple(legs.split(","))[: audio.channels]
    asyncio.run(send(audio, url, identity, names, container=container, speed=speed, token=token))
    click.echo(f"{identity}: {audio.duration_s:.2f} s sent")
