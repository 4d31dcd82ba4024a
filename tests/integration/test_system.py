"""The whole system on a real Kafka: a call goes in at the gateway, results come out at the sink."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect

from callscope.client import results
from callscope.client.recording import Recording
from callscope.client.sending import send
from callscope.config import Settings
from callscope.supervisor import System
from callscope.topics import (
    CALL_EVENTS,
    TOPICS,
    VOICE_ACTIVITY,
    VOICE_FEATURES,
    VOICE_INSIGHTS,
    VOICE_SPEECH,
    partition_of,
)
from processors.stages.engine import HOP_SAMPLES
from schemas.v1.audio_pb2 import SpeechFrame
from schemas.v1.events_pb2 import CallEvent
from schemas.v1.features_pb2 import FeatureWindow
from tests.integration.records import Stored, read_call, read_when
from tests.processors import reference
from tests.processors.reference import Window

pytestmark = pytest.mark.integration

LEGS = ("customer", "agent")
SECONDS = 24.0


async def send_call(system: System, call: Recording, call_id: str, seconds: float = SECONDS) -> None:
    await send(call, system.addresses.gateway, call_id, LEGS, speed=0, limit_s=seconds)


def streams_ended(stored: list[Stored]) -> bool:
    return [r.message.kind for r in stored].count(FeatureWindow.STREAM_END) == len(LEGS)


def speech_ended(stored: list[Stored]) -> bool:
    return [r.message.stream_ended for r in stored].count(True) == len(LEGS)


async def test_both_legs_appear_and_take_turns(fused: System, demo_call: Recording, call_id: str) -> None:
    turns: list[tuple[float, str]] = []
    kinds: set[tuple[str, str]] = set()
    async with results.subscription(fused.addresses.results, calls=[call_id]) as messages:
        assert (await anext(messages))["type"] == "subscribed"
        sending = asyncio.create_task(send_call(fused, demo_call, call_id))
        async with asyncio.timeout(60):
            async for message in messages:
                kinds.add((message["type"], message["kind"]))
                assert message["call_id"] == call_id
                assert 0 <= message["start"] <= message["start"] + message["duration"] <= SECONDS + 0.02
                if message["type"] != "call":
                    ledger = message["ledger"]
                    assert 0 < ledger["arrived_ns"] <= ledger["published_ns"] <= ledger["detected_ns"]
                    assert ledger["detected_ns"] <= ledger["pushed_ns"]
                if message["kind"] == "speech_end":
                    turns.append((message["start"], message["leg"]))
                if len(turns) >= 10 and ("insight", "arousal") in kinds:
                    break
        await sending
    assert {leg for _, leg in turns} == set(LEGS)
    order = [leg for leg, _ in itertools.groupby(leg for _, leg in sorted(turns))]
    assert len(order) >= 4, f"the speakers of this dialogue alternate, not {order}"
    assert {
        ("activity", "level"),
        ("activity", "speech_start"),
        ("features", "window"),
        ("features", "utterance"),
    } <= kinds


async def test_features_equal_batch_opensmile(
    fused: System, kafka: Settings, demo_call: Recording, call_id: str
) -> None:
    """Descriptors and utterance functionals bit for bit; functionals of windows, which are our own, to 1e-4."""
    await send_call(fused, demo_call, call_id)
    features = await read_when(kafka, VOICE_FEATURES, call_id, streams_ended)
    speech = await read_when(kafka, VOICE_SPEECH, call_id, speech_ended)

    audio: dict[tuple[str, int], list[bytes]] = defaultdict(list)
    for record in speech:
        if not record.message.stream_ended:
            audio[record.message.leg, record.message.segment].append(record.message.pcm)
    rows: dict[tuple[str, int], list[Any]] = defaultdict(list)
    utterances: dict[tuple[str, int], Any] = {}
    windows: dict[tuple[str, int], dict[Window, Any]] = defaultdict(dict)
    for record in features:
        message, segment = record.message, (record.message.leg, record.message.segment)
        if message.kind == FeatureWindow.STREAM_END:
            continue
        assert message.lld_first == sum(map(len, rows[segment])), "each row comes once, in order"
        rows[segment].append(np.array(message.lld, np.float32).reshape(-1, 25))
        functionals = np.array(message.functionals, np.float32)
        if message.kind == FeatureWindow.UTTERANCE:
            utterances[segment] = functionals
        else:
            first = (message.start - message.segment) // HOP_SAMPLES
            windows[segment][first, first + message.duration // HOP_SAMPLES] = functionals

    assert set(rows) == set(audio) == set(utterances)
    assert len(audio) >= 5 and len(windows) >= 4
    for segment, chunks in audio.items():
        pcm = np.frombuffer(b"".join(chunks), "<i2")
        llds, functionals = reference.batch(pcm)
        assert np.array_equal(np.concatenate(rows[segment]), llds), segment
        assert np.array_equal(utterances[segment], functionals), segment
        if spans := list(windows[segment]):
            ours = np.stack(list(windows[segment].values()))
            reference.assert_same_functionals(ours, reference.functionals_of(pcm, spans), spans)


async def test_keys_headers_and_partitions_are_as_designed(
    fused: System, kafka: Settings, demo_call: Recording, call_id: str
) -> None:
    await send_call(fused, demo_call, call_id)
    await read_when(kafka, VOICE_FEATURES, call_id, streams_ended)
    for topic in TOPICS:
        for record in await read_when(kafka, topic, call_id, lambda found: len(found) > 3):
            key = f"{call_id}/{record.message.leg}" if topic.key == "stream" else call_id
            assert record.raw.key() == key.encode()
            assert record.raw.partition() == partition_of(call_id, kafka.topics.partitions)
            assert record.raw.headers() == [("schema", topic.value.encode())]


async def test_a_calls_events_frame_it(fused: System, kafka: Settings, demo_call: Recording, call_id: str) -> None:
    await send_call(fused, demo_call, call_id)
    stored = await read_when(kafka, CALL_EVENTS, call_id, lambda found: len(found) >= 6)
    kinds = [record.message.kind for record in stored]
    assert kinds == [
        CallEvent.CALL_STARTED,
        CallEvent.STREAM_STARTED,
        CallEvent.STREAM_STARTED,
        CallEvent.STREAM_ENDED,
        CallEvent.STREAM_ENDED,
        CallEvent.CALL_ENDED,
    ]
    ends = [record.message.at / 16_000 for record in stored if record.message.kind == CallEvent.STREAM_ENDED]
    assert ends == pytest.approx([SECONDS, SECONDS], abs=0.02)


async def test_how_fast_the_audio_came_changes_nothing(
    fused: System, kafka: Settings, demo_call: Recording, call_id: str
) -> None:
    fast, real = f"{call_id}-fast", f"{call_id}-real"
    await asyncio.gather(
        send(demo_call, fused.addresses.gateway, fast, LEGS, speed=0, limit_s=8.0),
        send(demo_call, fused.addresses.gateway, real, LEGS, speed=1.0, limit_s=8.0),
    )
    assert await results_of(kafka, fast) == await results_of(kafka, real)


async def test_both_wirings_give_the_same_records(
    fused: System, chained: System, kafka: Settings, demo_call: Recording, call_id: str
) -> None:
    await asyncio.gather(send_call(fused, demo_call, call_id), send_call(chained, demo_call, call_id))
    other = kafka.model_copy(update={"kafka": chained.addresses.kafka})
    assert await results_of(kafka, call_id) == await results_of(other, call_id)


async def test_a_refusal_holds_from_its_media_time_on(
    fused: System, kafka: Settings, demo_call: Recording, call_id: str
) -> None:
    """At full speed, so that the windows after the refusal follow close on it."""
    pcm = demo_call.pcm[: round(16 * demo_call.rate_hz)]
    hello = {"type": "hello", "call_id": call_id, "legs": LEGS, "encoding": "s16le", "channels": 2}
    refused_s = 8.0
    async with connect(fused.addresses.gateway, compression=None, ping_timeout=None) as gateway:
        await gateway.send(json.dumps({**hello, "rate_hz": demo_call.rate_hz}))
        for at in range(0, len(pcm), 800):
            if at / demo_call.rate_hz == refused_s:
                await gateway.send(json.dumps({"type": "consent", "leg": "customer", "analyse": False}))
            await gateway.send(pcm[at : at + 800].tobytes())
        await gateway.send(json.dumps({"type": "end"}))
        told = [json.loads(text) async for text in gateway]
    (answer,) = [message for message in told if message["type"] == "consented"]
    since = answer["streams"][f"{call_id}/customer"]["since_s"]
    assert refused_s - 0.1 <= since <= refused_s  # resampling holds some audio back
    windows = [r.message for r in await read_when(kafka, VOICE_FEATURES, call_id, streams_ended)]
    customer = [w for w in windows if w.leg == "customer" and w.kind != FeatureWindow.STREAM_END]
    allowed = {(w.start, w.duration) for w in customer if w.start + w.duration <= since * 16_000}
    assert 0 < len(allowed) < len(customer)
    await asyncio.sleep(1.0)
    stored = await asyncio.to_thread(read_call, kafka, VOICE_INSIGHTS, call_id)
    judged = [r.message for r in stored if not r.message.stream_ended]
    assert {(judgement.start, judgement.duration) for judgement in judged} == allowed


def joined(speech: list[SpeechFrame]) -> Iterator[SpeechFrame]:
    """One record for each piece of a leg's segments that was heard, or lost, in one go; each must follow the last."""
    piece: SpeechFrame | None = None
    for record in speech:
        if piece is not None and (record.segment, record.lost) == (piece.segment, piece.lost) and not piece.last:
            assert record.start == piece.start + len(piece.pcm) // 2
            piece.pcm += record.pcm
            piece.last = record.last
            continue
        if piece is not None:
            yield piece
        piece = record
    if piece is not None:
        yield piece


