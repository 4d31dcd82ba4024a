"""Webex media forking over the real wire into the real broker."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest

from callscope.client.recording import Recording
from callscope.config import Settings
from callscope.simulate import webex
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS
from ingest.audio.canonical import CanonicalAudio
from ingest.audio.framing import AudioFormat
from ingest.audio.g711 import A_LAW, MU_LAW
from schemas.v1.audio_pb2 import AudioFrame
from schemas.v1.events_pb2 import CallEvent
from schemas.webex.conversationaudioforking_pb2 import (
    ALAW,
    ERROR_NONE,
    ERROR_STREAM_FAILURE,
    MULAW,
    ConversationAudioForkingRequest,
    ConversationAudioForkingResponse,
)
from schemas.webex.conversationaudioforking_pb2_grpc import ConversationAudioStub
from tests.ingest.gateways.grpc_serving import configured, connected, listening, until
from tests.ingest.reading import records_of

ORGANISATION = "11111111-1111-4111-8111-111111111111"
CAPTURED_NS = 1_790_000_000_000_000_000

pytestmark = pytest.mark.integration


def frames_of(settings: Settings, call_id: str, leg: str) -> list[AudioFrame]:
    return [
        AudioFrame.FromString(message.value())
        for message in records_of(settings, AUDIO_FRAMES, call_id)
        if message.key() == f"{call_id}/{leg}".encode()
    ]


def events_of(settings: Settings, call_id: str) -> list[CallEvent]:
    return [CallEvent.FromString(message.value()) for message in records_of(settings, CALL_EVENTS, call_id)]


def ended_of(settings: Settings, call_id: str) -> list[CallEvent]:
    return [event for event in events_of(settings, call_id) if event.kind == CallEvent.STREAM_ENDED]


def audio_of(frames: list[AudioFrame]) -> np.ndarray:
    return np.frombuffer(b"".join(frame.pcm for frame in frames), "<i2")


async def test_both_legs_arrive_bit_for_bit_with_capture_times(
    kafka: Settings, demo_call: Recording, call_id: str
) -> None:
    call = Recording("c", demo_call.pcm[: 5 * 16_000 + 100], 16_000)
    async with listening(configured(kafka)) as listener:
        response = await asyncio.to_thread(
            webex.fork, call, f"127.0.0.1:{listener.port}", call_id, ORGANISATION, speed=0
        )
    assert (response.status_message, response.error_code) == ("SUCCESS", ERROR_NONE)
    for channel, leg in enumerate(("customer", "agent")):
        frames = frames_of(kafka, call_id, leg)
        pcm = audio_of(frames)
        assert np.array_equal(pcm[: len(call.pcm)], call.pcm[:, channel])
        assert len(pcm) - len(call.pcm) == 220 and not pcm[len(call.pcm) :].any()
        for frame in frames[:-1]:
            assert abs(frame.capture_ns - frames[0].capture_ns - frame.start * 62_500) <= 1
    events = events_of(kafka, call_id)
    assert {event.source for event in events} == {"webex"}
    assert {event.metadata["customer_org_id"] for event in events} == {ORGANISATION}
    assert CallEvent.GAP not in {event.kind for event in events}


@pytest.mark.parametrize(("encoding", "table", "name"), [(MULAW, MU_LAW, "mulaw"), (ALAW, A_LAW, "alaw")])
async def test_g711_is_decoded_like_the_reference(
    kafka: Settings, call_id: str, encoding: int, table: np.ndarray, name: str
) -> None:
    codes = np.random.default_rng(3).integers(0, 256, 8_000, dtype=np.uint8)
    canonical = CanonicalAudio(AudioFormat(name, 8_000, 1))  # type: ignore[arg-type]  # one of its literals
    expected = np.concatenate([canonical.push(codes.tobytes()), canonical.flush()[0]])[:, 0]
    messages = webex.requests(table[codes][:, None], 8_000, call_id, ORGANISATION, CAPTURED_NS, 0.02)
    for at, message in enumerate(messages):
        message.audio.encoding = encoding  # type: ignore[assignment]  # a value of the enum
        message.audio.audio_data = codes[at * 160 : at * 160 + 160].tobytes()
    async with listening(configured(kafka)) as listener, connected(listener) as channel:
        call = ConversationAudioStub(channel).StreamConversationAudio(iter(messages))
        assert [response.status_message async for response in call] == ["SUCCESS"]
    frames = frames_of(kafka, call_id, "customer")
    assert np.array_equal(audio_of(frames), expected)
    assert frames[0].capture_ns == CAPTURED_NS


async def test_a_hole_is_marked_and_a_late_leg_keeps_the_calls_time(kafka: Settings, call_id: str) -> None:
    """The agent joins 2 s later; then 1 s of the caller is lost."""
    pcm = np.random.default_rng(4).integers(-9_000, 9_000, (6 * 16_000, 2)).astype(np.int16)
    messages = webex.requests(pcm, 16_000, call_id, ORGANISATION, CAPTURED_NS, 0.02)
    messages = [
        message
        for i, message in enumerate(messages)
        if not (i % 2 and i < 2 * 100) and not (i % 2 == 0 and 2 * 150 <= i < 2 * 200)
    ]
    async with listening(configured(kafka)) as listener, connected(listener) as channel:
        call = ConversationAudioStub(channel).StreamConversationAudio(iter(messages))
        assert len([response async for response in call]) == 1
    customer, agent = frames_of(kafka, call_id, "customer"), frames_of(kafka, call_id, "agent")
    assert agent[0].start == agent[0].gap_before == 2 * 16_000
    assert np.array_equal(audio_of(agent), pcm[2 * 16_000 :, 1])
    assert [(frame.start, frame.gap_before) for frame in customer if frame.gap_before] == [(4 * 16_000, 16_000)]
    assert np.array_equal(audio_of(customer), np.delete(pcm[:, 0], np.s_[3 * 16_000 : 4 * 16_000]))
    for frame in (*customer[:-1], *agent[:-1]):
        assert abs(frame.capture_ns - CAPTURED_NS - frame.start * 62_500) <= 1
    gaps = {(e.leg, e.at, e.duration) for e in events_of(kafka, call_id) if e.kind == CallEvent.GAP}
    assert gaps == {("agent", 0, 32_000), ("customer", 3 * 16_000, 16_000)}


async def test_a_conversation_goes_on_over_another_connection(kafka: Settings, call_id: str) -> None:
    """The connection breaks after 2 s; the next one repeats half a second, and has nothing missing."""
    pcm = np.random.default_rng(5).integers(-9_000, 9_000, (4 * 16_000, 2)).astype(np.int16)
    messages = webex.requests(pcm, 16_000, call_id, ORGANISATION, CAPTURED_NS, 0.02)

    async def broken() -> None:
        async with connected(listener) as channel:
            call = ConversationAudioStub(channel).StreamConversationAudio()
            for message in messages[:200]:
                await call.write(message)
            await until(lambda: frames_of(kafka, call_id, "agent"))
            await asyncio.sleep(0.2)
            call.cancel()

    async with listening(configured(kafka)) as listener:
        await broken()
        async with connected(listener) as channel:
            call = ConversationAudioStub(channel).StreamConversationAudio(iter(messages[150:]))
            assert [response.status_message async for response in call] == ["SUCCESS"]
    for number, leg in enumerate(("customer", "agent")):
        frames = frames_of(kafka, call_id, leg)
        assert np.array_equal(audio_of(frames), pcm[:, number])
        assert [frame.seq for frame in frames] == list(range(len(frames)))
    kinds = [event.kind for event in events_of(kafka, call_id)]
    assert kinds.count(CallEvent.RECONNECTED) == 2
    assert kinds.count(CallEvent.STREAM_STARTED) == kinds.count(CallEvent.STREAM_ENDED) == 2
    assert CallEvent.GAP not in kinds


async def test_a_second_connection_takes_over_from_one_that_hangs(kafka: Settings, call_id: str) -> None:
    messages = webex.requests(np.zeros((1_600, 1), np.int16), 16_000, call_id, ORGANISATION, CAPTURED_NS, 0.02)
    async with listening(configured(kafka)) as listener, connected(listener) as channel:
        hanging = ConversationAudioStub(channel).StreamConversationAudio()
        await hanging.write(messages[0])
        await asyncio.sleep(0.1)
        call = ConversationAudioStub(channel).StreamConversationAudio(iter(messages[1:]))
        assert [response.status_message async for response in call] == ["SUCCESS"]
        response = await hanging.read()
        assert isinstance(response, ConversationAudioForkingResponse)
        assert response.error_code == ERROR_STREAM_FAILURE
        assert await hanging.code() == grpc.StatusCode.ABORTED
    assert frames_of(kafka, call_id, "customer")[-1].last


async def test_a_conversation_nobody_takes_up_again_ends(kafka: Settings, call_id: str) -> None:
    settings = configured(kafka, webex={"reconnect_s": 0.2})
    messages = webex.requests(np.ones((1_600, 1), np.int16), 16_000, call_id, ORGANISATION, CAPTURED_NS, 0.02)
    async with listening(settings) as listener:
        async with connected(listener) as channel:
            call = ConversationAudioStub(channel).StreamConversationAudio()
            for message in messages:
                await call.write(message)
            await asyncio.sleep(0.2)
            call.cancel()
        await until(lambda: ended_of(kafka, call_id))
    assert ended_of(kafka, call_id)[0].reason == "connection lost"
    assert audio_of(frames_of(kafka, call_id, "customer")).sum() == 1_600


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"encoding": 7}, "encoding"),
        ({"sample_rate_hertz": 44_100}, "44100"),
        ({"role": 0}, "role"),
        ({"audio_data": b"123"}, "whole number"),
    ],
)
async def test_what_cannot_be_served_is_refused_in_words(
    kafka: Settings, call_id: str, change: dict[str, object], says: str
) -> None:
    (message,) = webex.requests(np.ones((320, 1), np.int16), 16_000, call_id, ORGANISATION, CAPTURED_NS, 0.02)
    for name, value in change.items():
        setattr(message.audio, name, value)
    async with listening(configured(kafka)) as listener, connected(listener) as channel:
        call = ConversationAudioStub(channel).StreamConversationAudio(iter([message]))
        responses = []
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            responses += [response async for response in call]
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert says in str(refused.value.details())
    assert records_of(kafka, CALL_EVENTS, call_id) == []


async def test_other_organisations_are_refused(kafka: Settings, call_id: str) -> None:
    settings = configured(kafka, webex={"organisations": [ORGANISATION]})
    request = ConversationAudioForkingRequest(conversation_id=call_id, customer_org_id="another")
    async with listening(settings) as listener, connected(listener) as channel:
        call = ConversationAudioStub(channel).StreamConversationAudio(iter([request]))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            _ = [response async for response in call]
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
