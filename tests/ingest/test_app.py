import asyncio
import json
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from callscope.access import Access
from callscope.clock import wall_ns
from callscope.config import Ingest, Settings, child_environment, load
from callscope.errors import ConfigError
from callscope.kafka import ensure_topics
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS, partition_of
from ingest.app import check_exposure, run
from ingest.audio.canonical import CanonicalAudio
from ingest.audio.framing import AudioFormat
from schemas.v1.audio_pb2 import AudioFrame
from schemas.v1.events_pb2 import CallEvent
from tests.ingest.reading import records_of

OPEN = Access(load().access)
TOKEN = {"name": "pbx", "token": "a token of some length"}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.4.5", "::1", "localhost"])
def test_loopback_needs_no_leave(host: str) -> None:
    check_exposure(Ingest(host=host), OPEN)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "", "gateway.example.com", "localhost.example.com"])
def test_the_network_needs_leave(host: str) -> None:
    with pytest.raises(ConfigError, match="CALLSCOPE_INGEST__ALLOW_UNAUTHENTICATED"):
        check_exposure(Ingest(host=host), OPEN)
    check_exposure(Ingest(host=host, allow_unauthenticated=True), OPEN)
    check_exposure(Ingest(host=host), Access(load(access={"tokens": [TOKEN]}).access))


