"""Asterisk's WebSocket channel: one WebSocket per leg, MEDIA_START and bare media."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import click
import numpy as np
from numpy.typing import NDArray

from callscope.client import recording
from callscope.client.pacing import at_rate, leg, paced
from callscope.client.recording import Recording
from callscope.client.talking import talk
from ingest.audio.g711 import A_LAW, MU_LAW
from ingest.protocols.chan_websocket import FORMATS

SUBPROTOCOL: Final = "media"


async def messages(
    audio: Recording, codec: str, call_id: str, leg_name: str, *, speed: float, as_json: bool, press: bool
) -> AsyncIterator[str | bytes]:
    """What Asterisk sends for one channel.

    Args:
        audio: one channel at the codec's rate.
        codec: one of `ingest.protocols.chan_websocket.FORMATS`.
        call_id: the call, as a channel variable.
        leg_name: the leg, likewise.
        speed: 1 is real time; 0 is without waiting.
        as_json: events as JSON, with the channel variables; else as plain text, which has none.
        press: press a key at the end.
    """
    channel_id = f"{uuid.uuid4().int % 10**10}.1"
    start: dict[str, object] = {
        "connection_id": "callscope",
        "channel": "WebSocket/callscope/0x7f00",
        "channel_id": channel_id,
        "format": codec,
        "optimal_frame_size": FORMATS[codec].rate_hz // 50 * FORMATS[codec].step_bytes,
        "ptime": 20,
    }
    if as_json:
        variables = {"CALLSCOPE_CALL_ID": call_id, "CALLSCOPE_LEG": leg_name}
        yield json.dumps({"event": "MEDIA_START", **start, "channel_variables": variables})
    else:
        yield "MEDIA_START " + " ".join(f"{name}:{value}" for name, value in start.items())
    async for piece in paced(audio, speed):
        yield encoded(codec, piece[:, 0])
    if press:
        yield (
            json.dumps({"event": "DTMF_END", "channel_id": channel_id, "digit": "5"})
            if as_json
            else f"DTMF_END digit:5 channel_id:{channel_id}"
        )


def encoded(codec: str, samples: NDArray[np.int16]) -> bytes:
    """Samples as the codec writes them; G.711 by the nearest value of its decoding table."""
    match codec:
        case "ulaw":
            return _nearest(MU_LAW, samples)
        case "alaw":
            return _nearest(A_LAW, samples)
        case _:
            return samples.astype("<i2").tobytes()


def _nearest(table: NDArray[np.int16], samples: NDArray[np.int16]) -> bytes:
    order = np.argsort(table, kind="stable")
    values = table[order].astype(np.int32)
    above = np.clip(np.searchsorted(values, samples), 1, len(values) - 1)
    takes_lower = samples - values[above - 1] <= values[above] - samples
    return order[np.where(takes_lower, above - 1, above)].astype(np.uint8).tobytes()


async def send_call(
    audio: Recording,
    url: str,
    call_id: str,
    legs: tuple[str, ...],
    *,
    codec: str = "ulaw",
    token: str | None = None,
    speed: float = 1.0,
    as_json: bool = True,
    press: bool = False,
) -> None:
    """All legs at once, one connection for each channel of the recording.

    Raises:
        SendRefused: the gateway cannot be reached, refused the call or ended it.
    """
    audio = at_rate(audio, FORMATS[codec].rate_hz)
    secret = base64.b64encode(f"callscope:{token}".encode()).decode()
    headers = {} if token is None else {"Authorization": f"Basic {secret}"}
    await asyncio.gather(
        *(
            talk(
                messages(leg(audio, n), codec, call_id, name, speed=speed, as_json=as_json, press=press),
                url if as_json else f"{url}?{urlencode({'call_id': call_id, 'leg': name})}",
                subprotocol=SUBPROTOCOL,
                headers=headers,
            )
            for n, name in enumerate(legs)
        )
    )


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", default="ws://127.0.0.1:7070/asterisk", show_default=True, help="The gateway's address.")
@click.option("--token", help="The access token, sent as the password.")
@click.option("--call-id", help="Default: the file's name and a random part.")
@click.option("--legs", default="customer,agent", show_default=True, help="Names of the channels, left first.")
@click.option("--codec", type=click.Choice(list(FORMATS)), default="ulaw", show_default=True)
@click.option("--plain", is_flag=True, help="Events as plain text; the names then travel in the address.")
@click.option("--press", is_flag=True, help="Press a key at the end.")
@click.option("--speed", type=click.FloatRange(0, 1000), default=1.0, show_default=True, help="0: as fast as it goes.")
def command(
    file: Path,
    url: str,
    token: str | None,
    call_id: str | None,
    legs: str,
    codec: str,
    plain: bool,
    press: bool,
    speed: float,
) -> None:
    """Asterisk's WebSocket channel (docs/protocols/chan_websocket.md)."""
    audio = recording.read(file)
    identity = call_id or f"{audio.name[:100]}-{uuid.uuid4().hex[:6]}"
    names = tuple(legs.split(","))[: audio.channels]
    asyncio.run(
        send_call(audio, url, identity, names, codec=codec, token=token, speed=speed, as_json=not plain, press=press)
    )
    click.echo(f"{identity}: {audio.duration_s:.2f} s sent over {len(names)} connection(s)")
