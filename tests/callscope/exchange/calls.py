"""Calls as records on the topics: made without a gateway, by the very schemas and stages."""

from __future__ import annotations

import numpy as np

from callscope.config import Settings, load
from callscope.exchange.retained import Retained, Stored
from callscope.kafka import ensure_topics, producer
from callscope.streams import StreamId
from callscope.topics import AUDIO_FRAMES, CALL_EVENTS, TOPICS, Topic, partition_of
from processors import wire
from processors.app import build_pipeline
from processors.records import AudioFrame, Envelope, Pcm
from schemas.v1.audio_pb2 import AudioFrame as AudioMessage
from schemas.v1.events_pb2 import CallEvent
from tests.signals import demo_leg

LEGS = ("customer", "agent")
LOST = range(100, 110)
"""Frames of the customer's leg that never came."""


def audio(call_id: str, seconds: float) -> list[AudioFrame]:
    """Both legs of the demo call, in records of 100 ms; 200 ms of the customer's are a hole."""
    records = []
    for leg, name in enumerate(LEGS):
        pcm: Pcm = demo_leg(leg)[: int(seconds * 16_000)]
        stream, seq, gap = StreamId(call_id, name), 0, 0
        for frame in range(0, len(pcm) // 320, 5):
            if leg == 0 and frame in LOST:
                gap += 1_600
                continue
            at = frame * 320
            records.append(AudioFrame(stream, seq, at, pcm[at : at + 1_600], gap))
            seq, gap = seq + 1, 0
        records.append(AudioFrame(stream, seq, len(pcm), np.zeros(0, np.int16), last=True))
    return records


def publish(settings: Settings, call_id: str, seconds: float = 6.0, *, poison: bool = False) -> None:
    """Put a finished call on the topics, with its results."""
    ensure_topics(settings)
    client = producer(settings)

    def send(topic: Topic, key: str, value: bytes) -> None:
        client.produce(
            topic.name,
            key=key,
            value=value,
            partition=partition_of(call_id, settings.topics.partitions),
            headers=[("schema", topic.value)],
        )

    def event(kind: CallEvent.Kind.ValueType, leg: str = "", at: int = 0, **more: object) -> None:
        record = CallEvent(call_id=call_id, leg=leg, kind=kind, at=at, time_ns=1_790_000_000_000_000_000 + at)
        if kind == CallEvent.CONSENT:
            record.allowed, record.purposes[:] = False, ["health"]
        record.metadata.update({"queue": "billing"} if kind == CallEvent.CALL_STARTED else {})
        send(CALL_EVENTS, call_id, record.SerializeToString())

    event(CallEvent.CALL_STARTED)
    for leg in LEGS:
        event(CallEvent.STREAM_STARTED, leg)
    event(CallEvent.CONSENT, "customer", 32_000)
    frames = audio(call_id, seconds)
    for frame in frames:
        message = AudioMessage.FromString(wire.encode(Envelope(frame)))
        message.source = "test"  # what the analysis does not read must come back too
        send(AUDIO_FRAMES, str(frame.stream), message.SerializeToString())
    if poison:
        send(AUDIO_FRAMES, f"{call_id}/agent", b"\xff\xff\xff no record")
    for result in build_pipeline(load())([Envelope(frame) for frame in frames]):
        send(wire.topic_of(result.record), str(result.record.stream), wire.encode(result))
    for leg in LEGS:
        event(CallEvent.STREAM_ENDED, leg, int(seconds * 16_000))
    event(CallEvent.CALL_ENDED, "", int(seconds * 16_000))
    assert client.flush(30) == 0


def on_topics(settings: Settings, call_id: str) -> dict[str, list[Stored]]:
    """Every record that the topics hold of a call."""
    with Retained(settings, TOPICS) as retained:
        partition = partition_of(call_id, settings.topics.partitions)
        return {
            topic.name: [
                stored
                for stored in retained.records(topic, partition)
                if stored.key.decode().partition("/")[0] == call_id
            ]
            for topic in TOPICS
        }
