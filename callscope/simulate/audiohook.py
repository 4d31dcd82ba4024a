"""Genesys Cloud monitoring a call by AudioHook."""

from __future__ import annotations

import asyncio
import base64
import binascii
from pathlib import Path

import click

from callscope.client import audiohook, recording
from callscope.client.audiohook_messages import Session
from callscope.config import load

_ANY_KEY = "callscope-simulator"


def _skips(kind: str, texts: tuple[str, ...]) -> list[audiohook.Skip]:
    skips = []
    for text in texts:
        at, _, length = text.partition(":")
        try:
            skips.append(audiohook.Skip(float(at), float(length), kind))
        except ValueError:
            raise click.BadParameter(f"{text!r} is not AT:SECONDS, such as 8:10.") from None
    return skips


def _credentials(api_key: str | None, client_secret: str | None) -> tuple[str, bytes | None]:
    """What was given, or else the first key that the gateway here is configured with."""
    if api_key is None and client_secret is None:
        for key in load().ingest.audiohook.keys:
            api_key = key.api_key.get_secret_value()
            client_secret = key.client_secret.get_secret_value() if key.client_secret is not None else None
            break
    try:
        secret = base64.b64decode(client_secret, validate=True) if client_secret else None
    except binascii.Error:
        raise click.BadParameter("--client-secret must be Base64, as it is entered in Genesys Cloud.") from None
    return api_key or _ANY_KEY, secret


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", default="ws://127.0.0.1:7070/audiohook", show_default=True, help="The gateway's address.")
@click.option("--api-key", help="Default: the first one configured here.")
@click.option("--client-secret", help="Base64; the handshake is signed with it. Default: as for the key.")
@click.option("--conversation", help="Its id, a UUID; the same one again goes on with a broken session.")
@click.option("--participant", help="The id of who is on the line outside, a UUID.")
@click.option("--pause", "pauses", multiple=True, metavar="AT:SECONDS", help="Pause there for so long.")
@click.option("--discard", "discards", multiple=True, metavar="AT:SECONDS", help="Discard so much audio there.")
@click.option("--probe", is_flag=True, help="Only try the connection, as saving the integration does.")
@click.option("--speed", type=click.FloatRange(0, 1000), default=1.0, show_default=True, help="0: as fast as it goes.")
def command(
    file: Path | None,
    url: str,
    api_key: str | None,
    client_secret: str | None,
    conversation: str | None,
    participant: str | None,
    pauses: tuple[str, ...],
    discards: tuple[str, ...],
    probe: bool,
    speed: float,
) -> None:
    """Genesys Cloud monitoring a call by AudioHook (docs/protocols/audiohook.md).

    The left channel of FILE is the customer, the right one the agent. It is sent as 8 kHz mu-law.
    """
    key, secret = _credentials(api_key, client_secret)
    if probe:
        asyncio.run(audiohook.probe(key, secret, url))
        click.echo("The connection is good.")
        return
    if file is None:
        raise click.UsageError("Name a FILE to send, or --probe.")
    ids = {"conversation": conversation, "participant": participant}
    session = Session(key, secret, **{name: given for name, given in ids.items() if given is not None})
    skips = sorted(_skips("paused", pauses) + _skips("discarded", discards), key=lambda skip: skip.at_s)
    sent = asyncio.run(audiohook.send(session, recording.read(file), url, speed=speed, skips=tuple(skips)))
    channels = " and ".join(sent.channels) or "no channel"
    click.echo(f"{session.conversation}: {sent.duration_s:.2f} s, {channels} taken")
    if sent.longest_wait_s:
        click.echo(f"pongs came within {sent.longest_wait_s * 1000:.0f} ms")
