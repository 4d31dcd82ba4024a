"""A client of Callscope's own WebSocket protocol; `callscope send` does the same and shows the results."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import click

from callscope.client import recording
from callscope.client.sending import send
from callscope.config import load


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", default="ws://127.0.0.1:7070/v1/stream", show_default=True, help="The gateway's address.")
@click.option("--call-id", help="Default: the file's name and a random part.")
@click.option("--legs", default="customer,agent", show_default=True, help="Names of the channels, left first.")
@click.option("--speed", type=click.FloatRange(0, 1000), default=1.0, show_default=True, help="0: as fast as it goes.")
def command(file: Path, url: str, call_id: str | None, legs: str, speed: float) -> None:
    """Callscope's own WebSocket protocol (docs/protocols/websocket.md)."""
    shown = load().token
    token = shown.get_secret_value() if shown is not None else None
    audio = recording.read(file)
    identity = call_id or f"{audio.name[:100]}-{uuid.uuid4().hex[:6]}"
    names = tuple(legs.split(","))[: audio.channels]
    sent = asyncio.run(send(audio, url, identity, names, speed=speed, token=token))
    click.echo(f"{identity}: {sent.sent_s:.2f} s sent, {sent.published_s:.2f} s published")
