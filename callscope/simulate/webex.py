"""Webex Contact Center's part of media forking: calls our service with both legs of a recording and capture times."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import grpc
import numpy as np
import soxr
from numpy.typing import NDArray

from callscope import clock
from callscope.client import recording
from callscope.client.recording import Recording
from callscope.simulate.grpc import CallRefused
from schemas.webex.conversationaudioforking_pb2 import (
    AGENT,
    CALLER,
    LINEAR16,
    AudioStream,
    ConversationAudioForkingRequest,
    ConversationAudioForkingResponse,
)
from schemas.webex.conversationaudioforking_pb2_grpc import ConversationAudioStub

RATES_HZ: Final = (8_000, 16_000)
ROLES: Final = (CALLER, AGENT)
CHUNK_S: Final = 0.02


def requests(
    pcm: NDArray[np.int16], rate_hz: int, conversation_id: str, organisation_id: str, captured_ns: int, chunk_s: float
) -> list[ConversationAudioForkingRequest]:
    """A conversation's messages in the order of their capture: each leg's piece in turn.

    Args:
        pcm: shape (samples, legs), the caller's leg first.
        rate_hz: 8000 or 16000.
        conversation_id: the call.
        organisation_id: the contact centre.
        captured_ns: when the first sample was captured, nanoseconds since the epoch.
        chunk_s: length of a piece.
    """
    size = round(rate_hz * chunk_s)
    messages = []
    for at in range(0, len(pcm), size):
        for role, leg in zip(ROLES, pcm[at : at + size].T, strict=False):
            audio = AudioStream(
                audio_data=leg.astype("<i2").tobytes(),
                encoding=LINEAR16,
                sample_rate_hertz=rate_hz,
                role=role,
                role_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{conversation_id}/{role}")),
            )
            audio.audio_timestamp.FromNanoseconds(captured_ns + at * 1_000_000_000 // rate_hz)
            messages.append(
                ConversationAudioForkingRequest(
                    conversation_id=conversation_id, customer_org_id=organisation_id, audio=audio
                )
            )
    return messages


def fork(
    audio: Recording,
    target: str,
    conversation_id: str,
    organisation_id: str,
    *,
    speed: float = 1.0,
    token: str | None = None,
    credentials: grpc.ChannelCredentials | None = None,
) -> ConversationAudioForkingResponse:
    """Fork a recording to the gateway as Webex does, and take its one response; blocks until then.

    Args:
        audio: left the caller, right the agent; converted to 16 kHz where Webex does not know its rate.
        target: the gateway's host and port.
        conversation_id: the call.
        organisation_id: the contact centre.
        speed: 1 is real time, 0 as fast as the gateway takes it.
        token: the data source's token.
        credentials: for TLS; None: plain text.

    Raises:
        CallRefused: carries the status and what the gateway says.
    """
    pcm, rate_hz = audio.pcm, audio.rate_hz
    if rate_hz not in RATES_HZ:
        pcm, rate_hz = soxr.resample(pcm, rate_hz, 16_000), 16_000
    messages = requests(pcm, rate_hz, conversation_id, organisation_id, clock.wall_ns(), CHUNK_S)

    def paced() -> Iterator[ConversationAudioForkingRequest]:
        began = clock.monotonic()
        for number, message in enumerate(messages):
            if speed > 0:
                due = began + (number // audio.channels + 1) * CHUNK_S / speed
                time.sleep(max(0.0, due - clock.monotonic()))
            yield message

    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target) as channel:
        call = ConversationAudioStub(channel).StreamConversationAudio(paced(), metadata=metadata)
        try:
            responses = list(call)
        except grpc.RpcError as error:
            raise CallRefused(
                f"The gateway at {target} ended the call: {error.details()} ({error.code().name})"
            ) from error
    if len(responses) != 1:
        raise CallRefused(f"The gateway at {target} sent {len(responses)} responses; there must be one.")
    return responses[0]


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--target", default="127.0.0.1:7073", show_default=True, help="The gateway's gRPC port.")
@click.option("--conversation-id", help="Default: a random one.")
@click.option("--organisation-id", default="00000000-0000-4000-8000-000000000000", show_default=True)
@click.option("--token", help="The data source's token, where the gateway asks for one.")
@click.option("--ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TLS: who signed the gateway.")
@click.option("--speed", type=click.FloatRange(0, 1000), default=1.0, show_default=True, help="0: as fast as it goes.")
def command(
    file: Path,
    target: str,
    conversation_id: str | None,
    organisation_id: str,
    token: str | None,
    ca: Path | None,
    speed: float,
) -> None:
    """Webex Contact Center media forking (docs/protocols/webex.md)."""
    audio = recording.read(file)
    identity = conversation_id or str(uuid.uuid4())
    credentials = grpc.ssl_channel_credentials(ca.read_bytes()) if ca else None
    response = fork(audio, target, identity, organisation_id, speed=speed, token=token, credentials=credentials)
    click.echo(f"{identity}: {audio.duration_s:.2f} s sent: {response.status_message}")
