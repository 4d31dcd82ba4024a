"""AudioHook over the real wire into the real broker: both legs come out as the reference decodes them."""

from __future__ import annotations

import asyncio
import base64
import io
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from callscope.client import audiohook
from callscope.client.audiohook import Skip
from callscope.client.audiohook_messages import Session
from callscope.client.recording import Recording
from callscope.client.sending import SendRefused
from callscope.config import AudioHook, Settings
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS
from ingest.audio.resample import Resampler
from schemas.v1.audio_pb2 import AudioFrame
from schemas.v1.events_pb2 import CallEvent
from tests.integration.own_gateway import own_gateway
from tests.integration.records import Stored, read_call

pytestmark = pytest.mark.integration

KEY, SECRET = "callscope-test-key", bytes(range(32))
SECONDS = 6


@asynccontextmanager
async def gateway(kafka: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The gateway in this process, on a free port, letting in whoever signs with the key's secret."""
    hook = AudioHook.model_validate(
        {
            "keys": [{"api_key": KEY, "client_secret": base64.b64encode(SECRET).decode(), "tenant": "acme"}],
            "refusal_delay_s": 0.0,
        }
    )
    async with own_gateway(kafka, monkeypatch, "/audiohook", audiohook=hook) as address:
        yield address


def session() -> Session:
    return Session(KEY, SECRET)


def excerpt(call: Recording) -> Recording:
    return Recording("call", call.pcm[20 * call.rate_hz : (20 + SECONDS) * call.rate_hz], call.rate_hz)


def decoded(recording: Recording) -> NDArray[np.int16]:
    """8 kHz mu-law, written and read again by libsndfile; shape (samples, channels)."""
    raw = io.BytesIO()
    pcm = soxr.resample(recording.pcm, recording.rate_hz, 8_000)
    soundfile.write(raw, pcm, 8_000, format="RAW", subtype="ULAW")
    raw.seek(0)
    read, _ = soundfile.read(raw, format="RAW", subtype="ULAW", samplerate=8_000, channels=2, dtype="int16")
    return np.asarray(read, np.int16)


def resampled(pcm: NDArray[np.int16]) -> NDArray[np.int16]:
    """8 kHz to 16 kHz as the gateway does it, all at once."""
    resampler = Resampler(8_000, 1)
    return np.concatenate((resampler.push(pcm[:, None]), resampler.flush()))[:, 0]


def snr_db(expected: NDArray[np.float64], got: NDArray[np.int16]) -> float:
    return float(10 * np.log10(np.mean(expected**2) / np.mean((got - expected) ** 2)))


def frames_of(stored: list[Stored], leg: str) -> list[AudioFrame]:
    frames = [r.message for r in stored if r.message.leg == leg]
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    assert [frame.last for frame in frames] == [False] * (len(frames) - 1) + [True]
    clock = 0
    for frame in frames:
        assert frame.start == clock + frame.gap_before, "media time counts every sample, heard and missing"
        clock = frame.start + len(frame.pcm) // 2
    return frames


async def test_both_legs_come_out_as_the_reference_decodes_them(
    kafka: Settings, demo_call: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = excerpt(demo_call)
    one = session()
    async with gateway(kafka, monkeypatch) as url:
        sent = await audiohook.send(one, recording, url, speed=0)
        # "closed" promised that all of it is in Kafka: nothing is waited for.
        stored = await asyncio.to_thread(read_call, kafka, AUDIO_FRAMES, f"acme~{one.conversation}")
    assert sent.channels == ("external", "internal")
    assert sent.duration_s == SECONDS
    reference = decoded(recording)
    for i, leg in enumerate(("customer", "agent")):
        frames = frames_of(stored, leg)
        assert {frame.source for frame in frames} == {"audiohook"}
        assert not any(frame.gap_before for frame in frames)
        pcm = np.frombuffer(b"".join(frame.pcm for frame in frames), "<i2")
        whole = 2 * len(reference) - 1  # the converter's own length is exact to half a sample
        assert len(pcm) in range(whole, whole + 321)
        np.testing.assert_array_equal(pcm[:whole], resampled(reference[:, i])[:whole])
        # Another converter of soxr's agrees but for the band above 3.6 kHz, where the two end differently.
        other = soxr.resample(reference[:, i].astype(float), 8_000, 16_000)[: len(pcm)]
        assert snr_db(other, pcm[: len(other)]) > 30
    events = [r.message for r in await asyncio.to_thread(read_call, kafka, CALL_EVENTS, f"acme~{one.conversation}")]
    assert [(CallEvent.Kind.Name(e.kind), e.leg) for e in events] == [
        ("CALL_STARTED", ""),
        ("STREAM_STARTED", "customer"),
        ("STREAM_STARTED", "agent"),
        ("STREAM_ENDED", "customer"),
        ("STREAM_ENDED", "agent"),
        ("CALL_ENDED", ""),
    ]
    assert {e.reason for e in events[3:]} == {"end"}
    assert all(abs(e.at - SECONDS * 16_000) < 320 for e in events[3:])


async def test_pauses_and_discarded_audio_are_marked_and_what_surrounds_them_is_in_its_place(
    kafka: Settings, demo_call: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = excerpt(demo_call)
    one = session()
    skips = (Skip(1.0, 2.0, "paused"), Skip(4.0, 0.5, "discarded"))
    async with gateway(kafka, monkeypatch) as url:
        await audiohook.send(one, recording, url, speed=0, skips=skips)
        stored = await asyncio.to_thread(read_call, kafka, AUDIO_FRAMES, f"acme~{one.conversation}")
        events = await asyncio.to_thread(read_call, kafka, CALL_EVENTS, f"acme~{one.conversation}")
    reference = soxr.resample(decoded(recording).astype(float), 8_000, 16_000)
    for i, leg in enumerate(("customer", "agent")):
        frames = frames_of(stored, leg)
        holes = [(frame.start - frame.gap_before, frame.start) for frame in frames if frame.gap_before]
        assert holes == [(16_000, 48_000), (64_000, 72_000)]
        gaps = [e.message for e in events if e.message.kind == CallEvent.GAP and e.message.leg == leg]
        assert [(e.at, e.at + e.duration, e.reason) for e in gaps] == [
            (16_000, 48_000, "paused"),
            (64_000, 72_000, "discarded"),
        ]
        got = np.zeros(SECONDS * 16_000 + 640)
        for frame in frames:
            pcm = np.frombuffer(frame.pcm, "<i2")
            got[frame.start : frame.start + len(pcm)] = pcm
        pieces = ((0, 16_000), (48_000, 64_000), (72_000, 96_000))
        inside = np.concatenate([np.arange(begin + 800, end - 800) for begin, end in pieces])  # edges ring
        assert snr_db(reference[inside, i], got[inside].astype(np.int16)) > 30


async def test_a_probe_and_a_stranger_leave_nothing_behind(kafka: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = Session(KEY, b"not the secret of this key", str(uuid.uuid4()))
    async with gateway(kafka, monkeypatch) as url:
        assert (await audiohook.probe(KEY, SECRET, url)).channels == ("external", "internal")
        with pytest.raises(SendRefused, match="HTTP 401"):
            await audiohook.send(stranger, Recording("r", np.zeros((800, 2), np.int16), 8_000), url, speed=0)
        for call_id in ("acme~00000000-0000-0000-0000-000000000000", f"acme~{stranger.conversation}"):
            assert await asyncio.to_thread(read_call, kafka, CALL_EVENTS, call_id) == []
            assert await asyncio.to_thread(read_call, kafka, AUDIO_FRAMES, call_id) == []
