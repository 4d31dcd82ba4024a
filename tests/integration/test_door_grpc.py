"""VoiceAnalysis over the real wire: audio into the real broker, and its results back on the same call."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from google.protobuf.json_format import MessageToJson

from callscope.client.recording import Recording
from callscope.config import Settings
from callscope.simulate.grpc import stream
from callscope.supervisor import System
from callscope.topics import AUDIO_FRAMES, VOICE_ACTIVITY, VOICE_FEATURES, VOICE_INSIGHTS
from ingest.protocols.grpc_stream import SOURCE
from schemas.v1.activity_pb2 import VoiceActivity
from schemas.v1.analysis_pb2 import AnalysisResult, StreamStart
from schemas.v1.audio_pb2 import AudioFrame
from schemas.v1.features_pb2 import FeatureWindow
from schemas.v1.insight_pb2 import Insight
from tests.ingest.gateways.grpc_serving import configured, listening
from tests.ingest.reading import records_of

SECONDS = 12

pytestmark = pytest.mark.integration


def excerpt(call: Recording, seconds: int = SECONDS) -> Recording:
    return Recording(call.name, call.pcm[: seconds * call.rate_hz], call.rate_hz)


async def test_audio_in_results_back_on_the_same_call(
    kafka: Settings, fused: System, demo_call: Recording, call_id: str
) -> None:
    call = excerpt(demo_call)
    assert call.rate_hz == 16_000
    start = StreamStart(call_id=call_id, legs=["customer", "agent"], functionals=True, lld=True)
    async with listening(configured(kafka, results_timeout_s=30)) as listener:
        results = await asyncio.to_thread(stream, call, f"127.0.0.1:{listener.port}", start, speed=0)

    assert [result.seq for result in results] == list(range(1, len(results) + 1))
    assert results[0].ready.streams == [f"{call_id}/customer", f"{call_id}/agent"]
    assert results[-1].WhichOneof("result") == "ended"
    assert [(leg.leg, leg.published, leg.padded) for leg in results[-1].ended.legs] == [
        ("customer", SECONDS * 16_000, 0),
        ("agent", SECONDS * 16_000, 0),
    ]

    for channel, leg in enumerate(("customer", "agent")):
        frames = [
            AudioFrame.FromString(message.value())
            for message in records_of(kafka, AUDIO_FRAMES, call_id)
            if message.key() == f"{call_id}/{leg}".encode()
        ]
        assert np.array_equal(np.frombuffer(b"".join(f.pcm for f in frames), "<i2"), call.pcm[:, channel])
        assert [f.start for f in frames] == list(np.cumsum([0, *(len(f.pcm) // 2 for f in frames[:-1])]))
        assert {f.source for f in frames} == {SOURCE}
        first = frames[0]
        for frame in frames[:-1]:
            assert abs(frame.capture_ns - first.capture_ns - frame.start * 62_500) <= 1

    def sent(kind: str) -> list[str]:
        return [MessageToJson(getattr(result, kind)) for result in results if result.WhichOneof("result") == kind]

    activity = [VoiceActivity.FromString(m.value()) for m in records_of(kafka, VOICE_ACTIVITY, call_id)]
    features = [FeatureWindow.FromString(m.value()) for m in records_of(kafka, VOICE_FEATURES, call_id)]
    insights = [Insight.FromString(m.value()) for m in records_of(kafka, VOICE_INSIGHTS, call_id)]
    assert sorted(sent("activity")) == sorted(map(MessageToJson, activity))
    assert sorted(sent("features")) == sorted(
        MessageToJson(window) for window in features if window.kind != FeatureWindow.STREAM_END
    )
    judgements = [insight for insight in insights if not insight.stream_ended]
    assert sorted(sent("insight")) == sorted(map(MessageToJson, judgements))
    assert len(insights) == len(judgements) + 2
    assert any(result.features.functionals and result.features.lld for result in results)
    assert {result.call.reason for result in results if result.call.reason} == {"end"}


async def test_only_what_was_asked_for(kafka: Settings, fused: System, demo_call: Recording, call_id: str) -> None:
    start = StreamStart(call_id=call_id, legs=["customer", "agent"], results=[StreamStart.FEATURES])
    seen: list[AnalysisResult] = []
    async with listening(configured(kafka, results_timeout_s=30)) as listener:
        target = f"127.0.0.1:{listener.port}"
        await asyncio.to_thread(stream, excerpt(demo_call, 5), target, start, speed=0, on_result=seen.append)
    kinds = {result.WhichOneof("result") for result in seen}
    assert kinds - {"published"} == {"ready", "features", "ended"}
    assert not any(result.features.lld or result.features.functionals for result in seen)
