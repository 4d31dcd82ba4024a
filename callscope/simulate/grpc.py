"""A gRPC client of `VoiceAnalysis`: sends a recording, and shows what comes back on the same call."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import grpc

from callscope import clock
from callscope.client import recording
from callscope.client.recording import Recording
from callscope.errors import CallscopeError
from schemas.v1.analysis_pb2 import AnalysisResult, AudioChunk, StreamStart
from schemas.v1.analysis_pb2_grpc import VoiceAnalysisStub

CHUNK_S = 0.02


class CallRefused(CallscopeError):
    """The gateway ended the call with a status other than OK."""


def stream(
    audio: Recording,
    target: str,
    start: StreamStart,
    *,
    speed: float = 1.0,
    token: str | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    timeout_s: float | None = None,
    on_result: Callable[[AnalysisResult], None] = lambda _: None,
) -> list[AnalysisResult]:
    """Send a recording as one gRPC call, and take its results; blocks until its end.

    Args:
        audio: what to send; as s16le at its own rate, all legs interleaved.
        target: the gateway's host and port.
        start: the call's id, its legs and the results wanted; the format is filled in.
        speed: 1 is real time, 0 as fast as the gateway takes it.
        token: sent as a bearer token.
        credentials: for TLS; None: plain text.
        timeout_s: the call's deadline.
        on_result: called with every message as it comes.

    Raises:
        CallRefused: carries the status and what the gateway says.
    """
    request = StreamStart()
    request.CopyFrom(start)
    request.encoding, request.rate_hz, request.channels = StreamStart.S16LE, audio.rate_hz, audio.channels

    def chunks() -> Iterator[AudioChunk]:
        yield AudioChunk(start=request)
        began, captured = clock.monotonic(), clock.wall_ns()
        size = round(audio.rate_hz * CHUNK_S)
        for at in range(0, len(audio.pcm), size):
            piece = audio.pcm[at : at + size]
            if speed > 0:  # a chunk goes out when its last sample would have been spoken
                due = began + (at + len(piece)) / audio.rate_hz / speed
                time.sleep(max(0.0, due - clock.monotonic()))
            yield AudioChunk(audio=piece.tobytes(), capture_ns=captured + at * 1_000_000_000 // audio.rate_hz)

    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    results = []
    with grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target) as channel:
        call = VoiceAnalysisStub(channel).StreamAnalysis(chunks(), metadata=metadata, timeout=timeout_s)
        try:
            for result in call:
                results.append(result)
                on_result(result)
        except grpc.RpcError as error:
            raise CallRefused(
                f"The gateway at {target} ended the call: {error.details()} ({error.code().name})"
            ) from error
    return results


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--target", default="127.0.0.1:7073", show_default=True, help="The gateway's gRPC port.")
@click.option("--call-id", help="Default: the file's name and a random part.")
@click.option("--legs", default="customer,agent", show_default=True, help="Names of the channels, left first.")
@click.option("--token", help="A bearer token, where the gateway asks for one.")
@click.option("--ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TLS: who signed the gateway.")
@click.option("--speed", type=click.FloatRange(0, 1000), default=1.0, show_default=True, help="0: as fast as it goes.")
def command(
    file: Path, target: str, call_id: str | None, legs: str, token: str | None, ca: Path | None, speed: float
) -> None:
    """gRPC: VoiceAnalysis/StreamAnalysis (docs/protocols/grpc.md)."""
    audio = recording.read(file)
    identity = call_id or f"{audio.name[:100]}-{uuid.uuid4().hex[:6]}"
    start = StreamStart(call_id=identity, legs=legs.split(",")[: audio.channels])
    credentials = grpc.ssl_channel_credentials(ca.read_bytes()) if ca else None

    def show(result: AnalysisResult) -> None:
        if result.WhichOneof("result") == "insight" and result.is_final:
            insight = result.insight
            said = ", ".join(
                f"{o.name} {o.value:.2f}" if o.HasField("value") else f"{o.name} ?" for o in insight.outputs
            )
            click.echo(f"{insight.start / 16_000:8.2f} s  {insight.leg}: {insight.model}: {said}")

    results = stream(audio, target, start, speed=speed, token=token, credentials=credentials, on_result=show)
    counts = Counter(str(result.WhichOneof("result")) for result in results)
    click.echo(f"{identity}: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