async def results_of(kafka: Settings, call_id: str) -> dict[tuple[str, str], list[bytes]]:
    """All results of a finished call by topic and leg, in order, without call id and ledger.

    Of speech what belongs together: how much of it a record holds depends on how much audio came at once.
    """
    windows = await read_when(kafka, VOICE_FEATURES, call_id, streams_ended)
    judged = sum(r.message.leg == "customer" and r.message.kind != FeatureWindow.STREAM_END for r in windows)
    judged *= len(kafka.processors.infer.enabled)
    await read_when(kafka, VOICE_INSIGHTS, call_id, lambda found: len(found) >= judged + len(LEGS))  # and their ends
    await read_when(kafka, VOICE_SPEECH, call_id, speech_ended)
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for topic in (VOICE_ACTIVITY, VOICE_SPEECH, VOICE_FEATURES, VOICE_INSIGHTS):
        for record in await asyncio.to_thread(read_call, kafka, topic, call_id):
            message = record.message
            message.ClearField("ledger")
            message.call_id = "call"
            found[topic.name, message.leg].append(message)
    return {
        (topic, leg): [
            message.SerializeToString(deterministic=True)
            for message in (joined(messages) if topic == VOICE_SPEECH.name else messages)
        ]
        for (topic, leg), messages in found.items()
    }
