from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callscope.topics import AUDIO_FRAMES, TOPICS, VOICE_ACTIVITY, VOICE_FEATURES
from processors import wire
from processors.records import Consent, Envelope
from processors.wire import Undecodable, decode_consent
from schemas.v1 import activity_pb2, audio_pb2, features_pb2
from schemas.v1.events_pb2 import CallEvent
from tests.processors.records import envelopes


def same(one: Any, other: Any) -> bool:
    """Equality down to the bits of arrays and to their types."""
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())
    if hasattr(one, "__dataclass_fields__"):
        return type(one) is type(other) and all(
            same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)
        )
    return bool(one == other)


@given(envelopes)
def test_what_is_encoded_decodes_to_the_same_bits(envelope: Envelope) -> None:
    topic = wire.topic_of(envelope.record)
    assert same(wire.decode(topic.name, wire.encode(envelope)), envelope)


@given(envelopes)
def test_a_record_has_one_encoding(envelope: Envelope) -> None:
    value = wire.encode(envelope)
    assert wire.encode(wire.decode(wire.topic_of(envelope.record).name, value)) == value


@given(st.sampled_from([topic.name for topic in TOPICS if topic.name != "call.events"]), st.binary(max_size=200))
def test_garbage_is_undecodable_or_a_record_and_nothing_else(topic: str, value: bytes) -> None:
    try:
        envelope = wire.decode(topic, value)
    except wire.Undecodable:
        return
    assert wire.topic_of(envelope.record).name == topic


@pytest.mark.parametrize(
    ("topic", "message", "reason"),
    [
        (AUDIO_FRAMES, audio_pb2.AudioFrame(leg="a"), "without a proper call id"),
        (AUDIO_FRAMES, audio_pb2.AudioFrame(call_id="c", leg="a", pcm=b"\0\0\0"), "3 bytes of 16-bit audio"),
        (
            VOICE_FEATURES,
            features_pb2.FeatureWindow(call_id="c", leg="a", kind=features_pb2.FeatureWindow.WINDOW, lld=[0.0] * 24),
            "24 descriptors",
        ),
        (VOICE_ACTIVITY, activity_pb2.VoiceActivity(call_id="c", leg="a"), "0 is not a valid ActivityKind"),
    ],
)
def test_what_is_wrong_with_a_record_is_said(topic: Any, message: Any, reason: str) -> None:
    with pytest.raises(wire.Undecodable, match=reason):
        wire.decode(topic.name, message.SerializeToString())


def test_a_consent_is_read_from_the_call_events() -> None:
    event = CallEvent(kind=CallEvent.CONSENT, call_id="c", leg="customer", at=320, allowed=True, purposes=["health"])
    assert decode_consent(event.SerializeToString(), 7) == Consent(
        "c", "customer", 320, allowed=True, purposes=("health",), written_ms=7
    )
    assert decode_consent(CallEvent(kind=CallEvent.GAP, call_id="c").SerializeToString(), 7) is None
    with pytest.raises(Undecodable):
        decode_consent(b"\xff", 7)
