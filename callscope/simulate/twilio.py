"""Twilio, or a platform that speaks its dialect, forking a call: a recording sent to the gateway as it would."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import click
import numpy as np
import soxr
from numpy.typing import NDArray
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from callscope import clock
from callscope.client.recording import Recording, read
from callscope.client.sending import SendRefused
from callscope.client.twilio_messages import CODECS, VENDORS, Codec, Messages, encoded
from ingest.protocols.twilio_signature import PLIVO_NONCE, plivo_signature, twilio_signature

TRACKS: Final = ("inbound", "outbound")
_NONCE: Final = "12345678901234567890"


@dataclass(frozen=True, slots=True)
class Stream:
    """What is simulated.

    Attributes:
        vendor: one of `twilio_messages.VENDORS`.
        codec: what the audio is sent as, one of the vendor's `CODECS`.
        call: the call's id.
        parameters: custom parameters.
        account: the account's id; None: one of the vendor's form.
        keys: seconds at which the first track presses a key.
        chunk_ms: audio a message.
        lose: the share of messages that never arrive, 0 to 1.
        swap: the share of messages that arrive after the next one, 0 to 1.
        seed: of what is lost and swapped.
    """

    vendor: str
    codec: Codec
    call: str
    parameters: Mapping[str, str]
    account: str | None = None
    keys: tuple[float, ...] = ()
    chunk_ms: int = 20
    lose: float = 0.0
    swap: float = 0.0
    seed: int = 0


def signed(vendor: str, secret: str, url: str) -> dict[str, str]:
    """The headers by which the platform proves who it is.

    Args:
        vendor: Plivo signs in its own way, the others as Twilio does.
        secret: the account's auth token.
        url: the address as it is written on the platform's side.
    """
    if vendor == "plivo":
        return {"X-Plivo-Signature-V3": plivo_signature(secret, url, _NONCE), PLIVO_NONCE: _NONCE}
    return {"X-Twilio-Signature": twilio_signature(secret, url)}


def messages(stream: Stream, recording: Recording) -> Iterator[tuple[float, str]]:
    """Every message of the call, with the second of the call at which it is sent.

    The channels of the recording are the tracks, inbound first; Exotel has the first one only.
    """
    rate_hz = recording.rate_hz if stream.codec == "l16" else 8_000
    pcm = recording.pcm if stream.vendor != "exotel" else recording.pcm[:, :1]
    channels = [_at_rate(pcm[:, i], recording.rate_hz, rate_hz) for i in range(pcm.shape[1])]
    tracks = TRACKS[: len(channels)]
    written = Messages(stream.vendor, stream.call, tracks, stream.codec, rate_hz, stream.parameters, stream.account)
    for text in written.opening():
        yield 0.0, text
    step = rate_hz * stream.chunk_ms // 1_000
    keys = list(stream.keys)
    for at in range(0, len(channels[0]), step):
        sent_s = min(at + step, len(channels[0])) / rate_hz
        while keys and keys[0] <= sent_s:
            keys.pop(0)
            yield sent_s, written.dtmf(tracks[0], "5")
        for track, samples in zip(tracks, channels, strict=True):
            data = encoded(stream.vendor, stream.codec, samples[at : at + step])
            yield sent_s, written.media(track, at * 1_000 // rate_hz, data)
    for text in written.closing():
        yield len(channels[0]) / rate_hz, text


def troubled(stream: Stream, sent: Iterator[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    """The messages that arrive, in the order they arrive: some media messages lost, some swapped with the next."""
    chance = random.Random(stream.seed)  # noqa: S311 - which messages suffer is no secret
    held: tuple[float, str] | None = None
    for at_s, text in sent:
        is_media = json.loads(text)["event"] == "media"
        if is_media and chance.random() < stream.lose:
            continue
        if held is None and is_media and chance.random() < stream.swap:
            held = at_s, text
            continue
        yield at_s, text
        if held is not None:
            yield at_s, held[1]
            held = None
    if held is not None:
        yield held


async def send(stream: Stream, recording: Recording, gateway: str, headers: Mapping[str, str], speed: float) -> int:
    """Play the platform's part from the handshake to the close.

    Args:
        stream: who calls, and how.
        recording: what is said.
        gateway: the address, "ws://127.0.0.1:7070/twilio".
        headers: of the handshake.
        speed: 1 is real time; 0 is as fast as the gateway takes it.

    Returns:
        How many messages were sent.

    Raises:
        SendRefused: the gateway cannot be reached, refused the call or ended it; with its reason.
    """
    count = 0
    try:
        async with connect(gateway, additional_headers=headers, compression=None, ping_timeout=None) as connection:
            started = clock.monotonic()
            for at_s, text in troubled(stream, messages(stream, recording)):
                if speed > 0:
                    await asyncio.sleep(max(0.0, started + at_s / speed - clock.monotonic()))
                await connection.send(text)
                count += 1
            if stream.vendor != "plivo":  # which closes by itself; the others wait for the gateway to
                await connection.wait_closed()
        if connection.close_code != 1000:
            raise SendRefused(f"The gateway closed the connection: {connection.close_reason} ({connection.close_code})")
    except ConnectionClosed as closed:
        said = f"{closed.rcvd.reason} ({closed.rcvd.code})" if closed.rcvd else "it was lost"
        raise SendRefused(f"The gateway closed the connection: {said}") from closed
    except InvalidStatus as refused:
        body = (refused.response.body or b"").decode(errors="replace").strip()
        raise SendRefused(f"The gateway refused the call: {body} (HTTP {refused.response.status_code})") from refused
    except OSError as error:
        raise SendRefused(
            f"No gateway answers at {gateway} ({error.strerror or error}). Is `callscope up` running there?"
        ) from error
    return count


def _at_rate(samples: NDArray[np.int16], rate_hz: int, wanted_hz: int) -> NDArray[np.int16]:
    if rate_hz == wanted_hz:
        return samples
    converted: NDArray[np.int16] = soxr.resample(samples, rate_hz, wanted_hz)
    return converted


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--vendor", type=click.Choice(VENDORS), default="twilio", show_default=True, help="Who calls.")
@click.option("--codec", type=click.Choice(["mulaw", "alaw", "l16"]), help="Default: what the vendor sends by itself.")
@click.option("--call-id", help="The call's id. Default: the file's name and a random part.")
@click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="A custom parameter.")
@click.option("--token", help="An access token, sent in the custom parameter callscopeToken.")
@click.option("--secret", help="The account's auth token: sign the request with it.")
@click.option("--account", help="The account's id.")
@click.option("--signed-url", help="The address that is signed. Default: the gateway's.")
@click.option("--key", "keys", multiple=True, type=float, metavar="SECOND", help="Press a key then.")
@click.option("--lose", type=click.FloatRange(0, 1), default=0.0, help="Share of audio messages that are lost.")
@click.option("--swap", type=click.FloatRange(0, 1), default=0.0, help="Share of audio messages that change places.")
@click.option("--chunk-ms", type=click.IntRange(5, 1_000), default=20, show_default=True, help="Audio in a message.")
@click.option("--speed", type=click.FloatRange(0, 1000), default=1.0, show_default=True, help="0: as fast as it goes.")
@click.option("--url", default="ws://127.0.0.1:7070/twilio", show_default=True, help="The gateway's address.")
def command(
    file: Path,
    vendor: str,
    codec: str | None,
    call_id: str | None,
    parameters: tuple[str, ...],
    token: str | None,
    secret: str | None,
    account: str | None,
    signed_url: str | None,
    keys: tuple[float, ...],
    lose: float,
    swap: float,
    chunk_ms: int,
    speed: float,
    url: str,
) -> None:
    """Twilio Media Streams, and Talkdesk, SignalWire, Telnyx, Plivo, Exotel: one call, forked to the gateway.

    The channels of the recording are the tracks: left inbound, right outbound. Exotel sends the left one only.
    """
    if codec is not None and codec not in CODECS[vendor]:
        raise click.BadParameter(f"{vendor} sends {' or '.join(CODECS[vendor])}.", param_hint="--codec")
    recording = read(file)
    stream = Stream(
        vendor=vendor,
        codec=cast(Codec, codec or CODECS[vendor][0]),
        call=call_id or f"{recording.name[:100]}-{uuid.uuid4().hex[:6]}",
        parameters=dict(_pair(text) for text in parameters) | ({"callscopeToken": token} if token else {}),
        account=account,
        keys=tuple(sorted(keys)),
        chunk_ms=chunk_ms,
        lose=lose,
        swap=swap,
    )
    click.echo(f"{file}: {recording.duration_s:.1f} s as {vendor}, {stream.codec}, call {stream.call}")
    headers = signed(vendor, secret, signed_url or url) if secret else {}
    count = asyncio.run(send(stream, recording, url, headers, speed))
    click.echo(f"{count} messages sent; the gateway closed the stream as it should")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} should be NAME=VALUE.", param_hint="--parameter")
    return name, value
