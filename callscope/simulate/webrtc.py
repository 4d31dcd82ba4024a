"""A browser's part of WebRTC, by aiortc: an offer over HTTP, then one track of Opus a leg, in real time."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urljoin

import aiohttp
import click
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket, is_rtcp
from av import AudioFrame
from numpy.typing import NDArray

from callscope.client import recording
from callscope.client.recording import Recording
from callscope.client.sending import SendRefused
from callscope.clock import monotonic

RATE_HZ: Final = 48_000
FRAME: Final = 960
_CONNECT_TIMEOUT_S: Final = 20.0
_SETTLE_S: Final = 0.2
"""From the last packet to the end of the session: it may still be on its way."""


class _Leg(MediaStreamTrack):
    """One leg's sound, 20 ms at a time, in real time.

    Args:
        pcm: at 48 kHz, shape (n,).
    """

    kind = "audio"

    def __init__(self, pcm: NDArray[np.int16]) -> None:
        super().__init__()
        self.over = asyncio.Event()
        self._pcm = np.pad(pcm, (0, -len(pcm) % FRAME))
        self._at = 0
        self._began: float | None = None

    async def recv(self) -> AudioFrame:
        """The next frame, when its time has come."""
        if self._began is None:
            self._began = monotonic()
        if self._at >= len(self._pcm):
            self.over.set()
            raise MediaStreamError
        await asyncio.sleep(max(0.0, self._began + (self._at + FRAME) / RATE_HZ - monotonic()))
        frame = AudioFrame.from_ndarray(self._pcm[None, self._at : self._at + FRAME], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, self._at, Fraction(1, RATE_HZ)
        self._at += FRAME
        return frame


async def send(
    call: Recording,
    url: str,
    call_id: str,
    legs: tuple[str, ...],
    *,
    token: str | None = None,
    ice_servers: tuple[RTCIceServer, ...] = (),
    is_lost: Callable[[int, int], bool] = lambda leg, number: False,
    is_polite: bool = True,
) -> None:
    """Send a recording as one WebRTC peer and end the session when all of it was sent.

    Args:
        call: what to send.
        url: where offers go, "http://127.0.0.1:7072/v1/webrtc".
        call_id: the call's id.
        legs: one name per channel.
        token: if the gateway wants one.
        ice_servers: STUN and TURN.
        is_lost: which packets the network loses, by leg (0, 1) and number of the packet.
        is_polite: end with DELETE; False: just go, as a closed browser does.

    Raises:
        SendRefused: the gateway cannot be reached, refused the offer, or there is no connection to it.
    """
    samples = recording.resampled(call, RATE_HZ)
    connection = RTCPeerConnection(RTCConfiguration(iceServers=list(ice_servers)))
    tracks = [_Leg(samples[:, channel]) for channel in range(call.channels)]
    for track in tracks:
        connection.addTransceiver(track, direction="sendonly")
    await connection.setLocalDescription(await connection.createOffer())
    _lose(connection, is_lost)
    query = {"call_id": call_id, "legs": ",".join(legs)}
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with aiohttp.ClientSession(headers=headers) as session:
            place, answer = await _offer(session, f"{url}?{urlencode(query)}", connection.localDescription.sdp)
            await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            await _connected(connection, url)
            await asyncio.gather(*(track.over.wait() for track in tracks))
            await asyncio.sleep(_SETTLE_S)
            if is_polite:
                async with session.delete(urljoin(url, place)):
                    pass
    except aiohttp.ClientConnectionError as error:
        raise SendRefused(f"No gateway answers at {url} ({error}). Is its WebRTC port configured?") from error
    finally:
        await connection.close()


async def _offer(session: aiohttp.ClientSession, url: str, sdp: str) -> tuple[str, str]:
    async with session.post(url, data=sdp, headers={"Content-Type": "application/sdp"}) as response:
        text = await response.text()
        if response.status != 201:
            raise SendRefused(f"The gateway refused the offer with {response.status}: {text}")
        return response.headers["Location"], text


async def _connected(connection: RTCPeerConnection, url: str) -> None:
    deadline = monotonic() + _CONNECT_TIMEOUT_S
    while connection.connectionState != "connected":
        if connection.connectionState in ("failed", "closed") or monotonic() > deadline:
            raise SendRefused(f"The gateway at {url} answered, but no connection comes about: UDP may be blocked.")
        await asyncio.sleep(0.02)


def _lose(connection: RTCPeerConnection, is_lost: Callable[[int, int], bool]) -> None:
    """Have a transport drop RTP packets on their way out; all tracks go over one."""
    senders = connection.getSenders()
    legs: Mapping[int, int] = {sender._ssrc: index for index, sender in enumerate(senders)}
    numbers = dict.fromkeys(legs, 0)
    for transport in {sender.transport for sender in senders}:
        own = transport._send_rtp

        async def send_rtp(data: bytes, own: Any = own) -> None:
            if not is_rtcp(data):
                ssrc = RtpPacket.parse(data).ssrc
                numbers[ssrc] += 1
                if is_lost(legs[ssrc], numbers[ssrc] - 1):
                    return
            await own(data)

        setattr(transport, "_send_rtp", send_rtp)  # noqa: B010  # aiortc calls this one


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", default="http://127.0.0.1:7072/v1/webrtc", show_default=True, help="Where offers go.")
@click.option("--call-id", help="Default: the file's name and a random part.")
@click.option("--legs", default="customer,agent", show_default=True, help="Names of the channels, left first.")
@click.option("--token", help="If the gateway wants one.")
@click.option("--lose", type=click.IntRange(2), help="Lose every n-th packet.")
def command(file: Path, url: str, call_id: str | None, legs: str, token: str | None, lose: int | None) -> None:
    """WebRTC: a peer with one track of Opus a leg (docs/protocols/webrtc.md)."""
    audio = recording.read(file)
    identity = call_id or f"{audio.name[:100]}-{uuid.uuid4().hex[:6]}"
    names = tuple(legs.split(","))[: audio.channels]
    lost = (lambda _, number: number % lose == lose - 1) if lose else (lambda _, number: False)
    asyncio.run(send(audio, url, identity, names, token=token, is_lost=lost))
    click.echo(f"{identity}: {audio.duration_s:.2f} s sent")
