"""The doors of browsers over the real wire into the real broker: aiortc as the peer, MediaRecorder's chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from callscope.access import Access
from callscope.client.recording import Recording, resampled
from callscope.config import Settings
from callscope.kafka import ensure_topics
from callscope.simulate import webm, webrtc
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS
from ingest.gateways import webrtc as listener
from ingest.gateways import websocket
from ingest.gateways.gate import Gate
from ingest.gateways.routes import ROUTES
from ingest.intake import Intake
from ingest.publisher import KafkaPublisher
from schemas.v1.audio_pb2 import AudioFrame
from schemas.v1.events_pb2 import CallEvent
from tests.ingest.opus import decoded, snr_db
from tests.ingest.reading import records_of

pytestmark = pytest.mark.integration

SECONDS = 4.0
LEGS = ("customer", "agent")


@asynccontextmanager
async def gateway(kafka: Settings) -> AsyncIterator[tuple[str, str]]:
    """A gateway in this process: its WebSocket address, and that for offers."""
    own = {"port": 0, "webrtc": kafka.ingest.webrtc.model_copy(update={"port": 0})}
    settings = kafka.model_copy(update={"ingest": kafka.ingest.model_copy(update=own)})
    ensure_topics(settings)
    publisher = KafkaPublisher(settings)
    deliveries = asyncio.create_task(publisher.run())
    gate = Gate(settings, Intake(publisher, 10, 10.0), Access(settings.access))
    sockets = await websocket.listen(gate, ROUTES)
    offers = await listener.listen(gate)
    assert offers is not None
    try:
        yield sockets.address, offers.address
    finally:
        await asyncio.gather(sockets.close(), offers.close())
        deliveries.cancel()
        await asyncio.gather(deliveries, return_exceptions=True)
        assert await publisher.close() == 0


def start_of(call: Recording) -> Recording:
    return Recording("start", call.pcm[: round(SECONDS * call.rate_hz)], call.rate_hz)


async def frames_of(kafka: Settings, call_id: str) -> dict[str, list[AudioFrame]]:
    messages = await asyncio.to_thread(records_of, kafka, AUDIO_FRAMES, call_id)
    records = [AudioFrame.FromString(message.value()) for message in messages]
    return {leg: [record for record in records if record.leg == leg] for leg in LEGS}


async def events_of(kafka: Settings, call_id: str) -> list[CallEvent]:
    return [CallEvent.FromString(m.value()) for m in await asyncio.to_thread(records_of, kafka, CALL_EVENTS, call_id)]


def timeline(frames: list[AudioFrame]) -> NDArray[np.int16]:
    """A leg's sound at its media times, silence where there was none."""
    last = frames[-1]
    sound = np.zeros(last.start + len(last.pcm) // 2, np.int16)
    position = 0
    for number, frame in enumerate(frames):
        assert frame.seq == number and frame.start == position + frame.gap_before
        position = frame.start + len(frame.pcm) // 2
        sound[frame.start : position] = np.frombuffer(frame.pcm, "<i2")
    return sound


def lag_of(reference: NDArray[np.int16], heard: NDArray[np.int16]) -> int:
    """By how many samples `heard` is late."""
    size = min(len(reference), len(heard))
    spectrum = np.fft.rfft(heard[:size], 2 * size) * np.conj(np.fft.rfft(reference[:size], 2 * size))
    return int(np.argmax(np.fft.irfft(spectrum)[:2_000]))


async def test_a_webrtc_peer_with_two_tracks_on_a_network_that_loses_packets(
    kafka: Settings, demo_call: Recording, call_id: str
) -> None:
    """Packets 100 to 109 of the agent's 200 never come."""
    call = start_of(demo_call)
    async with gateway(kafka) as (_, offers):
        await webrtc.send(call, offers, call_id, LEGS, is_lost=lambda leg, number: leg == 1 and 100 <= number < 110)
    frames, events = await frames_of(kafka, call_id), await events_of(kafka, call_id)
    assert [(e.leg, e.at, e.duration, e.reason) for e in events if e.kind == CallEvent.GAP] == [
        ("agent", 100 * 320, 10 * 320, "lost")
    ]
    assert sum(frame.gap_before for frame in frames["customer"]) == 0
    assert 9 * 320 <= sum(frame.gap_before for frame in frames["agent"]) <= 10 * 320
    assert events[-1].kind == CallEvent.CALL_ENDED and events[-1].reason == "end"
    for channel, leg in enumerate(LEGS):
        reference = call.pcm[:, channel]
        heard = timeline(frames[leg])
        assert abs(len(heard) - len(reference)) <= 640
        assert abs(lag_of(reference, heard) - 104) <= 8  # Opus' look-ahead, 6.5 ms


@pytest.mark.parametrize("container", ["webm", "ogg"])
async def test_chunks_of_a_media_recorder(
    kafka: Settings, demo_call: Recording, call_id: str, container: Literal["webm", "ogg"]
) -> None:
    call = start_of(demo_call)
    async with gateway(kafka) as (url, _):
        await webm.send(call, url, call_id, LEGS, container=container, speed=4.0)
    frames, events = await frames_of(kafka, call_id), await events_of(kafka, call_id)
    assert [e for e in events if e.kind == CallEvent.GAP] == []
    assert {e.encoding for e in events if e.kind == CallEvent.STREAM_STARTED} == {"opus"}
    samples = resampled(call, 48_000)
    for channel, leg in enumerate(LEGS):
        pcm = np.ascontiguousarray(samples[:, channel])
        recording = b"".join(chunk for _, chunk in webm.chunks(pcm, container))
        reference = soxr.resample(decoded(recording).astype(np.float32), 48_000, 16_000)
        heard = timeline(frames[leg])
        size = min(len(reference), len(heard)) - 320
        snr = snr_db(np.rint(reference[:size]).astype(np.int16), heard[:size])
        print(f"{container} {leg}: SNR {snr:.1f} dB to FFmpeg's decode")
        assert snr > 60
        assert abs(lag_of(call.pcm[:, channel], heard)) <= 8  # the header says what to cut
