"""Asterisk's WebSocket channel over the wire into a real Kafka."""

import numpy as np
import pytest

from callscope.client.pacing import at_rate
from callscope.client.recording import Recording
from callscope.config import Settings
from callscope.simulate.chan_websocket import encoded, send_call
from ingest.protocols.chan_websocket import FORMATS
from schemas.v1.events_pb2 import CallEvent
from tests.integration.open_ports import at_16_khz, canonical, happened, open_ports, published

pytestmark = pytest.mark.integration

LEGS = ("customer", "agent")
TOKEN = "a token of some length"
PBX = {"name": "pbx", "token": TOKEN, "tenant": "acme", "scopes": ["publish"]}


@pytest.mark.parametrize(
    ("codec", "as_json"), [("slin16", True), ("slin16", False), ("slin", True), ("ulaw", True), ("alaw", False)]
)
async def test_a_stereo_call(kafka: Settings, demo_call: Recording, call_id: str, codec: str, as_json: bool) -> None:
    audio = at_16_khz(demo_call, 3)
    async with open_ports(kafka) as ports:
        url = f"ws://127.0.0.1:{ports.websocket_port}/asterisk"
        await send_call(audio, url, call_id, LEGS, codec=codec, speed=0, as_json=as_json, press=True)
    sent = at_rate(audio, FORMATS[codec].rate_hz)
    for channel, leg in enumerate(LEGS):
        data = encoded(codec, sent.pcm[:, channel])
        pcm = published(kafka, call_id, leg)
        assert np.array_equal(pcm, canonical(data, FORMATS[codec])[:, 0])
        if codec == "slin16":
            assert np.array_equal(pcm[: len(audio.pcm)], audio.pcm[:, channel])
        assert len(pcm) == -(-round(len(sent.pcm) * 16_000 / sent.rate_hz) // 320) * 320
    events = happened(kafka, call_id)
    assert [event.kind for event in events].count(CallEvent.DTMF) == 2
    assert {event.source for event in events} == {"chan_websocket"}
    assert {event.reason for event in events if event.kind == CallEvent.STREAM_ENDED} == {"end"}


async def test_a_tenants_token_as_a_password(kafka: Settings, demo_call: Recording, call_id: str) -> None:
    audio = at_16_khz(demo_call, 1)
    async with open_ports(kafka, tokens=(PBX,)) as ports:
        url = f"ws://127.0.0.1:{ports.websocket_port}/asterisk"
        await send_call(audio, url, call_id, LEGS, codec="slin16", token=TOKEN, speed=0)
    assert np.array_equal(published(kafka, f"acme~{call_id}", "agent")[: len(audio.pcm)], audio.pcm[:, 1])
