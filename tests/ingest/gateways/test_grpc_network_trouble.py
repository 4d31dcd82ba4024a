"""The gRPC doors over a bad network: late and stalled packets, connections that are reset, or only seem to live."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from callscope.config import Settings
from callscope.simulate.webex import requests
from schemas.v1.analysis_pb2 import AnalysisResult, AudioChunk, StreamStart
from schemas.v1.analysis_pb2_grpc import VoiceAnalysisStub
from schemas.v1.events_pb2 import CallEvent
from schemas.webex.conversationaudioforking_pb2 import ConversationAudioForkingRequest
from schemas.webex.conversationaudioforking_pb2_grpc import ConversationAudioStub
from tests.ingest.gateways.grpc_serving import configured, listening, until
from tests.ingest.recording import RecordingPublisher
from tests.tcp_trouble import trouble

pytestmark = pytest.mark.integration

RATE = 16_000
SOUND = np.random.default_rng(8).integers(-9_000, 9_000, (14 * RATE, 2)).astype(np.int16)
PIECES = requests(SOUND, RATE, "c", "org", 1_790_000_000_000_000_000, 0.02)

OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
"""gRPC shares one connection among the channels of a process otherwise."""


async def fork(port: int, pieces: list[ConversationAudioForkingRequest]) -> list[str]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OWN_CONNECTION) as channel:
        call = ConversationAudioStub(channel).StreamConversationAudio(iter(pieces))
        return [response.status_message async for response in call]


async def test_late_and_stalled_packets_change_nothing(kafka: Settings) -> None:
    publisher = RecordingPublisher()
    sound = SOUND[: 2 * RATE, 0]
    async with listening(configured(kafka), publisher) as listener, trouble(listener.port) as proxy:
        proxy.delay_s, proxy.jitter_s, proxy.stall_share, proxy.stall_s = 0.03, 0.03, 0.05, 0.2
        async with grpc.aio.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
            call = VoiceAnalysisStub(channel).StreamAnalysis()
            start = StreamStart(call_id="c", legs=["customer"], encoding=StreamStart.S16LE, rate_hz=RATE)
            await call.write(AudioChunk(start=start))
            for at in range(0, len(sound), 320):
                await call.write(AudioChunk(audio=sound[at : at + 320].tobytes()))
            published = 0
            while published < len(sound):
                result = await call.read()
                assert isinstance(result, AnalysisResult)
                published = max([published, *(leg.at for leg in result.published.legs)])
            call.cancel()
    assert np.array_equal(publisher.pcm("c/customer"), sound)


@pytest.mark.parametrize("how", ["reset", "half-open"])
async def test_webex_comes_back_after_ten_seconds(kafka: Settings, how: str) -> None:
    """2 s come, 10 s are lost, the rest comes over another connection, which repeats the last half second first."""
    publisher = RecordingPublisher()
    before, repeated, after = PIECES[: 2 * 100], PIECES[2 * 75 : 2 * 100], PIECES[2 * 600 :]
    async with listening(configured(kafka), publisher) as listener, trouble(listener.port) as proxy:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
            call = ConversationAudioStub(channel).StreamConversationAudio()
            for piece in before:
                await call.write(piece)
            await until(lambda: publisher.pcm("c/agent").size == 2 * RATE)
            if how == "reset":
                proxy.cut()
            else:
                proxy.black_out()
            assert await fork(proxy.port, [*repeated, *after]) == ["SUCCESS"]
            call.cancel()
    for number, leg in enumerate(("customer", "agent")):
        records = [published.record for published in publisher.of(f"c/{leg}")]
        heard = np.concatenate((SOUND[: 2 * RATE, number], SOUND[12 * RATE :, number]))
        assert np.array_equal(publisher.pcm(f"c/{leg}"), heard)
        assert [(record.start, record.gap_before) for record in records if record.gap_before] == [
            (12 * RATE, 10 * RATE)
        ]
        assert [record.seq for record in records] == list(range(len(records)))
    kinds = [happening.kind for happening in publisher.happenings()]
    assert kinds.count(CallEvent.RECONNECTED) == kinds.count(CallEvent.GAP) == 2
    assert kinds.count(CallEvent.STREAM_STARTED) == kinds.count(CallEvent.STREAM_ENDED) == 2