@asynccontextmanager
async def gateway(settings: Settings, **environment: str) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """`python -m ingest` as a child process: its URL and the process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ingest",
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(
            kafka=settings.kafka or "", ingest__port="0", ingest__ack_interval_s="0.05", **environment
        ),
    )
    assert process.stderr is not None
    try:
        seen = ""
        async with asyncio.timeout(30):
            while not (found := re.search(r"gateway listening on (ws://\S+)", seen)):
                line = (await process.stderr.readline()).decode()
                assert line, f"the gateway ended: {seen}"
                seen += line
        yield found[1], process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def ended(client: ClientConnection) -> tuple[list[dict[str, Any]], int, str]:
    messages = []
    try:
        while True:
            messages.append(json.loads(await client.recv()))
    except ConnectionClosed as closed:
        assert closed.rcvd is not None
        return messages, closed.rcvd.code, closed.rcvd.reason


def sound(seconds: float, rate_hz: int, channels: int = 1) -> NDArray[np.int16]:
    return np.random.default_rng(5).integers(-8_000, 8_000, (int(seconds * rate_hz), channels)).astype("<i2")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("audio_format", "legs"),
    [
        (AudioFormat("s16le", 16_000, 1), ["customer"]),
        (AudioFormat("mulaw", 8_000, 1), ["customer"]),
        (AudioFormat("s16le", 44_100, 2), ["customer", "agent"]),
    ],
)
async def test_audio_reaches_kafka_bit_for_bit(kafka: Settings, audio_format: AudioFormat, legs: list[str]) -> None:
    call_id = f"call-{uuid4()}"
    data = sound(2.005, audio_format.rate_hz, audio_format.channels).tobytes()
    if audio_format.encoding == "mulaw":
        data = data[::2]
    canonical = CanonicalAudio(audio_format)
    frames = [canonical.push(data)]
    tail, padded = canonical.flush()
    expected = np.concatenate([*frames, tail])
    if audio_format == AudioFormat("s16le", 16_000, 1):
        assert np.array_equal(expected[: len(expected) - padded, 0], np.frombuffer(data, "<i2"))

    began_ns = wall_ns()
    async with gateway(kafka) as (url, _), connect(url) as client:
        await client.send(
            json.dumps(
                {
                    "type": "hello",
                    "call_id": call_id,
                    "legs": legs,
                    "encoding": audio_format.encoding,
                    "rate_hz": audio_format.rate_hz,
                    "channels": audio_format.channels,
                    "metadata": {"queue": "billing"},
                }
            )
        )
        for at in range(0, len(data), 1_111):
            await client.send(data[at : at + 1_111])
            await asyncio.sleep(0.005)
        messages = [json.loads(await client.recv()), json.loads(await client.recv())]
        await client.send(json.dumps({"type": "end"}))
        more, code, _ = await ended(client)
        messages += more
    assert code == 1000
    assert messages[0]["streams"] == [f"{call_id}/{leg}" for leg in legs]
    acks = [message for message in messages if message["type"] == "ack"]
    for leg in legs:
        said = [ack["streams"][f"{call_id}/{leg}"]["published_s"] for ack in acks]
        assert said == sorted(said)
        assert messages[-1]["streams"][f"{call_id}/{leg}"] == {
            "published_s": len(expected) / 16_000,
            "duration_s": (len(expected) - padded) / 16_000,
            "padded_s": padded / 16_000,
        }

    partition = partition_of(call_id, kafka.topics.partitions)
    audio = records_of(kafka, AUDIO_FRAMES, call_id)
    for channel, leg in enumerate(legs):
        mine = [message for message in audio if message.key() == f"{call_id}/{leg}".encode()]
        parsed = [AudioFrame.FromString(message.value()) for message in mine]
        assert np.array_equal(np.frombuffer(b"".join(frame.pcm for frame in parsed), "<i2"), expected[:, channel])
        assert [frame.seq for frame in parsed] == list(range(len(parsed)))
        assert [frame.last for frame in parsed] == [False] * (len(parsed) - 1) + [True]
        clock = 0
        for message, frame in zip(mine, parsed, strict=True):
            assert message.partition() == partition
            assert message.headers() == [("schema", b"callscope.v1.AudioFrame")]
            assert (frame.call_id, frame.leg, frame.source, frame.start) == (call_id, leg, "websocket", clock)
            assert began_ns < frame.ledger.arrived_ns <= frame.ledger.published_ns <= wall_ns()
            clock += len(frame.pcm) // 2

    events = records_of(kafka, CALL_EVENTS, call_id)
    assert all(event.key() == call_id.encode() and event.partition() == partition for event in events)
    assert all(event.headers() == [("schema", b"callscope.v1.CallEvent")] for event in events)
    told = [CallEvent.FromString(event.value()) for event in events]
    assert [(CallEvent.Kind.Name(event.kind), event.leg) for event in told] == [
        ("CALL_STARTED", ""),
        *(("STREAM_STARTED", leg) for leg in legs),
        *(("STREAM_ENDED", leg) for leg in legs),
        ("CALL_ENDED", ""),
    ]
    assert all(event.metadata == {"queue": "billing"} and event.rate_hz == audio_format.rate_hz for event in told)
    assert [(event.at, event.reason) for event in told[-2:]] == [(len(expected), "end")] * 2


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_open_streams_and_leaves_no_trace(kafka: Settings, number: signal.Signals) -> None:
    call_id = f"call-{uuid4()}"
    async with gateway(kafka) as (url, process), connect(url) as client:
        await client.send(
            json.dumps({"type": "hello", "call_id": call_id, "leg": "agent", "encoding": "s16le", "rate_hz": 16_000})
        )
        await client.recv()
        await client.send(bytes(6_400))
        assert json.loads(await client.recv())["streams"][f"{call_id}/agent"]["published_s"] == 0.2
        process.send_signal(number)
        _, code, reason = await ended(client)
        assert (code, reason) == (1001, "gateway shutting down")
        _, stderr = await process.communicate()
        assert process.returncode == 0
        assert b"gateway stopped" in stderr
        assert b"Traceback" not in stderr
    assert AudioFrame.FromString(records_of(kafka, AUDIO_FRAMES, call_id)[-1].value()).last
    told = [CallEvent.FromString(event.value()) for event in records_of(kafka, CALL_EVENTS, call_id)]
    assert [event.reason for event in told] == ["", "", "gateway shutting down", "gateway shutting down"]


@pytest.mark.integration
async def test_an_upload_is_held_back_by_kafka_and_not_by_the_clock(kafka: Settings) -> None:
    call_id = f"call-{uuid4()}"
    data = sound(120, 16_000).tobytes()
    async with gateway(kafka) as (url, _), connect(url) as client:
        await client.send(
            json.dumps({"type": "hello", "call_id": call_id, "leg": "agent", "encoding": "s16le", "rate_hz": 16_000})
        )
        async with asyncio.timeout(60):  # twice as fast as the audio, at the very least
            for at in range(0, len(data), 65_536):
                await client.send(data[at : at + 65_536])
            await client.send(json.dumps({"type": "end"}))
            messages, code, _ = await ended(client)
    assert code == 1000
    assert messages[-1]["streams"][f"{call_id}/agent"]["published_s"] == 120.0
    written = b"".join(AudioFrame.FromString(m.value()).pcm for m in records_of(kafka, AUDIO_FRAMES, call_id))
    assert written == data


@pytest.mark.integration
async def test_a_port_that_is_taken_is_a_clear_error(kafka: Settings) -> None:
    ensure_topics(kafka)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = kafka.model_copy(update={"ingest": Ingest(port=port)})
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}.*CALLSCOPE_INGEST__PORT"):
            await run(settings, asyncio.Event())


@pytest.mark.integration
async def test_the_gateway_ends_with_its_parent(kafka: Settings) -> None:
    async with gateway(kafka) as (_, process):
        assert process.stdin is not None
        process.stdin.close()  # as the kernel does when the parent is killed
        async with asyncio.timeout(10):
            await process.communicate()
        assert process.returncode == 0


async def test_the_program_says_what_is_missing() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ingest",
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(kafka="127.0.0.1:9", ingest__host="0.0.0.0"),
    )
    _, stderr = await process.communicate()
    assert process.returncode == 1
    assert b"Traceback" not in stderr
    assert b"CALLSCOPE_INGEST__ALLOW_UNAUTHENTICATED" in stderr
