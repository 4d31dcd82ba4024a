"""jambonz, FreeSWITCH's modules or Vonage: a hello in JSON and raw 16-bit audio over one WebSocket."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import click

from callscope.client import recording
from callscope.client.pacing import at_rate, leg, paced
from callscope.client.recording import Recording
from callscope.client.talking import talk
from ingest.protocols.raw_l16 import DIALECTS, RATES_HZ


def hello(dialect: str, audio: Recording, call_id: str, legs: tuple[str, ...]) -> str | None:
    """The first text; None where the platform sends none unless it is told to."""
    names = {"call_id": call_id, "legs": ",".join(legs)}
    match dialect:
        case "jambonz":
            call = {"callSid": str(uuid.uuid4()), "direction": "inbound", "from": "+15550100", "to": "+15550199"}
            return json.dumps({"sampleRate": audio.rate_hz, "mixType": _mix(audio), **call, **names})
        case "vonage":
            content_type = f"audio/l16;rate={audio.rate_hz}"
            return json.dumps({"event": "websocket:connected", "content-type": content_type, **names})
        case "mod_audio_fork":
            return json.dumps({"to": "+15550199", **names})
        case _:
            return None


def pressed(dialect: str) -> str:
    """The text that tells of a pressed key."""
    if dialect == "vonage":
        return json.dumps({"event": "websocket:dtmf", "digit": "5", "duration": 260})
    return json.dumps({"event": "dtmf", "dtmf": "5", "duration": 1_600})


async def send_call(
    audio: Recording,
    gateway: str,
    dialect: str,
    call_id: str,
    legs: tuple[str, ...],
    *,
    token: str | None = None,
    speed: float = 1.0,
    press: bool = False,
) -> None:
    """Play the platform's part from the handshake to the close.

    Args:
        audio: one or two channels; Vonage sends but the first.
        gateway: "ws://127.0.0.1:7070".
        dialect: one of `ingest.protocols.raw_l16.DIALECTS`.
        call_id: the call.
        legs: one name per channel.
        token: the access token: Vonage sends it as Bearer, the others as the password of Basic.
        speed: 1 is real time; 0 is as fast as the gateway takes it.
        press: press a key at the end.

    Raises:
        SendRefused: the gateway cannot be reached, refused the call or ended it.
    """
    if dialect == "vonage":
        audio, legs = leg(audio, 0), legs[:1]
    query = {}
    if dialect.startswith("mod_"):
        query = {"rate": str(audio.rate_hz), "mix": _mix(audio)}
    if dialect == "mod_audio_stream":
        query |= {"call_id": call_id, "legs": ",".join(legs)}

    async def messages() -> AsyncIterator[str | bytes]:
        if (first := hello(dialect, audio, call_id, legs)) is not None:
            yield first
        async for piece in paced(audio, speed):
            yield piece.astype("<i2").tobytes()
        if press:
            yield pressed(dialect)

    url = f"{gateway}/l16/{dialect}" + (f"?{urlencode(query)}" if query else "")
    await talk(messages(), url, subprotocol=DIALECTS[dialect].subprotocol, headers=_headers(dialect, token))


def _mix(audio: Recording) -> str:
    return "stereo" if audio.channels == 2 else "mono"


def _headers(dialect: str, token: str | None) -> dict[str, str]:
    if token is None:
        return {}
    if dialect == "vonage":
        return {"Authorization": f"Bearer {token}"}
    return {"Authorization": "Basic " + base64.b64encode(f"callscope:{token}".encode()).decode()}


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dialect", type=click.Choice(list(DIALECTS)), default="jambonz", show_default=True)
@click.option("--gateway", default="ws://127.0.0.1:7070", show_default=True, help="The gateway's address.")
@click.option("--token", help="The access token.")
@click.option("--call-id", help="Default: the file's name and a random part.")
@click.option("--legs", default="customer,agent", show_default=True, help="Names of the channels, left first.")
@click.option("--rate", type=click.Choice([str(rate) for rate in RATES_HZ]), default="16000", show_default=True)
@click.option("--press", is_flag=True, help="Press a key at the end.")
@click.option("--speed", type=click.FloatRange(0, 1000), default=1.0, show_default=True, help="0: as fast as it goes.")
def command(
    file: Path,
    dialect: str,
    gateway: str,
    token: str | None,
    call_id: str | None,
    legs: str,
    rate: str,
    press: bool,
    speed: float,
) -> None:
    """jambonz, FreeSWITCH or Vonage: hello and raw L16 (docs/protocols/raw_l16.md)."""
    audio = at_rate(recording.read(file), int(rate))
    identity = call_id or f"{audio.name[:100]}-{uuid.uuid4().hex[:6]}"
    names = tuple(legs.split(","))[: audio.channels]
    asyncio.run(send_call(audio, gateway, dialect, identity, names, token=token, speed=speed, press=press))
    click.echo(f"{identity}: {audio.duration_s:.2f} s sent as {dialect}")
