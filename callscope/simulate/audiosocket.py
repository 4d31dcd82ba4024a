"""Asterisk's AudioSocket application: one TCP connection per leg, registered beforehand."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import UUID

import click
import requests

from callscope.client import recording
from callscope.client.pacing import at_rate, leg, paced
from callscope.client.recording import Recording
from callscope.client.sending import SendRefused
from ingest.protocols.audiosocket import DTMF, HANG_UP, RATES_HZ, UUID_, packet

KINDS: Final = {rate_hz: kind for kind, rate_hz in RATES_HZ.items()}
_HTTP_TIMEOUT_S: Final = 10.0
_GOODBYE_S: Final = 20.0


def register(url: str, call_id: str, leg_name: str, token: str | None) -> UUID:
    """Announce a connection, as a dialplan does with `CURL()`.

    Args:
        url: "http://127.0.0.1:7070/asterisk/audiosocket".
        call_id: the call.
        leg_name: the leg.
        token: sent as Bearer, if there is one.

    Returns:
        The UUID to connect with.

    Raises:
        SendRefused: the gateway cannot be reached or refuses.
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        answer = requests.get(
            url, params={"call_id": call_id, "leg": leg_name}, headers=headers, timeout=_HTTP_TIMEOUT_S
        )
    except requests.RequestException as error:
        raise SendRefused(f"No gateway answers at {url} ({error}). Is `callscope up` running there?") from error
    if answer.status_code != requests.codes.ok:
        raise SendRefused(f"The gateway refused the registration: {answer.text.strip()} (HTTP {answer.status_code})")
    return UUID(answer.text)


async def send(audio: Recording, host: str, port: int, call: UUID, *, speed: float = 1.0, press: bool = False) -> int:
    """Play Asterisk's part for one channel, from the UUID to the hang-up.

    Args:
        audio: one channel, of a rate that AudioSocket has.
        host: the gateway.
        port: its AudioSocket port.
        call: the registered UUID.
        speed: 1 is real time; 0 is as fast as the gateway takes it.
        press: press a key at the end.

    Returns:
        How many bytes of silence the gateway sent meanwhile.

    Raises:
        SendRefused: the gateway cannot be reached, or hung up before the end.
    """
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise SendRefused(f"No gateway answers at {host}:{port} ({error.strerror or error}).") from error
    told = asyncio.create_task(reader.read())  # until the gateway closes
    try:
        writer.write(packet(UUID_, call.bytes))
        async for piece in paced(audio, speed):
            if told.done():
                raise SendRefused("The gateway hung up before the end; its log says why.")
            writer.write(packet(KINDS[audio.rate_hz], piece.astype("<i2").tobytes()))
            await writer.drain()
        if press:
            writer.write(packet(DTMF, b"5"))
        writer.write(packet(HANG_UP))
        async with asyncio.timeout(_GOODBYE_S):
            return len(await told) - len(packet(HANG_UP))
    except (OSError, TimeoutError) as error:
        raise SendRefused(f"The connection to {host}:{port} was lost ({error or 'no goodbye'}).") from error
    finally:
        told.cancel()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def send_call(
    audio: Recording, host: str, port: int, calls: tuple[UUID, ...], *, speed: float = 1.0, press: bool = False
) -> None:
    """All legs at once, one connection for each channel of the recording.

    Raises:
        SendRefused: see `send`.
    """
    await asyncio.gather(
        *(send(leg(audio, n), host, port, call, speed=speed, press=press) for n, call in enumerate(calls))
    )


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="The gateway.")
@click.option("--port", default=9019, show_default=True, help="Its AudioSocket port, ingest.audiosocket_port.")
@click.option(
    "--register",
    "url",
    default="http://127.0.0.1:7070/asterisk/audiosocket",
    show_default=True,
    help="Where the connections are registered.",
)
@click.option("--token", help="The access token to register with.")
@click.option("--call-id", help="Default: the file's name and a random part.")
@click.option("--legs", default="customer,agent", show_default=True, help="Names of the channels, left first.")
@click.option("--rate", type=click.Choice([str(rate) for rate in KINDS]), default="8000", show_default=True)
@click.option("--press", is_flag=True, help="Press a key at the end.")
@click.option("--speed", type=click.FloatRange(0, 1000), default=1.0, show_default=True, help="0: as fast as it goes.")
def command(
    file: Path,
    host: str,
    port: int,
    url: str,
    token: str | None,
    call_id: str | None,
    legs: str,
    rate: str,
    press: bool,
    speed: float,
) -> None:
    """Asterisk's AudioSocket (docs/protocols/audiosocket.md)."""
    audio = at_rate(recording.read(file), int(rate))
    identity = call_id or f"{audio.name[:100]}-{uuid.uuid4().hex[:6]}"
    names = legs.split(",")[: audio.channels]
    calls = tuple(register(url, identity, name, token) for name in names)
    asyncio.run(send_call(audio, host, port, calls, speed=speed, press=press))
    click.echo(f"{identity}: {audio.duration_s:.2f} s sent over {len(calls)} connection(s)")
