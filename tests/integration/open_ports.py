"""The gateway's ports in this process, into the session's Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from callscope.access import Access
from callscope.client.recording import Recording
from callscope.config import Ingest, Settings
from callscope.kafka import ensure_topics
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS
from ingest.audio.canonical import CanonicalAudio
from ingest.audio.framing import AudioFormat
from ingest.gateways import audiosocket, websocket
from ingest.gateways.gate import Gate
from ingest.gateways.routes import ROUTES
from ingest.intake import Intake
from ingest.publisher import KafkaPublisher
from schemas.v1.audio_pb2 import AudioFrame
from schemas.v1.events_pb2 import CallEvent
from tests.ingest.reading import records_of


@dataclass(frozen=True, slots=True)
class OpenPorts:
    """Where the gateway listens."""

    websocket_port: int
    audiosocket_port: int


@asynccontextmanager
async def open_ports(kafka: Settings, **access: Any) -> AsyncIterator[OpenPorts]:
    """Run the gateway; when it is left, everything has reached Kafka.

    Args:
        kafka: where that is.
        **access: of the section access.
    """
    settings = kafka.model_copy(
        update={
            "ingest": Ingest(port=0, audiosocket_port=0),
            "access": type(kafka.access).model_validate(access),
        }
    )
    await asyncio.to_thread(ensure_topics, settings)
    publisher = KafkaPublisher(settings)
    reports = asyncio.create_task(publisher.run())
    intake = Intake(publisher, settings.ingest.max_streams, settings.ingest.publish_timeout_s)
    gate = Gate(settings, intake, Access(settings.access))
    web = await websocket.listen(gate, ROUTES)
    audio = await audiosocket.listen(gate)
    assert audio is not None
    try:
        yield OpenPorts(web.port, audio.port)
        async with asyncio.timeout(20):
            while intake.open_streams:  # noqa: ASYNC110 - streams end when their connections do, and tell nobody
                await asyncio.sleep(0.01)
    finally:
        await asyncio.gather(web.close(), audio.close())
        reports.cancel()
        await asyncio.gather(reports, return_exceptions=True)
        assert await publisher.close() == 0


def published(settings: Settings, call_id: str, leg: str) -> NDArray[np.int16]:
    """A stream's audio on `audio.frames`; its records must follow one another in sequence and media time."""
    frames = [
        AudioFrame.FromString(message.value())
        for message in records_of(settings, AUDIO_FRAMES, call_id)
        if message.key().decode() == f"{call_id}/{leg}"
    ]
    assert frames, f"nothing of {call_id}/{leg}"
    at = 0
    for seq, frame in enumerate(frames):
        assert (frame.seq, frame.start, frame.gap_before) == (seq, at, 0)
        assert frame.last == (seq == len(frames) - 1)
        at += len(frame.pcm) // 2
    return np.frombuffer(b"".join(frame.pcm for frame in frames), "<i2")


def happened(settings: Settings, call_id: str) -> list[CallEvent]:
    """What `call.events` says of a call."""
    return [CallEvent.FromString(message.value()) for message in records_of(settings, CALL_EVENTS, call_id)]


def canonical(data: bytes, audio_format: AudioFormat) -> NDArray[np.int16]:
    """The reference decode of what went over the wire: frames of 16 kHz, shape (samples, channels)."""
    audio = CanonicalAudio(audio_format)
    return np.concatenate((audio.push(data), audio.flush()[0]))


def at_16_khz(recording: Recording, seconds: float) -> Recording:
    """The beginning of a 16 kHz recording, of a length that fills no last frame."""
    assert recording.rate_hz == 16_000
    return Recording(recording.name, np.ascontiguousarray(recording.pcm[: round(seconds * 16_000) + 77]), 16_000)
